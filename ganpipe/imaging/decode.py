"""Decodes image files: upright, in sRGB, 8 bits per channel. Does not import torch."""

from __future__ import annotations

import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import (
    ExifTags,
    Image,
    UnidentifiedImageError,
    features,
)

from ganpipe.imaging.icc import apply_gamma, gray_curve, srgb_transform, to_srgb
from ganpipe.imaging.image import Pixels, RejectedImage
from ganpipe.imaging.integrity import check_integrity, check_rows
from ganpipe.imaging.plain_jpeg import decode_plain_jpeg, is_plain_jpeg

HAS_AVIF = "avif" in features.modules and bool(features.check("avif"))  # Pillow's wheels from 11.3 on


try:  # pip install 'ganpipe[heif]'
    import pillow_heif
except ImportError:
    HAS_HEIF = False
else:
    pillow_heif.register_heif_opener(thumbnails=False)
    HAS_HEIF = True


FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "BMP",
    "TIFF",
    "GIF",
    *(("AVIF",) if HAS_AVIF else ()),
    *(("HEIF",) if HAS_HEIF else ()),
)


MAX_PIXELS = (
    200_000_000  # the default of the settings max_megapixels; phones take pictures of 108 and 200 megapixels
)
MOST_PIXELS = 1_000_000_000  # no setting allows more
PILLOW_LIMIT = 2**30 // 12  # pixels; a third of a GiB of colors (Image.MAX_IMAGE_PIXELS as it comes)
LARGE_PIXELS = 16_000_000  # above it, what needs few pixels reads a picture reduced
MAX_BYTES = 256 * 2**20


BITS_PER_SAMPLE, PHOTOMETRIC, TILE_WIDTH, TILE_LENGTH, SAMPLE_FORMAT = 258, 262, 322, 323, 339  # TIFF tags


HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


UNSIGNED = 1  # a TIFF's sample format
LOW_BITS = {"1": 255, "L;1": 255, "L;2": 85, "L;4": 17}  # Pillow multiplies samples of few bits by these
SRGB_GAMMA = 0.45455
Shrink = Callable[[int, int], int]  # (width, height) → 1, 2, 4 or 8
SHRINKS = (8, 4, 2)


# The system does not zero reused memory again: saves 1 ms per photograph.
Image.core.set_blocks_max(16)


MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by channels
TURNS = {  # the transpose that makes an image upright, by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


SIDEWAYS = (5, 6, 7, 8)


def check_image_file(path: Path) -> None:
    """Checks, without reading it, that a path is a regular file that may be an image.

    Raises:
        RejectedImage: it is not a regular file (a FIFO would hang), is empty, too large, or cannot be read.
    """
    try:
        info = path.stat()
    except OSError as error:
        raise _unreadable(error) from error
    if not stat.S_ISREG(info.st_mode):
        raise RejectedImage("not_a_file", "it is not a regular file")
    if info.st_size == 0:
        raise RejectedImage("empty", "it has 0 bytes")
    if info.st_size > MAX_BYTES:
        raise RejectedImage("too_large", f"it has {info.st_size:,} bytes; at most {MAX_BYTES:,} are read")


def read_image_file(path: Path) -> bytes:
    """Reads the bytes of a regular file that may be an image.

    Raises:
        RejectedImage: it is not a regular file (a FIFO would hang), is empty, too large, or cannot be read.
    """
    check_image_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> RejectedImage:
    return RejectedImage("unreadable", f"it cannot be read ({error.strerror or error})")


def decode_image(
    data: bytes, shrink: Shrink | None = None, checked: bool = False, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decodes `data`, upright and in sRGB, to mode L (gray), LA, RGB or RGBA with 8 bits per channel.

    16-bit gray keeps its tones (Pillow's own conversion clips it to white); a palette with transparency
    becomes RGBA; an animation gives its first frame. Colors are converted from an embedded profile to sRGB;
    a profile that is broken, or is for other channels than the file's, is ignored.

    `shrink` returns, for a JPEG's upright size, by which of 1, 2, 4 and 8 its decoder may divide it. `checked`: these
    bytes were decoded before, so the checks for missing parts are skipped.

    Raises:
        RejectedImage: not an image of an allowed format, damaged, or of more than `max_pixels`.
    """
    with reject_damage():
        image = open_image(BytesIO(data), max_pixels)
        if not checked:
            check_integrity(image, data)
        if shrink is not None and image.format == "JPEG":
            width, height = image.size
            by = shrink(height, width) if orientation(image) in SIDEWAYS else shrink(width, height)
            image.draft(image.mode, (width // by, height // by))
        _scale_transparency(image)
        profile, gamma = image.info.get("icc_profile"), _gamma(image)
        upright = load_upright(image)
        if not checked:
            check_rows(upright, image, data)
        curve = _deep_gray_curve(upright, profile)
        shown = _to_eight_bits(upright, curve)
    if gamma is not None:
        return apply_gamma(shown, gamma)
    return shown if curve is not None else to_srgb(shown, profile)


def decode_pixels(data: bytes, shrink: Shrink, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The pixels `[H, W, 1 to 4]` of what `decode_image` gives for bytes that it has accepted before.

    Raises:
        RejectedImage: as `decode_image`.
    """
    with reject_damage():
        opened = open_image(BytesIO(data), max_pixels)
        if is_plain_jpeg(opened) and orientation(opened) == 1:
            pixels = decode_plain_jpeg(data, opened, shrink(*opened.size))
            if pixels is not None:
                return pixels
    return pixels_of(decode_image(data, shrink, checked=True, max_pixels=max_pixels))


def pixels_of(image: Image.Image) -> Pixels:
    """The pixels `[H, W, C]` of an image with 8 bits per channel; read-only."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def shrink_above(shorter_px: int) -> Shrink:
    """A `shrink` for `decode_image`: as small as the decoder can, with no side under `shorter_px`."""
    return lambda width, height: next((by for by in SHRINKS if min(width, height) >= by * shorter_px), 1)


def shrink_large(longer_px: int) -> Shrink:
    """A `shrink` for `decode_image` that leaves pictures of up to LARGE_PIXELS as they are.

    Larger ones become as small as the decoder can, with the longer side no less than `longer_px`.
    """

    def shrink(width: int, height: int) -> int:
        if width * height <= LARGE_PIXELS:
            return 1
        return next((by for by in SHRINKS if max(width, height) >= by * longer_px), 1)

    return shrink


def reduce_large(image: Image.Image, longer_px: int) -> Image.Image:
    """The same for a decoded image of any format: averages boxes of pixels, weighted by their alpha."""
    by = max(image.size) // longer_px
    if image.width * image.height <= LARGE_PIXELS or by < 2:
        return image
    weighted = {"LA": "La", "RGBA": "RGBa"}.get(image.mode, image.mode)
    return image.convert(weighted).reduce(by).convert(image.mode)


@contextmanager
def reject_damage() -> Iterator[None]:
    """Turns every exception that a decoder raises on untrusted bytes into RejectedImage."""
    try:
        yield
    except UnidentifiedImageError:
        raise RejectedImage("not_an_image", f"it is none of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise RejectedImage(
            "too_many_pixels", "it has too many pixels (the setting max_megapixels)"
        ) from None
    except MemoryError:
        raise RejectedImage("memory", "it takes more memory to decode than a file may use") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        struct.error,
        zlib.error,
    ) as error:
        raise RejectedImage("damaged", f"it cannot be decoded ({error})") from None


def open_image(file: IO[bytes], max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Opens an image and reads its header, not its pixels; call it inside `reject_damage`.

    Raises:
        RejectedImage: it has more than `max_pixels`.
    """
    _check_heif(file)
    # Pillow refuses twice as many, also if a frame grows to them. Its limit holds for the whole process, that is for our own
    # pictures, too: it is never lower than as it comes.
    Image.MAX_IMAGE_PIXELS = max(max_pixels, PILLOW_LIMIT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # our limit, below, is stricter than the warning
        image: Image.Image = Image.open(file, formats=FORMATS)
    if image.width * image.height > max_pixels:
        raise RejectedImage(
            "too_many_pixels",
            f"{image.width}×{image.height} is over {max_pixels / 1e6:,.0f} megapixels (the setting max_megapixels)",
        )
    tags = read_tags(image)
    if tags.get(TILE_WIDTH, 0) * tags.get(TILE_LENGTH, 0) > max_pixels:  # each tile is unpacked whole
        raise RejectedImage("too_many_pixels", f"it has tiles of over {max_pixels / 1e6:,.0f} megapixels")
    _name_sixteen_bit_planes(image)
    return image


def _check_heif(file: IO[bytes]) -> None:
    """Raises RejectedImage for a file that only the extra `heif` can read, if that is not installed."""
    if HAS_HEIF:
        return
    head = file.read(32)
    file.seek(0)
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS and b"avif" not in head:
        raise RejectedImage("not_an_image", "it is HEIC or HEIF, which needs: pip install 'ganpipe[heif]'")


def header_size(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Reads width and height from a file's header, before the image is turned upright.

    Raises:
        RejectedImage: as `decode_image`.
    """
    with reject_damage():
        return open_image(BytesIO(data), max_pixels).size


def _gamma(image: Image.Image) -> float | None:
    """The gamma of a PNG if it differs from sRGB's and there is no profile; else None (PNG specification, 11.3.2.2)."""
    gamma = image.info.get("gamma")
    if image.format != "PNG" or not gamma or "srgb" in image.info or "icc_profile" in image.info:
        return None
    return None if abs(gamma - SRGB_GAMMA) < 0.02 else float(gamma)


def raw_mode(image: Image.Image) -> str:
    """The sample layout of an opened file, in Pillow's raw modes: RGB;16B is 16 bits, big-endian."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def read_tags(image: Image.Image) -> Any:
    return getattr(image, "tag_v2", {})  # a TIFF's


def _name_sixteen_bit_planes(image: Image.Image) -> None:
    """Corrects the raw mode of uncompressed 16-bit TIFF planes, which Pillow (13.0) reads as 8-bit noise."""
    tags = read_tags(image)
    if 16 in tags.get(BITS_PER_SAMPLE, ()) and len(raw_mode(image)) == 1:
        end = "L" if tags.prefix == b"II" else "B"
        tiles: Any = image
        tiles.tile = [tile._replace(args=(f"{tile[3][0]};16{end}", *tile[3][1:])) for tile in tiles.tile]


def _scale_transparency(image: Image.Image) -> None:
    """Scales the transparent color to 8 bits, as Pillow scales only the pixels."""
    key, mode = image.info.get("transparency"), raw_mode(image)
    if mode.startswith("RGB;16") and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)
    elif isinstance(key, int) and mode in LOW_BITS:
        image.info["transparency"] = key * LOW_BITS[mode]


def load_upright(image: Image.Image) -> Image.Image:
    """Decodes an opened image and turns it upright by its EXIF; call it inside `reject_damage`."""
    image.load()  # verify() accepts half a JPEG
    turn = TURNS.get(orientation(image))  # a TIFF was turned by load(), which forgets the tag
    return image if turn is None else image.transpose(turn)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an opened image; 1, upright, if there is none or the EXIF is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged EXIF
            # Not image.getexif(), which for a PNG decodes the pixels in search of a late chunk.
            value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, LookupError, TypeError, OSError, struct.error):
        return 1
    return value if value in TURNS else 1


def _to_eight_bits(image: Image.Image, curve: list[int] | None = None) -> Image.Image:
    if is_deep_gray(image):
        levels = gray_levels(image) * 255
        if curve is not None:
            levels = np.interp(levels, np.arange(256), curve)
        return _add_transparency(Image.fromarray(levels.round().astype(np.uint8)), not_transparent(image))
    if image.mode in ("1", "L"):
        gray = image.convert("L")
        return _add_transparency(gray, not_transparent(gray, image.info.get("transparency")))
    if image.mode in ("LA", "CMYK"):
        return image
    if image.mode == "La":
        return image.convert("LA")
    if image.mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info:
        return image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _add_transparency(gray: Image.Image, shown: npt.NDArray[np.bool_] | None) -> Image.Image:
    if shown is None:
        return gray
    return Image.merge("LA", (gray, Image.fromarray(shown.astype(np.uint8) * 255)))


def _deep_gray_curve(image: Image.Image, profile: bytes | None) -> list[int] | None:
    """Maps the 256 grays of a profile to sRGB; the levels of a deeper image are interpolated between them."""
    transform = srgb_transform(profile) if profile and is_deep_gray(image) else None
    return gray_curve(transform) if transform and transform.input_mode in ("L", "RGB") else None


def is_deep_gray(image: Image.Image) -> bool:
    """Whether Pillow keeps more than 8 bits of an image, which it does only for gray."""
    return image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")


def gray_levels(image: Image.Image) -> npt.NDArray[np.float64]:
    """The levels `[H, W]` of a deep gray image in [0, 1].

    Integers are scaled by their bit depth, up to 16; floats by 1; values outside that range by their own range.

    Raises:
        RejectedImage: pixels that are NaN or infinite.
    """
    tags = read_tags(image)
    values = np.asarray(image)
    if image.mode == "I" and tags.get(SAMPLE_FORMAT, (2,))[0] == UNSIGNED:
        values = values.view(np.uint32)  # Pillow lets the upper half wrap
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise RejectedImage("damaged", "it has pixels that are not numbers")
    bits = min(16, tags.get(BITS_PER_SAMPLE, (16,))[0])
    top = 1.0 if image.mode == "F" else float(2**bits - 1)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= top:
        low, high = 0.0, top
    levels = (values - low) / max(high - low, 1e-12)
    return 1 - levels if tags.get(PHOTOMETRIC) == 0 else levels  # Pillow (13.0) applies it up to 8 bits only


def not_transparent(image: Image.Image, key: Any = None) -> npt.NDArray[np.bool_] | None:
    """Mask `[H, W]` of the opaque pixels of a gray image; None if it names no transparent gray."""
    key = image.info.get("transparency") if key is None else key
    return np.asarray(image) != key if isinstance(key, int) else None


def over_white(image: Image.Image) -> Image.Image:
    """Removes alpha by compositing on white: the colors under alpha were never visible."""
    if image.mode not in ("LA", "RGBA"):
        return image
    white = Image.new("RGBA", image.size, "white")
    flat = Image.alpha_composite(white, image.convert("RGBA"))
    return flat.convert("L" if image.mode == "LA" else "RGB")


def is_gray(image: Image.Image) -> bool:
    """Whether an image has no color, whatever its mode."""
    if image.mode in ("L", "LA"):
        return True
    small = np.asarray(image.convert("RGB").reduce(max(1, min(image.size) // 64)), dtype=np.int16)
    return int((small.max(2) - small.min(2)).max()) <= 4
