"""Checks that an image file is complete, in cases that Pillow accepts silently."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

from PIL import (
    Image,
)

from ganpipe.imaging.image import RejectedImage

END_OF_JPEG, START_OF_SCAN, MAX_SCANS = b"\xff\xd9", b"\xff\xda", 500


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def check_integrity(image: Image.Image, data: bytes) -> None:
    """Rejects files that Pillow accepts although a part is missing or wrong, or that would take forever to decode.

    Raises:
        RejectedImage: a JPEG without an end marker, whose missing half Pillow may invent, or with too many scans; a PNG whose
            pixels fail their checksum (libpng rejects it too), or that has palette indices and no palette.
    """
    if image.format in ("JPEG", "MPO"):
        _check_markers(data)
    if image.format != "PNG":
        return
    if any(zlib.crc32(b"IDAT" + chunk) != crc for chunk, crc in _png_pixels(data)):
        raise RejectedImage("damaged", "its pixels fail their checksum")
    if image.mode == "P" and not (image.palette and image.palette.palette):
        raise RejectedImage("damaged", "it has palette indices and no palette")


def _check_markers(data: bytes) -> None:
    """Checks a JPEG's end marker after its first scan (ITU-T T.81, B.1.1): an EXIF thumbnail before it has its own."""
    place = 2
    while place + 4 <= len(data) and data[place + 1] != START_OF_SCAN[1]:
        stands_alone = data[place + 1] in (0x01, 0xFF)  # a marker without a length, or a fill byte
        place += 1 if stands_alone else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    if data.find(END_OF_JPEG, place) < 0:
        raise RejectedImage("damaged", "its end marker is missing: a part was cut off")
    if data.count(START_OF_SCAN, place) > MAX_SCANS:
        raise RejectedImage("bomb", f"it has more than {MAX_SCANS} scans")


def check_rows(shown: Image.Image, opened: Image.Image, data: bytes) -> None:
    """Rejects a PNG with fewer rows than it declares, which Pillow fills: if the last row is blank, counts its data.

    Raises:
        RejectedImage: rows are missing.
    """
    if opened.format != "PNG":
        return
    last = shown.crop((0, shown.height - 1, shown.width, shown.height))
    if any(high for _, high in _extrema(last)):
        return
    wanted = _png_rows_bytes(opened.size, data)
    if len(_png_rows(data, wanted)) < wanted:
        raise RejectedImage("damaged", "it has fewer rows than it declares")


def _extrema(image: Image.Image) -> list[tuple[float, float]]:
    found: Any = image.getextrema()
    return [found] if not isinstance(found[0], tuple) else list(found)


def _png_rows(data: bytes, most: int) -> bytes:
    """Unpacks the rows of a PNG, at most `most` bytes."""
    packed = b"".join(chunk for chunk, _ in _png_pixels(data))
    return zlib.decompressobj().decompress(packed, most)


def _png_pixels(data: bytes) -> Iterator[tuple[bytes, int]]:
    """The IDAT chunks of a PNG, each with the checksum stored in the file."""
    place = 8
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        end = place + 8 + length
        if kind == b"IDAT" and end + 4 <= len(data):
            yield data[place + 8 : end], int.from_bytes(data[end : end + 4], "big")
        place = end + 4


def _png_rows_bytes(size: tuple[int, int], data: bytes) -> int:
    """How many bytes the rows of a PNG take (PNG specification, 7.3 and 8.2)."""
    depth, color, interlaced = data[24], data[25], data[28]
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for x, y, dx, dy in passes:
        width, height = -(-(size[0] - x) // dx), -(-(size[1] - y) // dy)
        if width > 0 and height > 0:
            total += height * (1 + -(-width * bits // 8))
    return total
