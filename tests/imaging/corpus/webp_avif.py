"""WebP and AVIF: a WebP by hand, and images with alpha and of several frames."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image

from ganpipe.imaging.decode import HAS_AVIF
from tests.imaging.corpus.encoding import saved
from tests.imaging.corpus.pictures import Random, Shown, gradient, noise, over_white
from tests.imaging.corpus.registry import taken


def webp_of_one_color(width_px: int, height_px: int, color: tuple[int, int, int]) -> bytes:
    """A valid lossless WebP of some thirty bytes, however large it is: each code has one symbol of no bits."""
    fields = [(0x2F, 8), (width_px - 1, 14), (height_px - 1, 14), (0, 4), (0, 3)]
    for symbol in (color[1], color[0], color[2], 255):
        fields += [(0b101, 3), (symbol, 8)]
    fields += [(0b001, 3), (0, 1)]  # no distances
    bits = [value >> k & 1 for value, size in fields for k in range(size)]
    data = np.packbits(bits, bitorder="little").tobytes()
    body = b"WEBPVP8L" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@taken(".webp")
def lossless_webp(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return saved(stored, "WEBP", lossless=True), stored


@taken(".webp", tolerance=4)  # always 16…235 and half the color: YUV of 7.8 bits
def lossy_webp(rng: Random) -> tuple[bytes, Shown]:
    stored = gradient(rng)
    return saved(stored, "WEBP", quality=100, method=6), stored


@taken(".webp")
def webp_with_alpha(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng, 10, 14, 4)
    return saved(stored, "WEBP", lossless=True, exact=True), over_white(stored[..., :3], stored[..., 3])


@taken(".webp", tolerance=4)  # as lossy_webp
def lossy_webp_with_alpha(rng: Random) -> tuple[bytes, Shown]:
    stored, alpha = gradient(rng), noise(rng, 24, 40)
    data = saved(np.dstack([stored, alpha]), "WEBP", quality=100, method=6, exact=True)
    return data, over_white(stored, alpha)


@taken(".webp")
def animated_webp(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return saved(
        stored, "WEBP", save_all=True, append_images=[Image.fromarray(255 - stored)], lossless=True
    ), stored


@taken(".webp")
def webp_of_one_color_by_hand(rng: Random) -> tuple[bytes, Shown]:
    color = tuple(int(value) for value in noise(rng, 3))
    return webp_of_one_color(31, 17, color), np.full((17, 31, 3), color)


@taken(".webp")
def webp_with_bytes_behind(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return saved(stored, "WEBP", lossless=True) + rng.bytes(500), stored


@taken(".avif", where=HAS_AVIF)
def avif(rng: Random) -> tuple[bytes, Shown]:
    stored = gradient(rng)
    return saved(stored, "AVIF", quality=100, subsampling="4:4:4", speed=10), stored


@taken(".avif", where=HAS_AVIF)
def avif_with_alpha(rng: Random) -> tuple[bytes, Shown]:
    stored, alpha = gradient(rng), gradient(rng, channels=1)
    data = saved(np.dstack([stored, alpha]), "AVIF", quality=100, subsampling="4:4:4", speed=10)
    return data, over_white(stored, alpha[..., 0])


@taken(".avif", where=HAS_AVIF)
def animated_avif(rng: Random) -> tuple[bytes, Shown]:
    stored = gradient(rng)
    second = Image.fromarray(255 - stored)
    options = {
        "save_all": True,
        "append_images": [second],
        "quality": 100,
        "subsampling": "4:4:4",
        "speed": 10,
    }
    return saved(stored, "AVIF", **options), stored
