"""Image files made by Pillow and by hand, and the view that their orientation asks for."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def png_bytes(
    samples: np.ndarray, *chunks: tuple[bytes, bytes], late: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """uint16 samples `[H, W, C]`, C from 1 to 4, as a PNG with more chunks before its pixels or behind."""
    height, width, channels = samples.shape
    head = struct.pack(">2I5B", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    file = BytesIO()
    file.write(b"\x89PNG\r\n\x1a\n")
    for kind, data in ((b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), *late, (b"IEND", b"")):
        PngImagePlugin.putchunk(file, kind, data)
    return file.getvalue()


def tiff_bytes(
    samples: np.ndarray,
    big_endian: bool = False,
    deflated: bool = False,
    tiled: bool = False,
    planes: bool = False,
    tags: dict[int, object] | None = None,
) -> bytes:
    """uint16 samples `[H, W, C]` of up to 16×16 pixels as a TIFF of four-row strips or of one tile a plane."""
    height, width, channels = samples.shape
    fields = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"MM" if big_endian else b"II")
    parts = [samples[..., k : k + 1] for k in range(channels)] if planes else [samples]
    if tiled:
        blocks = [np.pad(part, ((0, 16 - height), (0, 16 - width), (0, 0))) for part in parts]
    else:
        blocks = [part[y : y + 4] for part in parts for y in range(0, height, 4)]
    data = [block.astype(">u2" if big_endian else "<u2").tobytes() for block in blocks]
    data = [zlib.compress(block) for block in data] if deflated else data
    common = {
        256: width,
        257: height,
        258: (16,) * channels,
        259: 8 if deflated else 1,
        262: 1 if channels == 1 else 2,
        277: channels,
        284: 2 if planes else 1,
    }
    offsets, lengths, area = (324, 325, {322: 16, 323: 16}) if tiled else (273, 279, {278: 4})
    for tag, value in (common | area | {lengths: tuple(map(len, data))} | (tags or {})).items():
        fields[tag] = value
    fields[offsets], fields.tagtype[offsets] = tuple(0 for _ in data), 4
    start = len(fields.tobytes(8)) + 8 if tiled else 0  # Pillow adds it to the offsets of strips itself
    fields[offsets] = tuple(start + sum(map(len, data[:k])) for k in range(len(data)))
    fields.tagtype[offsets] = 4
    file = BytesIO()
    fields.save(file)
    return file.getvalue() + b"".join(data)


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Turns stored rows and columns into the view that EXIF 2.3 (table 6) defines."""
    turned = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).swapaxes(0, 1),
        8: np.rot90(stored),
    }
    return turned[orientation]


def exif_with(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif
