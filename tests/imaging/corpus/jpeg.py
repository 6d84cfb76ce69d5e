"""JPEG: its writer, and images with every color space and odd segment."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from PIL import Image

from tests.imaging.corpus.encoding import saved
from tests.imaging.corpus.pictures import Random, Shown, noise, patches, printed
from tests.imaging.corpus.registry import taken


def jpeg(picture: np.ndarray | Image.Image, **options: Any) -> bytes:
    """A JPEG as near to its picture as the format allows."""
    return saved(picture, "JPEG", **({"quality": 100, "subsampling": 0} | options))


def segment(marker: int, payload: bytes) -> bytes:
    """A piece of a JPEG's header."""
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def with_segments(data: bytes, *segments: bytes) -> bytes:
    """A JPEG with more pieces right after its start."""
    return data[:2] + b"".join(segments) + data[2:]


def without_segment(data: bytes, marker: int) -> bytes:
    """A JPEG without its pieces of this kind."""
    kept, place = data[:2], 2
    while data[place + 1] != 0xDA:  # from here on come pixels
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
        kept += b"" if data[place + 1] == marker else data[place:end]
        place = end
    return kept + data[place:]


@taken(".jpg", each=(95, 100))
def jpeg_of_quality(rng: Random, quality: int) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return jpeg(stored, quality=quality), stored


@taken(".jpeg")
def jpeg_with_halved_color(rng: Random) -> tuple[bytes, Shown]:
    gray = patches(rng, channels=1).clip(60, 195)
    stored = gray + rng.integers(
        -20, 20, 3
    )  # a tint of all, because what is halved is smoothed between patches
    return jpeg(stored.astype(np.uint8), subsampling="4:2:0"), stored


@taken(".jpg")
def gray_jpeg(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng, channels=1)[..., 0]
    return jpeg(stored), stored


@taken(".jpg")
def progressive_jpeg(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return jpeg(stored, progressive=True), stored


@taken(".jpg")
def jpeg_with_restart_markers(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return jpeg(stored, restart_marker_blocks=1), stored


@taken(".jpg")
def jpeg_with_garbage_behind(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return jpeg(stored) + rng.bytes(5000), stored


@taken(".jpg")
def jpeg_with_a_film_behind(rng: Random) -> tuple[bytes, Shown]:
    """As telephones append one."""
    stored = patches(rng)
    return jpeg(stored) + b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + rng.bytes(3000), stored


@taken(".jpg")
def jpeg_with_a_second_picture_behind(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return jpeg(stored) + jpeg(255 - stored), stored


@taken(".jpg")
def jpeg_of_two_views(rng: Random) -> tuple[bytes, Shown]:
    """MPO, as cameras write it with a small or a second view behind the picture."""
    stored = patches(rng)
    second = Image.fromarray(255 - stored)
    return saved(stored, "MPO", save_all=True, append_images=[second], quality=100, subsampling=0), stored


@taken(".jpg")
def jpeg_with_a_thumbnail_of_another_picture(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    small = jpeg(255 - stored[::2, ::2])
    head = b"II*\0\x08\0\0\0\0\0" + struct.pack("<I", 14)  # no entries; the thumbnail's directory is at 14
    tags = (
        struct.pack("<H", 2)
        + struct.pack("<HHII", 0x0201, 4, 1, 44)
        + struct.pack("<HHII", 0x0202, 4, 1, len(small))
    )
    return with_segments(jpeg(stored), segment(0xE1, b"Exif\0\0" + head + tags + b"\0" * 4 + small)), stored


@taken(".jpg")
def jpeg_with_bytes_that_fill_between_markers(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return with_segments(jpeg(stored), b"\xff" * 7), stored


@taken(".jpg")
def jpeg_with_long_comments(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return with_segments(jpeg(stored), *(segment(0xFE, rng.bytes(65533)) for _ in range(4))), stored


@taken(".jpg")
def jpeg_without_any_header(rng: Random) -> tuple[bytes, Shown]:
    """Neither JFIF nor Adobe: three components are luma and chroma."""
    stored = patches(rng)
    return without_segment(jpeg(stored), 0xE0), stored


@taken(".jpg", each=("marked", "bare"))
def jpeg_of_red_green_and_blue(rng: Random, mark: str) -> tuple[bytes, Shown]:
    """Not as luma and chroma; without Adobe's mark the components' names R, G and B tell it."""
    stored = patches(rng)
    data = jpeg(stored, keep_rgb=True)
    return data if mark == "marked" else without_segment(data, 0xEE), stored


@taken(".jpg", each=("marked", "bare"))
def cmyk_jpeg(rng: Random, mark: str) -> tuple[bytes, Shown]:
    """Stored inverted, as Adobe does; browsers and Pillow take one without its mark for inverted too."""
    inks = patches(rng, channels=4)
    data = jpeg(Image.fromarray(inks, "CMYK"))
    return data if mark == "marked" else without_segment(data, 0xEE), printed(inks)


@taken(".jpg")
def ycck_jpeg(rng: Random) -> tuple[bytes, Shown]:
    """Inverted, with C, M and Y as luma and chroma, and Adobe's mark of that: as Photoshop saves it."""
    inks = patches(rng, channels=4)
    c, m, y, k = np.moveaxis(inks.astype(np.float64), -1, 0)
    luma = (
        0.299 * c + 0.587 * m + 0.114 * y
    )  # of inverted inks, of which libjpeg takes the complement once more
    # Pillow inverts what it writes as CMYK.
    rotated = [255 - luma, 127 - (y - luma) / 1.772, 127 - (c - luma) / 1.402, k]
    data = jpeg(Image.fromarray(np.stack(rotated, axis=-1).round().astype(np.uint8), "CMYK"))
    mark = data.index(b"Adobe") + 11
    return data[:mark] + b"\x02" + data[mark + 1 :], printed(inks)


@taken(".jpg", reference=False)
def jpeg_cut_in_half_with_an_end_marker(rng: Random) -> bytes:
    """libjpeg fills the rest with gray and tells nobody but a counter of warnings that Pillow hides."""
    data = jpeg(noise(rng, 48, 48, 3))
    return data[: len(data) // 2] + b"\xff\xd9"


@taken(".jpg", reference=False)
def jpeg_with_zeros_in_its_middle(rng: Random) -> bytes:
    """As the one above: libjpeg takes what comes."""
    data = jpeg(noise(rng, 48, 48, 3))
    return data[:3000] + b"\0" * 500 + data[3500:]
