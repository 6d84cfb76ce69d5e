"""Images at the full precision of their files: upright, in sRGB, as float planes."""

from __future__ import annotations

import hashlib
import struct
import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ganpipe.imaging.decode import (
    LARGE_PIXELS,
    MAX_PIXELS,
    MOST_PIXELS,
    check_image_file,
    decode_image,
    gray_levels,
    is_deep_gray,
    load_upright,
    not_transparent,
    open_image,
    orientation,
    raw_mode,
    read_image_file,
    reduce_large,
    reject_damage,
    shrink_large,
)
from ganpipe.imaging.icc import Floats, in_srgb
from ganpipe.imaging.image import RejectedImage


@dataclass(frozen=True)
class FloatImage:
    """A decoded image.

    `pixels` are float32 `[1, 3, H, W]` in [0, 1], sRGB, upright, composited on white if there is alpha.
    `alpha` is `[H, W]` in [0, 1], or None if the file has none. `sha256` is that of the file's bytes.
    """

    path: Path
    sha256: str
    pixels: Tensor
    alpha: Tensor | None
    bit_depth: int


def read_float_image(path: Path, max_pixels: int = MAX_PIXELS, longer_px: int | None = None) -> FloatImage:
    """Reads an image file at its full precision.

    With `longer_px` a picture of more than LARGE_PIXELS is reduced as it is read: the longer side stays at least that.

    16-bit PNG and TIFF, gray or RGB, with or without alpha, keep their precision, and so do float and
    integer gray TIFF. Everything else has 8 bits, including 16-bit CMYK, 16-bit TIFF in compressed planes, and
    16-bit files whose color profile is made of tables (of a printer or scanner) instead of curves and a
    matrix (sRGB, Adobe RGB, Display P3, ProPhoto): Little CMS in Pillow converts 8 bits only.

    Raises:
        RejectedImage: as `ganpipe.imaging.decode.read_image_file` and `decode_image`.
    """
    data = read_image_file(path)
    deep = _deep_samples(data, max_pixels)
    samples = _eight_bit_samples(data, max_pixels, longer_px) if deep is None else deep
    planes = torch.from_numpy(np.ascontiguousarray(samples.transpose(2, 0, 1)))
    alpha = planes[-1] if len(planes) in (2, 4) else None
    color = planes if alpha is None else planes[:-1]
    pixels = over_white(color.expand(3, -1, -1), alpha).contiguous()[None]
    if deep is not None and longer_px:
        pixels, alpha = _reduce_large(pixels, alpha, longer_px)
    return FloatImage(path, hashlib.sha256(data).hexdigest(), pixels, alpha, 8 if deep is None else 16)


def _eight_bit_samples(data: bytes, max_pixels: int, longer_px: int | None) -> Floats:
    if longer_px is None:
        image = decode_image(data, max_pixels=max_pixels)
    else:
        image = reduce_large(decode_image(data, shrink_large(longer_px), max_pixels=max_pixels), longer_px)
    return np.atleast_3d(np.asarray(image) / np.float32(255))


def _reduce_large(pixels: Tensor, alpha: Tensor | None, longer_px: int) -> tuple[Tensor, Tensor | None]:
    """`reduce_large` for planes that are composited already."""
    height, width = pixels.shape[2:]
    by = max(height, width) // longer_px
    if height * width <= LARGE_PIXELS or by < 2:
        return pixels, alpha
    size = (-(-height // by), -(-width // by))
    smaller = None if alpha is None else F.interpolate(alpha[None, None], size, mode="area")[0, 0]
    return F.interpolate(pixels, size, mode="area"), smaller


def over_white(color: Tensor, alpha: Tensor | None) -> Tensor:
    """Composites colors `[C, H, W]` in [0, 1] on white by alpha `[H, W]`; returns them unchanged if alpha is None."""
    return color if alpha is None else color * alpha + (1 - alpha)


def upright_size(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Reads from the header the height and width that `read_float_image` returns.

    Raises:
        RejectedImage: not a regular file, empty, too large, unreadable, not an image, or too many pixels.
    """
    check_image_file(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise RejectedImage("unreadable", f"it cannot be read ({error.strerror or error})") from error
    with file, reject_damage():
        late = _has_late_orientation(file)
        file.seek(0)
        image = open_image(file, max_pixels)
        tags: Any = getattr(image, "tag_v2", None)  # Pillow swaps a rotated TIFF's size itself
        width, height = (tags[256], tags[257]) if tags else image.size
        if late:
            image.load()
        return (width, height) if orientation(image) >= 5 else (height, width)


def _has_late_orientation(file: IO[bytes]) -> bool:
    """Whether a PNG has EXIF or XMP after its pixels, which Pillow finds only by decoding."""
    if file.read(8) != b"\x89PNG\r\n\x1a\n":
        return False
    behind = False
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        start = file.read(min(length, 32))
        behind |= kind == b"IDAT"
        keyword = start.split(b"\0")[0]
        if behind and (kind == b"eXIf" or keyword in (b"XML:com.adobe.xmp", b"Raw profile type exif")):
            return True
        file.seek(length - len(start) + 4, 1)
    return False


def _deep_samples(data: bytes, max_pixels: int) -> Floats | None:
    """Samples `[H, W, C]` in [0, 1], sRGB, of a file with more than 8 bits; None if `decode_image` loses nothing.

    C is 1 (gray), 2, 3 (RGB) or 4; alpha comes last and is not premultiplied.
    """
    with reject_damage():
        image = open_image(BytesIO(data), max_pixels)
        raw, profile = raw_mode(image), image.info.get("icc_profile")
        if is_deep_gray(image):
            samples = _deep_gray(load_upright(image))
        elif raw == "LA;16B":  # Pillow repeats the gray in R, G and B
            samples = _deep_gray_and_alpha(image)
        elif raw.startswith(("RGB;16", "RGBX;16", "RGBA;16", "RGBa;16")) and not _in_planes(image):
            samples = _deep_color(data, image)
        else:
            return None
    has_alpha = samples.shape[2] in (2, 4)
    color = in_srgb(samples[..., :-1] if has_alpha else samples, profile)
    if color is None or not has_alpha:
        return color
    return np.concatenate([color, samples[..., -1:]], axis=2)


def _in_planes(image: Image.Image) -> bool:
    tags: Any = getattr(image, "tag_v2", {})
    return bool(tags.get(284) == 2)


def _deep_gray(image: Image.Image) -> Floats:
    gray, shown = gray_levels(image), not_transparent(image)
    return np.stack([gray] if shown is None else [gray, shown], axis=2).astype(np.float32)


def _deep_gray_and_alpha(image: Image.Image) -> Floats:
    """Reads 16-bit gray and alpha as Pillow's R, G, B and A bytes."""
    _read_as(image, "RGBA")
    pairs = np.asarray(load_upright(image)).astype(np.uint16)
    return _fractions(pairs[..., 0::2] * 256 + pairs[..., 1::2])


def _deep_color(data: bytes, image: Image.Image) -> Floats:
    """Decodes twice, with the byte order reversed: Pillow keeps one byte of each sample."""
    raw, key = raw_mode(image), image.info.get("transparency")
    multiplied = raw.startswith("RGBa")
    layout = raw.replace("RGBa", "RGBA")[:-1]  # as stored in the file, not divided by alpha in 8 bits
    big = raw[-1] == "B" or (raw[-1] == "N" and sys.byteorder == "big")
    high = _bytes_of(image, layout + ("B" if big else "L"))
    low = _bytes_of(open_image(BytesIO(data), MOST_PIXELS), layout + ("L" if big else "B"))
    values = high.astype(np.uint16) * 256 + low
    samples = _fractions(values)
    if isinstance(key, tuple) and samples.shape[2] == 3:
        shown = (values != np.array(key, dtype=np.uint16)).any(axis=2, keepdims=True)
        return np.concatenate([samples, shown.astype(np.float32)], axis=2)
    if multiplied:
        samples[..., :3] = (samples[..., :3] / np.maximum(samples[..., 3:], 1 / 65535)).clip(0, 1)
    return samples


def _fractions(values: npt.NDArray[np.uint16]) -> Floats:
    return values.astype(np.float32) / np.float32(65535)


def _bytes_of(image: Image.Image, raw: str) -> npt.NDArray[np.uint8]:
    _read_as(image, raw)
    return np.asarray(load_upright(image))


def _read_as(image: Image.Image, raw: str) -> None:
    """Makes Pillow decode an opened file in another raw mode."""
    opened: Any = image
    opened.tile = [
        tile._replace(args=(raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw) for tile in opened.tile
    ]
