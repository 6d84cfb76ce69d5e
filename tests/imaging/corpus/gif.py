"""GIF: its writer, and images with palettes, transparent colors and small frames."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image

from tests.imaging.corpus.encoding import saved
from tests.imaging.corpus.pictures import Random, Shown, hidden, noise
from tests.imaging.corpus.registry import taken


def gif(
    indices: np.ndarray,
    palette: np.ndarray,
    *,
    at: tuple[int, int] = (0, 0),
    canvas: tuple[int, int] | None = None,
    transparent: int | None = None,
    interlaced: bool = False,
    local: bool = False,
) -> bytes:
    """Indices `[H, W]` of a palette `[256, 3]`, placed `at` x and y on a canvas of a width and a height."""
    height, width = indices.shape
    colors = palette.astype(np.uint8).tobytes()
    data = b"GIF89a" + struct.pack("<2H3B", *(canvas or (width, height)), 0x70 if local else 0xF7, 0, 0)
    data += b"" if local else colors
    if transparent is not None:
        data += b"\x21\xf9\x04" + struct.pack("<BHBB", 1, 0, transparent, 0)
    data += b"," + struct.pack(
        "<4HB", *at, width, height, (0x87 if local else 0) | (0x40 if interlaced else 0)
    )
    order = [*range(0, height, 8), *range(4, height, 8), *range(2, height, 4), *range(1, height, 2)]
    stored = indices[order] if interlaced else indices
    return data + (colors if local else b"") + gif_pixels(stored) + b";"


def gif_pixels(indices: np.ndarray) -> bytes:
    """LZW that compresses nothing: it starts anew before its codes become longer than nine bits."""
    codes = [
        code for k, index in enumerate(indices.ravel()) for code in ([256] if k % 250 == 0 else []) + [index]
    ]
    bits = (np.array([*codes, 257])[:, None] >> np.arange(9)) & 1
    data = np.packbits(bits.astype(np.uint8).ravel(), bitorder="little").tobytes()
    blocks = [data[k : k + 255] for k in range(0, len(data), 255)]
    return b"\x08" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def gif_colors(rng: Random, count: int = 256) -> np.ndarray:
    """A palette of 256 of which `count` are used."""
    return np.concatenate([noise(rng, count, 3), np.zeros((256 - count, 3), np.uint8)])


@taken(".gif", each=("global", "local"))
def gif_with_palette(rng: Random, kind: str) -> tuple[bytes, Shown]:
    palette, stored = gif_colors(rng), noise(rng, 20, 30)
    return gif(stored, palette, local=kind == "local"), palette[stored]


@taken(".gif")
def interlaced_gif(rng: Random) -> tuple[bytes, Shown]:
    palette, stored = gif_colors(rng), noise(rng, 21, 30)
    return gif(stored, palette, interlaced=True), palette[stored]


@taken(".gif")
def gif_with_a_transparent_color(rng: Random) -> tuple[bytes, Shown]:
    palette, stored = gif_colors(rng, 8), noise(rng, 20, 30, levels=8)
    return gif(stored, palette, transparent=3), hidden(palette[stored], stored == 3)


@taken(".gif")
def gray_gif(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng, 20, 30)
    return gif(stored, np.arange(256)[:, None].repeat(3, 1)), stored


@taken(".gif")
def gray_gif_with_a_transparent_gray(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng, 20, 30, levels=9)
    return gif(stored, np.arange(256)[:, None].repeat(3, 1), transparent=4), hidden(stored, stored == 4)


@taken(".gif")
def gif_whose_frame_is_smaller_than_its_canvas(rng: Random) -> tuple[bytes, Shown]:
    """The part of the canvas that the frame leaves free is transparent."""
    palette, stored = gif_colors(rng, 8), noise(rng, 6, 9, levels=8)
    shown = np.full((20, 30, 3), 255.0)
    shown[4:10, 7:16] = hidden(palette[stored], stored == 2)
    return gif(stored, palette, at=(7, 4), canvas=(30, 20), transparent=2), shown


@taken(".gif")
def animated_gif(rng: Random) -> tuple[bytes, Shown]:
    palette, stored = gif_colors(rng, 200), noise(rng, 12, 16, levels=200)
    first, second = (Image.fromarray(each, "P") for each in (stored, 199 - stored))
    first.putpalette(palette.tobytes())
    second.putpalette(palette.tobytes())
    return saved(first, "GIF", save_all=True, append_images=[second], duration=50), palette[stored]


@taken(".gif")
def gif_without_its_trailer(rng: Random) -> tuple[bytes, Shown]:
    palette, stored = gif_colors(rng), noise(rng, 20, 30)
    return gif(stored, palette)[:-1], palette[stored]


@taken(".gif")
def gif_with_bytes_behind(rng: Random) -> tuple[bytes, Shown]:
    palette, stored = gif_colors(rng), noise(rng, 20, 30)
    return gif(stored, palette) + rng.bytes(999), palette[stored]
