"""The bytes that more than one format needs: files by Pillow, EXIF, packed rows and archives."""

from __future__ import annotations

import struct
import zipfile
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image


def saved(picture: np.ndarray | Image.Image, format: str, **options: Any) -> bytes:
    """Encodes a picture with Pillow."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def exif(orientation: int, big_endian: bool = False, kind: int = 3, count: int = 1) -> bytes:
    """EXIF with one entry, the orientation, which says of itself that it is `count` values of a `kind`."""
    order = ">" if big_endian else "<"
    head = (b"MM" if big_endian else b"II") + struct.pack(order + "HI", 42, 8)
    return head + struct.pack(order + "HHHIHHI", 1, 0x0112, kind, count, orientation, 0, 0)


def packed_rows(samples: np.ndarray, bits: int, big_endian: bool = True) -> list[bytes]:
    """The rows of `[H, W]` or `[H, W, C]` samples, each from a new byte on."""
    flat = samples.reshape(len(samples), -1)
    if bits == 8 * flat.itemsize:
        return [row.astype(flat.dtype.newbyteorder(">" if big_endian else "<")).tobytes() for row in flat]
    each_bit = (flat[..., None] >> np.arange(bits - 1, -1, -1, dtype=flat.dtype)) & 1
    return [np.packbits(row).tobytes() for row in each_bit.astype(np.uint8).reshape(len(flat), -1)]


def zipped(files: dict[str, bytes]) -> bytes:
    """An archive of these files."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()
