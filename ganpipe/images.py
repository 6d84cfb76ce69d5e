"""Pictures as arrays: decoding what people have, grids, origin text. Knows no torch: decoders start in a moment."""

from __future__ import annotations

import json
import math
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import (
    ExifTags,
    Image,
    ImageCms,
    ImageDraw,
    PngImagePlugin,
    UnidentifiedImageError,
    features,
)

from ganpipe.errors import GanpipeError
from ganpipe.files import replacing

HAS_AVIF = "avif" in features.modules and bool(features.check("avif"))  # Pillow's wheels from 11.3 on
try:  # pip install 'ganpipe[heif]'
    import pillow_heif
except ImportError:
    HAS_HEIF = False
else:
    pillow_heif.register_heif_opener(thumbnails=False)
    HAS_HEIF = True
FORMATS = (
    "JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", *(("AVIF",) if HAS_AVIF else ()), *(("HEIF",) if HAS_HEIF else ())
)  # fmt: skip
MAX_PIXELS = 64_000_000  # decoded, 24-bit: 192 MB; photographs reach about 50 megapixels
MAX_BYTES = 256 * 2**20
ORIGIN_KEY = "ganpipe"  # a PNG's iTXt chunk
BITS_PER_SAMPLE, PHOTOMETRIC, TILE_WIDTH, TILE_LENGTH, SAMPLE_FORMAT = 258, 262, 322, 323, 339  # TIFF tags
UNSIGNED = 1  # a TIFF's sample format
LOW_BITS = {"1": 255, "L;1": 255, "L;2": 85, "L;4": 17}  # what Pillow multiplies samples of few bits by
END_OF_JPEG, START_OF_SCAN, MAX_SCANS = b"\xff\xd9", b"\xff\xda", 500
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
SRGB_GAMMA = 0.45455
DESCRIPTION_PREFIX = "ganpipe:"  # before the origin in the other formats' tag ImageDescription

Shrink = Callable[[int, int], int]  # (width, height) → 1, 2, 4 or 8
SHRINKS = (8, 4, 2)
# Memory that is used again is not zeroed by the system again: 1 ms a photograph.
Image.core.set_blocks_max(16)
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by channels
TURNS = {  # what makes a picture upright, by its EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ImageShape:
    """Channels (1 grey, 3 colour, 4 colour and alpha), height and width in pixels."""

    channels: int
    height_px: int
    width_px: int

    @property
    def numel(self) -> int:
        """Numbers in one image."""
        return self.channels * self.height_px * self.width_px


@dataclass(eq=False)  # not frozen: contextlib sets __traceback__ on what passes through it
class Refusal(Exception):
    """Why a file is not taken: a short code for programs and a sentence for people."""

    code: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}"


def check_image_file(path: Path) -> None:
    """Looks, without reading it, whether a path is a regular file that may be an image.

    Raises:
        Refusal: it is not a regular file (a FIFO would hang), is empty, too large, or cannot be read.
    """
    try:
        info = path.stat()
    except OSError as error:
        raise _unreadable(error) from error
    if not stat.S_ISREG(info.st_mode):
        raise Refusal("not_a_file", "it is no regular file")
    if info.st_size == 0:
        raise Refusal("empty", "it has 0 bytes")
    if info.st_size > MAX_BYTES:
        raise Refusal("too_large", f"it has {info.st_size:,} bytes; at most {MAX_BYTES:,} are read")


def read_image_file(path: Path) -> bytes:
    """The bytes of a regular file that may be an image.

    Raises:
        Refusal: it is not a regular file (a FIFO would hang), is empty, too large, or cannot be read.
    """
    check_image_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> Refusal:
    return Refusal("unreadable", f"it cannot be read ({error.strerror or error})")


def decode_image(data: bytes, shrink: Shrink | None = None, checked: bool = False) -> Image.Image:
    """The picture in `data`, upright and in sRGB, as mode L (grey), LA, RGB or RGBA with 8 bits a channel.

    16-bit grey keeps its tones (Pillow's own conversion clips it to white); a palette with transparency
    becomes RGBA; of an animation the first frame is taken. An embedded colour profile is converted to sRGB;
    one that is broken, or that speaks of other channels than the file has, is ignored.

    `shrink` says for a JPEG's upright size by which of 1, 2, 4 and 8 its own decoder may divide it. `checked`: these
    bytes were decoded before, and need not be searched for missing parts again.

    Raises:
        Refusal: not an image of an allowed format, damaged, or larger than MAX_PIXELS.
    """
    with refusing_damage():
        image = open_image(BytesIO(data))
        if not checked:
            _check_whole(image, data)
        if shrink is not None and image.format == "JPEG":
            width, height = image.size
            by = shrink(height, width) if orientation(image) in SIDEWAYS else shrink(width, height)
            image.draft(image.mode, (width // by, height // by))
        _scale_transparency(image)
        profile, gamma = image.info.get("icc_profile"), _gamma(image)
        upright = load_upright(image)
        if not checked:
            _check_rows(upright, image, data)
        curve = _deep_grey_curve(upright, profile)
        shown = _to_eight_bits(upright, curve)
    if gamma is not None:
        return _in_gamma(shown, gamma)
    return shown if curve is not None else _in_srgb(shown, profile)


def shrink_above(shorter_px: int) -> Shrink:
    """As small as the decoder can make it, with no side under `shorter_px`."""
    return lambda width, height: next((by for by in SHRINKS if min(width, height) >= by * shorter_px), 1)


@contextmanager
def refusing_damage() -> Iterator[None]:
    """Whatever a decoder raises over the bytes of a stranger becomes a Refusal."""
    try:
        yield
    except UnidentifiedImageError:
        raise Refusal("not_an_image", f"it is none of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise Refusal("too_many_pixels", f"it is over {MAX_PIXELS:,} pixels") from None
    except MemoryError:
        raise Refusal("memory", "it takes more memory to decode than a file may use") from None
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError,
            ArithmeticError, RuntimeError, struct.error, zlib.error) as error:  # fmt: skip
        raise Refusal("damaged", f"it cannot be decoded ({error})") from None


def open_image(file: IO[bytes]) -> Image.Image:
    """A picture whose header is read and whose pixels are not; to be called inside `refusing_damage`.

    Raises:
        Refusal: larger than MAX_PIXELS.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # our own limit, below, is stricter than the warning
        image: Image.Image = Image.open(file, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise Refusal("too_many_pixels", f"{image.width}×{image.height} is over {MAX_PIXELS:,} pixels")
    tags = _tags(image)
    if tags.get(TILE_WIDTH, 0) * tags.get(TILE_LENGTH, 0) > MAX_PIXELS:  # each is unpacked whole
        raise Refusal("too_many_pixels", f"it has tiles of over {MAX_PIXELS:,} pixels")
    _name_sixteen_bit_planes(image)
    return image


def header_size(data: bytes) -> tuple[int, int]:
    """Width and height that a file's header names; before the picture is turned upright.

    Raises:
        Refusal: as `decode_image`.
    """
    with refusing_damage():
        return open_image(BytesIO(data)).size


def _check_whole(image: Image.Image, data: bytes) -> None:
    """What Pillow takes without a word though part of it is missing or wrong, or it is meant to take for ever.

    Raises:
        Refusal: a JPEG with no end, whose missing half Pillow may invent, or with absurdly many scans; a PNG whose
            pixels fail their check sum (libpng refuses it too), or that has colour numbers and no palette.
    """
    if image.format in ("JPEG", "MPO"):
        _check_markers(data)
    if image.format != "PNG":
        return
    if any(zlib.crc32(b"IDAT" + chunk) != crc for chunk, crc in _png_pixels(data)):
        raise Refusal("damaged", "its pixels fail their check sum")
    if image.mode == "P" and not (image.palette and image.palette.palette):
        raise Refusal("damaged", "it has colour numbers and no palette")


def _check_markers(data: bytes) -> None:
    """Looks for a JPEG's end behind its first scan (ITU-T T.81, B.1.1): an EXIF thumbnail before it has one of its own."""
    place = 2
    while place + 4 <= len(data) and data[place + 1] != START_OF_SCAN[1]:
        stands_alone = data[place + 1] in (0x01, 0xFF)  # a filler, before the marker itself
        place += 1 if stands_alone else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    if data.find(END_OF_JPEG, place) < 0:
        raise Refusal("damaged", "it ends before its end marker: a part is missing")
    if data.count(START_OF_SCAN, place) > MAX_SCANS:
        raise Refusal("bomb", f"it has more than {MAX_SCANS} scans")


def _check_rows(shown: Image.Image, opened: Image.Image, data: bytes) -> None:
    """Pillow fills the rows that a PNG declares and has not: where the last one is blank, its data are counted.

    Raises:
        Refusal: rows are missing.
    """
    if opened.format != "PNG":
        return
    last = shown.crop((0, shown.height - 1, shown.width, shown.height))
    if any(high for _, high in _extrema(last)):
        return
    wanted = _png_rows_bytes(opened.size, data)
    if len(_png_rows(data, wanted)) < wanted:
        raise Refusal("damaged", "it has fewer rows than it declares")


def _extrema(image: Image.Image) -> list[tuple[float, float]]:
    found: Any = image.getextrema()
    return [found] if not isinstance(found[0], tuple) else list(found)


def _png_rows(data: bytes, most: int) -> bytes:
    """The unpacked rows of a PNG; no more than `most` bytes."""
    packed = b"".join(chunk for chunk, _ in _png_pixels(data))
    return zlib.decompressobj().decompress(packed, most)


def _png_pixels(data: bytes) -> Iterator[tuple[bytes, int]]:
    """The IDAT chunks of a PNG, each with the check sum that the file names."""
    place = 8
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        end = place + 8 + length
        if kind == b"IDAT" and end + 4 <= len(data):
            yield data[place + 8 : end], int.from_bytes(data[end : end + 4], "big")
        place = end + 4


def _png_rows_bytes(size: tuple[int, int], data: bytes) -> int:
    """How many bytes the rows of a PNG take (PNG specification, 7.3 and 8.2)."""
    depth, colour, interlaced = data[24], data[25], data[28]
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for x, y, dx, dy in passes:
        width, height = -(-(size[0] - x) // dx), -(-(size[1] - y) // dy)
        if width > 0 and height > 0:
            total += height * (1 + -(-width * bits // 8))
    return total


def _gamma(image: Image.Image) -> float | None:
    """The exponent of a PNG that names one other than sRGB's and no profile (PNG specification, 11.3.2.2)."""
    gamma = image.info.get("gamma")
    if image.format != "PNG" or not gamma or "srgb" in image.info or "icc_profile" in image.info:
        return None
    return None if abs(gamma - SRGB_GAMMA) < 0.02 else float(gamma)


def _in_gamma(image: Image.Image, gamma: float) -> Image.Image:
    """A picture whose numbers are light to the power of `gamma`, in sRGB; alpha as it is."""
    light = (np.arange(256) / 255) ** (1 / gamma)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    table = np.clip(np.round(curve * 255), 0, 255).astype(int).tolist()
    bands = [
        band if name == "A" else band.point(table)
        for name, band in zip(image.getbands(), image.split(), strict=True)
    ]
    return Image.merge(image.mode, bands)


def raw_mode(image: Image.Image) -> str:
    """How the samples lie in an opened file, as Pillow's decoders name it: RGB;16B is 16 bits, big end first."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _tags(image: Image.Image) -> Any:
    return getattr(image, "tag_v2", {})  # a TIFF's


def _name_sixteen_bit_planes(image: Image.Image) -> None:
    """Pillow (13.0) takes uncompressed 16-bit TIFF planes for 8-bit ones and shows noise."""
    tags = _tags(image)
    if 16 in tags.get(BITS_PER_SAMPLE, ()) and len(raw_mode(image)) == 1:
        end = "L" if tags.prefix == b"II" else "B"
        tiles: Any = image
        tiles.tile = [tile._replace(args=(f"{tile[3][0]};16{end}", *tile[3][1:])) for tile in tiles.tile]


def _scale_transparency(image: Image.Image) -> None:
    """Pillow names the transparent colour as the file does, while it scales the pixels to 8 bits."""
    key, mode = image.info.get("transparency"), raw_mode(image)
    if mode.startswith("RGB;16") and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)
    elif isinstance(key, int) and mode in LOW_BITS:
        image.info["transparency"] = key * LOW_BITS[mode]


def load_upright(image: Image.Image) -> Image.Image:
    """Decodes an opened picture and turns it as its EXIF says; to be called inside `refusing_damage`."""
    image.load()  # verify() lets half a JPEG pass
    turn = TURNS.get(orientation(image))  # a TIFF was turned by load(), which forgets the tag
    return image if turn is None else image.transpose(turn)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an opened picture; 1, upright, where there is none or the EXIF is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF
            # Not image.getexif(), which for a PNG decodes the pixels in search of a late chunk.
            value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, LookupError, TypeError, OSError, struct.error):
        return 1
    return value if value in TURNS else 1


def _to_eight_bits(image: Image.Image, curve: list[int] | None = None) -> Image.Image:
    if is_deep_grey(image):
        levels = grey_levels(image) * 255
        if curve is not None:
            levels = np.interp(levels, np.arange(256), curve)
        return _with_hole(Image.fromarray(levels.round().astype(np.uint8)), not_transparent(image))
    if image.mode in ("1", "L"):
        grey = image.convert("L")
        return _with_hole(grey, not_transparent(grey, image.info.get("transparency")))
    if image.mode in ("LA", "CMYK"):
        return image
    if image.mode == "La":
        return image.convert("LA")
    if image.mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info:
        return image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _with_hole(grey: Image.Image, shown: npt.NDArray[np.bool_] | None) -> Image.Image:
    if shown is None:
        return grey
    return Image.merge("LA", (grey, Image.fromarray(shown.astype(np.uint8) * 255)))


def _deep_grey_curve(image: Image.Image, profile: bytes | None) -> list[int] | None:
    """Where the 256 greys go, for a picture with more of them: between two of them its own are interpolated."""
    transform = srgb_transform(profile) if profile and is_deep_grey(image) else None
    return _grey_curve(transform) if transform and transform.input_mode in ("L", "RGB") else None


def is_deep_grey(image: Image.Image) -> bool:
    """Whether Pillow keeps more than 8 bits of a picture: only of grey."""
    return image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")


def grey_levels(image: Image.Image) -> npt.NDArray[np.float64]:
    """The tones `[H, W]` of a deep grey picture in [0, 1].

    Whole numbers fill what their bits can hold, up to 16; float files fill 0…1; anything else is scaled to its own range.

    Raises:
        Refusal: pixels that are not numbers.
    """
    tags = _tags(image)
    values = np.asarray(image)
    if image.mode == "I" and tags.get(SAMPLE_FORMAT, (2,))[0] == UNSIGNED:
        values = values.view(np.uint32)  # Pillow lets the upper half of them wrap
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise Refusal("damaged", "it has pixels that are not numbers")
    bits = min(16, tags.get(BITS_PER_SAMPLE, (16,))[0])
    top = 1.0 if image.mode == "F" else float(2**bits - 1)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= top:
        low, high = 0.0, top
    levels = (values - low) / max(high - low, 1e-12)
    return 1 - levels if tags.get(PHOTOMETRIC) == 0 else levels  # Pillow (13.0) minds it up to 8 bits only


def not_transparent(image: Image.Image, key: Any = None) -> npt.NDArray[np.bool_] | None:
    """Where `[H, W]` a grey picture shows; None if it names no grey value that is transparent."""
    key = image.info.get("transparency") if key is None else key
    return np.asarray(image) != key if isinstance(key, int) else None


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A picture of mode L, LA, RGB, RGBA or CMYK in sRGB; CMYK becomes RGB."""
    image.info.pop("icc_profile", None)  # it would no longer be true
    transform = srgb_transform(profile) if profile else None
    speaks_of = transform.input_mode if transform else None
    if image.mode == "CMYK":
        # Pillow inverts every CMYK JPEG, as browsers do: Adobe's are all stored inverted.
        return transform.apply(image) if transform and speaks_of == "CMYK" else image.convert("RGB")
    if transform is None or speaks_of == "CMYK":
        return image
    if image.mode in ("L", "LA"):
        grey = image.getchannel("L").point(_grey_curve(transform))
        return grey if image.mode == "L" else Image.merge("LA", (grey, image.getchannel("A")))
    if speaks_of != "RGB":
        return image
    colour = transform.apply(image.convert("RGB"))
    if image.mode == "RGBA":
        colour.putalpha(image.getchannel("A"))
    return colour


@lru_cache(maxsize=16)
def srgb_transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """From an ICC profile's colours, mode L, RGB or CMYK, to sRGB; None if it is broken, or sRGB already.

    Relative colorimetric with black point compensation, as photographs are usually converted.
    """
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        target = ImageCms.ImageCmsProfile(BytesIO(srgb_profile()))
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[source.profile.xcolor_space.strip()]
        intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
        if mode == "L":  # with Little CMS 2.19's optimisation a linear grey of 1 becomes 6 instead of 13
            flags |= ImageCms.Flags.NOOPTIMIZE
        transform = ImageCms.buildTransform(source, target, mode, "RGB", intent, flags)
    except (ImageCms.PyCMSError, OSError, ValueError, KeyError, TypeError):
        return None
    return None if mode != "CMYK" and _changes_nothing(transform) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether no colour of a cube of 17³ moves by more than 1 of 255: the many profiles named sRGB differ so."""
    ramp = np.round(np.linspace(0, 255, 17)).astype(np.uint8)
    cube = np.stack(np.meshgrid(ramp, ramp, ramp), axis=-1).reshape(17, 17 * 17, 3)
    if transform.input_mode == "L":
        cube = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    before = Image.fromarray(cube)
    after = transform.apply(before if transform.input_mode == "RGB" else before.getchannel(0))
    return int(np.abs(np.asarray(after, dtype=np.int16) - cube).max()) <= 1


def _grey_curve(transform: ImageCms.ImageCmsTransform) -> list[int]:
    """Where the 256 greys go; grey files often carry an RGB profile."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(1, 256))
    converted = transform.apply(ramp if transform.input_mode == "L" else ramp.convert("RGB"))
    return list(converted.getchannel("G").tobytes())


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    """The ICC profile of sRGB (588 bytes with Little CMS 2.19), the same bytes on every day."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + profile[36:]  # its time of creation


def over_white(image: Image.Image) -> Image.Image:
    """The picture without alpha: composited on white, because under alpha lie colours that nobody saw."""
    if image.mode not in ("LA", "RGBA"):
        return image
    white = Image.new("RGBA", image.size, "white")
    flat = Image.alpha_composite(white, image.convert("RGBA"))
    return flat.convert("L" if image.mode == "LA" else "RGB")


def is_grey(image: Image.Image) -> bool:
    """Whether a picture has no colour, whatever its mode."""
    if image.mode in ("L", "LA"):
        return True
    small = np.asarray(image.convert("RGB").reduce(max(1, min(image.size) // 64)), dtype=np.int16)
    return int((small.max(2) - small.min(2)).max()) <= 4


def to_pil(pixels: Pixels) -> Image.Image:
    """uint8 `[H, W, C]` as a Pillow image, grey where C is 1."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def grid(pixels: Pixels, columns: int | None = None, gap_px: int = 2, enlarge_to_px: int = 64) -> Image.Image:
    """uint8 images `[N, H, W, C]` side by side, row by row; small ones are enlarged by a whole factor."""
    n, height, width = pixels.shape[:3]
    columns = columns or math.ceil(math.sqrt(n))
    times = max(1, enlarge_to_px // max(height, width))
    rows = math.ceil(n / columns)
    cell_h, cell_w = height * times + gap_px, width * times + gap_px
    sheet = Image.new("RGB", (columns * cell_w + gap_px, rows * cell_h + gap_px), (24, 24, 28))
    for k in range(n):
        tile = over_white(to_pil(pixels[k])).resize((width * times, height * times), Image.Resampling.NEAREST)
        sheet.paste(tile, (gap_px + k % columns * cell_w, gap_px + k // columns * cell_h))
    return sheet


def beside(left: Image.Image, right: Image.Image, titles: tuple[str, str]) -> Image.Image:
    """Two sheets next to each other, each below its title."""
    top, gap = 22, 12
    sheet = Image.new(
        "RGB", (left.width + gap + right.width, top + max(left.height, right.height)), (24, 24, 28)
    )
    draw = ImageDraw.Draw(sheet)
    for image, x, title in ((left, 0, titles[0]), (right, left.width + gap, titles[1])):
        draw.text((x + 4, 4), title, fill=(235, 235, 235))
        sheet.paste(image, (x, top))
    return sheet


def save_png(image: Image.Image, path: Path, origin: dict[str, Any]) -> Path:
    """Writes a PNG that carries its origin (`ganpipe trace` reads it), whole or not at all."""
    text = PngImagePlugin.PngInfo()
    text.add_itxt(ORIGIN_KEY, json.dumps(origin, ensure_ascii=False))
    with replacing(path) as file:
        image.save(file, format="PNG", pnginfo=text)
    return path


def read_origin(path: Path) -> dict[str, Any]:
    """The origin that `save_png` or `ganpipe.style.pictures.write_picture` wrote.

    Raises:
        GanpipeError: no such file, no image, or no origin in it.
    """
    if not path.exists():
        raise GanpipeError(f"{path} does not exist.")
    try:
        text = _origin_text(read_image_file(path))
    except Refusal as refusal:
        raise GanpipeError(f"{path} is not a readable image ({refusal.sentence}).") from None
    if text is None:
        raise GanpipeError(
            f"{path} carries no ganpipe origin: it was not made by ganpipe, or another program saved it again."
        )
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        raise GanpipeError(f"{path} carries a damaged ganpipe origin.") from None


def _origin_text(data: bytes) -> str | None:
    with refusing_damage():
        image = open_image(BytesIO(data))
        image.load()  # a PNG's text may come after its pixels
        text = image.info.get(ORIGIN_KEY)
        if text is not None:
            return str(text)
        description = image.getexif().get(ExifTags.Base.ImageDescription)
    if isinstance(description, str) and description.startswith(DESCRIPTION_PREFIX):
        return description.removeprefix(DESCRIPTION_PREFIX)
    return None
