"""Inspects one file: decodes, hashes and describes it. Runs in worker processes, without torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ganpipe.files import plain_disk_errors
from ganpipe.imaging.decode import MOST_PIXELS, decode_image, header_size, is_gray, over_white, shrink_above
from ganpipe.imaging.image import RejectedImage

Read = Callable[[], bytes]  # picklable; raises RejectedImage

LOOK_PX = 256  # a JPEG's shorter side is decoded no smaller: reads all data, transforms few
SMALL_PX = 128  # the shorter side at which facts are measured
PHASH_SIDE = 16  # 256 bits; with 64, all flowers of one mode count as copies (LOG.md)
SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp", b"BM": ".bmp", b"GI": ".gif"}


@dataclass(frozen=True)
class Facts:
    """Facts of an upright image: size, decoded channels, whether it is gray, and the measures below.

    `brightness`: mean luminance, 0…1. `sharpness`: variance of the Laplacian of the luminance (0…1), times 1,000, at a
    shorter side of 128 to 255 px (Pech-Pacheco et al. 2000). `phash`: 256 bits, equal or nearly equal for copies that were
    scaled or recompressed.
    """

    width_px: int
    height_px: int
    channels: int
    gray: bool
    brightness: float
    sharpness: float
    phash: bytes


@dataclass(frozen=True)
class Inspected:
    """An image that can be decoded: the hash and number of its bytes, its suffix, its facts."""

    sha256: str
    bytes: int
    suffix: str
    facts: Facts


def inspect_file(
    read: Read, keep_in: Path | None, max_pixels: int = MOST_PIXELS
) -> Inspected | RejectedImage:
    """Reads, decodes and describes a file; stores a valid image under its hash below `keep_in`.

    Raises:
        GanpipeError: it could not be stored (a full disk).
    """
    try:
        data = read()
        facts = facts_of(data, max_pixels)
    except RejectedImage as rejected:
        return rejected
    except MemoryError:
        return RejectedImage("memory", "it takes more memory to read than a file may use")
    digest = hashlib.sha256(data).hexdigest()
    found = Inspected(digest, len(data), SUFFIXES.get(data[:2], ".tif"), facts)
    if keep_in is not None:
        write_once(keep_in / storage_path(found), data)
    return found


def storage_path(image: Inspected) -> str:
    """The path of an image, relative to its dataset."""
    return f"files/{image.sha256[:2]}/{image.sha256}{image.suffix}"


def write_once(path: Path, data: bytes) -> None:
    """Writes a file whose name is the hash of its bytes, unless it exists with these bytes."""
    if path.exists() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return
    # Written beside and renamed; not flushed one by one: the manifest's own flush comes after, and a file
    # that a power cut shortened has another size or fails `data verify`.
    # Two workers may hold equal bytes: each writes its own, and either may come last.
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with plain_disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def facts_of(data: bytes, max_pixels: int) -> Facts:
    """Measures the facts of an image file.

    Raises:
        RejectedImage: it is not an image that can be decoded.
    """
    image = decode_image(data, shrink_above(LOOK_PX), max_pixels=max_pixels)
    long, short = sorted(header_size(data, max_pixels), reverse=True)
    return facts_of_image(image, *((long, short) if image.width >= image.height else (short, long)))


def facts_of_image(image: Image.Image, width_px: int, height_px: int) -> Facts:
    """Measures the facts of a decoded image, which may be smaller than its file's size."""
    small = image.reduce(max(1, min(image.size) // SMALL_PX))  # by boxes: exact, and faster than any filter
    gray = over_white(small).convert("L")
    luminance = np.asarray(gray, dtype=np.float32) / np.float32(255)
    return Facts(
        width_px,
        height_px,
        len(image.getbands()),
        is_gray(small),
        round(float(luminance.mean()), 4),
        round(_sharpness(luminance), 4),
        perceptual_hash(gray),
    )


def _sharpness(x: npt.NDArray[np.float32]) -> float:
    if min(x.shape) < 3:
        return 0.0
    laplacian = x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] - 4 * x[1:-1, 1:-1]
    return float(laplacian.var()) * 1000


def perceptual_hash(gray: Image.Image) -> bytes:
    """pHash (Zauner 2010) of 256 bits: the signs of low frequencies around their median."""
    import imagehash

    return np.packbits(imagehash.phash(gray, hash_size=PHASH_SIDE).hash).tobytes()
