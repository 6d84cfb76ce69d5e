"""Pictures as arrays: decoding what people have, exact conversion to and from tensors, grids, origin text."""

from __future__ import annotations

import json
import math
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import (
    ExifTags,
    Image,
    ImageCms,
    ImageDraw,
    ImageOps,
    PngImagePlugin,
    UnidentifiedImageError,
    features,
)
from torch import Tensor

from ganpipe.errors import GanpipeError
from ganpipe.files import replacing

HAS_AVIF = "avif" in features.modules and bool(features.check("avif"))  # Pillow's wheels from 11.3 on
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", *(("AVIF",) if HAS_AVIF else ()))
MAX_PIXELS = 64_000_000  # decoded, 24-bit: 192 MB; photographs reach about 50 megapixels
MAX_BYTES = 256 * 2**20
ORIGIN_KEY = "ganpipe"  # a PNG's iTXt chunk
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # TIFF tags
DESCRIPTION_PREFIX = "ganpipe:"  # before the origin in the other formats' tag ImageDescription

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


def decode_image(data: bytes) -> Image.Image:
    """The picture in `data`, upright and in sRGB, as mode L (grey), LA, RGB or RGBA with 8 bits a channel.

    16-bit grey keeps its tones (Pillow's own conversion clips it to white); a palette with transparency
    becomes RGBA; of an animation the first frame is taken. An embedded colour profile is converted to sRGB;
    one that is broken, or that speaks of other channels than the file has, is ignored.

    Raises:
        Refusal: not an image of an allowed format, damaged, or larger than MAX_PIXELS.
    """
    with refusing_damage():
        image = open_image(BytesIO(data))
        _shorten_transparency(image)
        profile = image.info.get("icc_profile")
        image = load_upright(image)
    return _in_srgb(_to_eight_bits(image), profile)


@contextmanager
def refusing_damage() -> Iterator[None]:
    """Whatever a decoder raises over the bytes of a stranger becomes a Refusal."""
    try:
        yield
    except UnidentifiedImageError:
        raise Refusal("not_an_image", f"it is none of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise Refusal("too_many_pixels", f"it is over {MAX_PIXELS:,} pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError,
            ArithmeticError, RuntimeError, MemoryError, struct.error) as error:  # fmt: skip
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
    _name_sixteen_bit_planes(image)
    return image


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


def _shorten_transparency(image: Image.Image) -> None:
    """Of 16-bit colours Pillow keeps the upper 8 bits, yet all 16 of the colour that is to be transparent."""
    if raw_mode(image).startswith("RGB;16") and "transparency" in image.info:
        image.info["transparency"] = tuple(value >> 8 for value in image.info["transparency"])


def load_upright(image: Image.Image) -> Image.Image:
    """Decodes an opened picture and turns it as its EXIF says; to be called inside `refusing_damage`."""
    image.load()  # verify() lets half a JPEG pass
    turn = TURNS.get(orientation(image))  # a TIFF was turned by load(), which forgets the tag
    return image if turn is None else image.transpose(turn)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an opened picture; 1, upright, where there is none or the EXIF is damaged."""
    try:
        # Not image.getexif(), which for a PNG decodes the pixels in search of a late chunk.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, LookupError, TypeError, OSError, struct.error):
        return 1
    return value if value in TURNS else 1


def _to_eight_bits(image: Image.Image) -> Image.Image:
    if is_deep_grey(image):
        grey = Image.fromarray((grey_levels(image) * 255).round().astype(np.uint8))
        shown = not_transparent(image)
        if shown is None:
            return grey
        return Image.merge("LA", (grey, Image.fromarray(shown.astype(np.uint8) * 255)))
    if image.mode in ("L", "LA", "CMYK"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "La":
        return image.convert("LA")
    if image.mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("RGB")


def is_deep_grey(image: Image.Image) -> bool:
    """Whether Pillow keeps more than 8 bits of a picture: only of grey."""
    return image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")


def grey_levels(image: Image.Image) -> npt.NDArray[np.float64]:
    """The tones `[H, W]` of a deep grey picture in [0, 1].

    16-bit grey fills 0…65535; float files fill 0…1; anything else is scaled to its own range.

    Raises:
        Refusal: pixels that are not numbers.
    """
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise Refusal("damaged", "it has pixels that are not numbers")
    top = 1.0 if image.mode == "F" else 65535.0
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= top:
        low, high = 0.0, top
    levels = (values - low) / max(high - low, 1e-12)
    white_is_zero = image.mode.startswith("I;16") and _tags(image).get(PHOTOMETRIC) == 0
    return 1 - levels if white_is_zero else levels  # Pillow (13.0) minds it up to 8 bits only


def not_transparent(image: Image.Image) -> npt.NDArray[np.bool_] | None:
    """Where `[H, W]` a deep grey picture shows; None if it names no grey value that is transparent."""
    key = image.info.get("transparency")
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


def fit_image(image: Image.Image, shape: ImageShape, fit: str) -> Pixels:
    """The picture as `[H, W, C]` uint8: `crop` fills the frame, `pad` shows all on black, `squash` stretches.

    Resampling is antialiased (Lanczos); pictures of four pixels a side or fewer across are enlarged without it.
    """
    size = (shape.width_px, shape.height_px)
    image = image.convert("RGBA") if shape.channels == 4 else over_white(image).convert(MODES[shape.channels])
    if image.size != size:
        if fit == "crop":
            image = ImageOps.fit(image, size, Image.Resampling.LANCZOS)
        elif fit == "pad":
            image = ImageOps.pad(image, size, Image.Resampling.LANCZOS, color=0)
        else:
            image = image.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(shape.height_px, shape.width_px, shape.channels)


def to_float(pixels: Tensor) -> Tensor:
    """uint8 `[N, H, W, C]` → float32 `[N, C, H, W]` in `[-1, 1]`, channels last in memory."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Float `[N, C, H, W]` in `[-1, 1]` → uint8 `[N, H, W, C]`: the exact inverse of `to_float`."""
    return images.float().add(1.0).mul(127.5).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def to_pil(pixels: Pixels) -> Image.Image:
    """uint8 `[H, W, C]` as a Pillow image, grey where C is 1."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def without_alpha(pixels: Tensor) -> Tensor:
    """uint8 pictures `[N, H, W, 4]` composited on white as `[N, H, W, 3]`; others as they are."""
    if pixels.shape[3] != 4:
        return pixels
    colour, alpha = pixels[..., :3].float(), pixels[..., 3:].float() / 255
    return (colour * alpha + 255 * (1 - alpha)).round().to(torch.uint8)


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
