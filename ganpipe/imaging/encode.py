"""Writing PNG, TIFF, JPEG and WebP files with 8 or 16 bits per channel."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin
from torch import Tensor

from ganpipe.errors import GanpipeError
from ganpipe.files import json_text, write_bytes
from ganpipe.imaging.float_image import over_white
from ganpipe.imaging.icc import srgb_profile
from ganpipe.imaging.provenance import DESCRIPTION_PREFIX, ORIGIN_KEY

Samples = npt.NDArray[np.unsignedinteger]  # uint8 or uint16
BAND_BYTES = 2**20  # compressed together in a PNG or TIFF, so that a decoder needs no more memory than this
EXIF_BYTES = 65_533  # a JPEG segment's length has 16 bits and counts itself


@dataclass(frozen=True)
class Format:
    """The capabilities of a file format; `bit_depths` are bits per channel.

    `written_share`: a low estimate of a file's bytes as a share of its samples' bytes.
    """

    suffix: str
    bit_depths: tuple[int, ...]
    alpha: bool
    longest_side_px: int
    written_share: float


FORMATS = {
    "png": Format(".png", (8, 16), True, 2**31 - 1, 0.5),
    "jpeg": Format(".jpg", (8,), False, 65_500, 0.15),
    "tiff": Format(".tiff", (8, 16), True, 2**31 - 1, 0.5),
    "webp": Format(".webp", (8,), True, 16_383, 0.1),
}


def check_format(format: str, bit_depth: int, size: tuple[int, int] | None = None) -> None:
    """Raises GanpipeError, before any work, if we cannot write such a file; `size` is height and width."""
    if format not in FORMATS:
        raise GanpipeError(f"Images cannot be written as {format!r}; choose one of {', '.join(FORMATS)}.")
    able = FORMATS[format]
    if bit_depth not in able.bit_depths:
        others = [name for name, other in FORMATS.items() if bit_depth in other.bit_depths]
        depths = " or ".join(map(str, able.bit_depths))
        instead = f", or write {' or '.join(others)}" if others else ""
        raise GanpipeError(
            f"A {format} holds {depths} bits per channel, not {bit_depth}: choose {depths}{instead}."
        )
    if size and max(size) > able.longest_side_px:
        raise GanpipeError(
            f"A {format} is at most {able.longest_side_px:,} pixels per side, not {max(size):,}; write png or tiff."
        )


def write_float_image(
    path: Path, pixels: Tensor, alpha: Tensor | None, format: str, bit_depth: int, origin: dict[str, Any]
) -> Path:
    """Writes an image, whole or not at all; returns `path`. See `encode_float_image`.

    Raises:
        GanpipeError: as `encode_float_image`, or the file cannot be written.
    """
    write_bytes(path, encode_float_image(pixels, alpha, format, bit_depth, origin))
    return path


def encode_float_image(
    pixels: Tensor, alpha: Tensor | None, format: str, bit_depth: int, origin: dict[str, Any]
) -> bytes:
    """The file with colors `[3, H, W]` and alpha `[H, W]`, both in [0, 1], in sRGB.

    Values are clamped and rounded to the nearest. The file has an sRGB profile and carries
    `origin`, which `ganpipe.imaging.provenance.read_origin` reads. JPEG has no alpha and shows the image on white. JPEG
    and WebP have quality 95, JPEG without chroma subsampling; PNG and TIFF are lossless.

    Raises:
        GanpipeError: see `check_format`; the origin is too long for a JPEG (64 kB).
    """
    height, width = pixels.shape[-2:]
    check_format(format, bit_depth, (height, width))
    if not FORMATS[format].alpha:
        pixels, alpha = over_white(pixels, alpha), None
    samples = _quantize(pixels if alpha is None else torch.cat([pixels, alpha[None]]), bit_depth)
    text = DESCRIPTION_PREFIX + json.dumps(origin)  # the tag holds ASCII, and json.dumps writes ASCII
    if format == "tiff":
        return _tiff(samples, text)
    if format == "png":
        return _png(samples, json_text(origin))
    return _jpeg_or_webp(samples, text, format)


def _quantize(planes: Tensor, bit_depth: int) -> Samples:
    """Planes `[C, H, W]` in [0, 1] → samples `[H, W, C]` of 8 or 16 bits, rounded to the nearest."""
    scaled = planes.detach().cpu().float().clamp(0, 1).mul(2**bit_depth - 1).round()
    samples = scaled.permute(1, 2, 0).to(torch.int32).numpy()
    return np.ascontiguousarray(samples, dtype=np.uint8 if bit_depth == 8 else np.uint16)


def _jpeg_or_webp(samples: Samples, text: str, format: str) -> bytes:
    """Encodes at quality 95: lossless WebP is hardly smaller than PNG (a grainy photograph of
    1.9 megapixels: PNG 3.2 MB, lossless WebP 3.0 MB, WebP at 95 0.6 MB)."""
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = text
    block = exif.tobytes()
    if format == "jpeg" and len(block) > EXIF_BYTES:
        raise GanpipeError(
            f"The origin has {len(block):,} bytes and a jpeg holds {EXIF_BYTES:,}: write png, tiff or webp."
        )
    buffer = BytesIO()
    options: dict[str, Any] = {"subsampling": 0} if format == "jpeg" else {}
    Image.fromarray(samples).save(
        buffer, format=format, quality=95, exif=block, icc_profile=srgb_profile(), **options
    )
    return buffer.getvalue()


def _png(samples: Samples, text: str) -> bytes:
    """Encodes 8 bits with Pillow, and 16, which it cannot write in color, by the specification (W3C PNG, 3rd edition)."""
    chunks, buffer = PngImagePlugin.PngInfo(), BytesIO()
    chunks.add_itxt(ORIGIN_KEY, text)
    if samples.dtype == np.uint8:
        Image.fromarray(samples).save(buffer, "PNG", pnginfo=chunks, icc_profile=srgb_profile())
        return buffer.getvalue()
    height, width, channels = samples.shape
    color_type = {3: 2, 4: 6}[channels]
    buffer.write(b"\x89PNG\r\n\x1a\n")
    PngImagePlugin.putchunk(buffer, b"IHDR", struct.pack(">2I5B", width, height, 16, color_type, 0, 0, 0))
    PngImagePlugin.putchunk(buffer, b"iCCP", b"sRGB\0\0" + zlib.compress(srgb_profile()))
    for kind, data, *_ in chunks.chunks:
        PngImagePlugin.putchunk(buffer, kind, data)
    packer = zlib.compressobj()
    for band in _bands(samples):
        PngImagePlugin.putchunk(buffer, b"IDAT", packer.compress(_png_rows(band)))
    PngImagePlugin.putchunk(buffer, b"IDAT", packer.flush())
    PngImagePlugin.putchunk(buffer, b"IEND")
    return buffer.getvalue()


def _png_rows(band: Samples) -> bytes:
    """Filters rows by Sub (1): each byte minus that of the pixel to its left. (Paeth: 4 % smaller, 30 % slower.)"""
    rows, width, channels = band.shape
    data = band.astype(">u2").view(np.uint8).reshape(rows, width, channels * 2)
    filtered = np.diff(data, axis=1, prepend=np.uint8(0)).reshape(rows, -1)
    return np.pad(filtered, ((0, 0), (1, 0)), constant_values=1).tobytes()


def _tiff_rows(band: Samples) -> bytes:
    differences = np.diff(band, axis=1, prepend=band.dtype.type(0))
    return differences.astype(band.dtype.newbyteorder("<")).tobytes()


def _tiff(samples: Samples, text: str) -> bytes:
    """Encodes little-endian strips, deflated, with horizontal differencing (TIFF 6.0, section 14)."""
    height, width, channels = samples.shape
    strips = [zlib.compress(_tiff_rows(band)) for band in _bands(samples)]
    lengths = [len(strip) for strip in strips]
    tag = ExifTags.Base
    fields = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    fields[tag.ImageWidth], fields[tag.ImageLength] = width, height
    fields[tag.BitsPerSample] = (samples.dtype.itemsize * 8,) * channels
    fields[tag.Compression], fields[tag.Predictor] = 8, 2
    fields[tag.PhotometricInterpretation], fields[tag.SamplesPerPixel] = 2, channels
    if channels == 4:
        fields[tag.ExtraSamples] = 2  # alpha, not premultiplied
    fields[tag.ImageDescription] = text
    fields[tag.XResolution] = fields[tag.YResolution] = 72
    fields[tag.ResolutionUnit] = 2
    fields[tag.InterColorProfile] = srgb_profile()
    fields[tag.RowsPerStrip] = _band_rows(samples)
    fields[tag.StripByteCounts] = tuple(lengths)
    # save() adds the length of what comes before the strips.
    fields[tag.StripOffsets] = tuple(accumulate(lengths, initial=0))[:-1]
    buffer = BytesIO()
    fields.save(buffer)
    buffer.write(b"".join(strips))
    return buffer.getvalue()


def _band_rows(samples: Samples) -> int:
    return max(1, BAND_BYTES // samples[0].nbytes)


def _bands(samples: Samples) -> Iterator[Samples]:
    rows = _band_rows(samples)
    return (samples[start : start + rows] for start in range(0, len(samples), rows))
