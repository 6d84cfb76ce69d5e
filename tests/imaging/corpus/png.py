"""PNG: its writer, and images of every depth, palette, filter and odd chunk."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import Image

from tests.imaging.corpus.encoding import packed_rows, saved, zipped
from tests.imaging.corpus.pictures import Random, Shown, deep_noise, hidden, linear_seen, noise, over_white
from tests.imaging.corpus.registry import taken


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG's chunk with its check sum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_END = chunk(b"IEND", b"")
PNG_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}  # the color type by channels
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def ihdr(width_px: int, height_px: int, bits: int = 8, color: int = 2, interlaced: bool = False) -> bytes:
    """The header of a PNG."""
    return chunk(b"IHDR", struct.pack(">2I5B", width_px, height_px, bits, color, 0, 0, interlaced))


def png(
    samples: np.ndarray,
    *chunks: tuple[bytes, bytes],
    bits: int = 8,
    interlaced: bool = False,
    late: tuple[tuple[bytes, bytes], ...] = (),
) -> bytes:
    """Samples `[H, W]` or `[H, W, C]` as a PNG, of a palette where PLTE is among the chunks."""
    height, width, channels = (*samples.shape, 1)[:3]
    color = 3 if any(kind == b"PLTE" for kind, _ in chunks) else PNG_COLOUR[channels]
    passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [samples]
    rows = b"".join(b"\0" + row for part in passes if part.size for row in packed_rows(part, bits))
    pixels = (b"IDAT", zlib.compress(rows))
    body = b"".join(chunk(*each) for each in (*chunks, pixels, *late))
    return PNG_START + ihdr(width, height, bits, color, interlaced) + body + PNG_END


@taken(".png")
def plain_png(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return png(stored), stored


@taken(".png", each=(1, 2, 4))
def gray_png_of_bits(rng: Random, bits: int) -> tuple[bytes, Shown]:
    stored = noise(rng, 9, 13, levels=2**bits)
    return png(stored, bits=bits), stored * (255 / (2**bits - 1))


@taken(".png")
def sixteen_bit_gray_png(rng: Random) -> tuple[bytes, Shown]:
    stored = deep_noise(rng)
    return png(stored, bits=16), stored / 257


@taken(".png")
def sixteen_bit_color_png(rng: Random) -> tuple[bytes, Shown]:
    stored = deep_noise(rng, 10, 14, 3)
    return png(stored, bits=16), stored / 257


@taken(".png")
def sixteen_bit_gray_and_alpha_png(rng: Random) -> tuple[bytes, Shown]:
    stored = deep_noise(rng, 10, 14, 2)
    return png(stored, bits=16), over_white(stored[..., 0] / 257, stored[..., 1] / 257)


@taken(".png")
def sixteen_bit_color_and_alpha_png(rng: Random) -> tuple[bytes, Shown]:
    stored = deep_noise(rng, 10, 14, 4)
    return png(stored, bits=16), over_white(stored[..., :3] / 257, stored[..., 3] / 257)


@taken(".png")
def dark_sixteen_bit_gray_png(rng: Random) -> tuple[bytes, Shown]:
    """A picture of a dark room stays one: its tones are not spread."""
    stored = deep_noise(rng) >> 4
    return png(stored, bits=16), stored / 257


@taken(".png")
def gray_and_alpha_png(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng, 10, 14, 2)
    return png(stored), over_white(stored[..., 0], stored[..., 1])


@taken(".png")
def color_and_alpha_png(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng, 10, 14, 4)
    return png(stored), over_white(stored[..., :3], stored[..., 3])


@taken(".png")
def png_with_colors_hidden_under_alpha(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng, 10, 14, 4)
    stored[..., 3] = np.where(stored[..., 0] < 128, 0, 255)
    return png(stored), hidden(stored[..., :3], stored[..., 3] == 0)


@taken(".png")
def png_that_is_wholly_transparent(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng, 10, 14, 4)
    stored[..., 3] = 0
    return png(stored), np.full((10, 14), 255)


@taken(".png", each=((1, 0), (2, 1), (4, 5), (8, 77), (16, 0x1234)))
def gray_png_with_a_transparent_gray(rng: Random, bits: int, key: int) -> tuple[bytes, Shown]:
    """Of bits, and the sample that is transparent."""
    stored = rng.integers(0, 2**bits, (10, 14)).astype(np.uint16 if bits == 16 else np.uint8)
    stored[2:5, 3:9] = key
    data = png(stored, (b"tRNS", struct.pack(">H", key)), bits=bits)
    return data, hidden(stored * (255 / (2**bits - 1)), stored == key)


@taken(".png", each=(8, 16))
def color_png_with_a_transparent_color(rng: Random, bits: int) -> tuple[bytes, Shown]:
    stored = noise(rng) if bits == 8 else deep_noise(rng, 10, 14, 3)
    stored[2:5, 3:9] = key = stored[0, 0]
    data = png(stored, (b"tRNS", key.astype(">u2").tobytes()), bits=bits)
    return data, hidden(stored * (255 / (2**bits - 1)), (stored == key).all(-1))


@taken(".png", each=(1, 2, 4, 8))
def palette_png_of_bits(rng: Random, bits: int) -> tuple[bytes, Shown]:
    palette, stored = noise(rng, 2**bits, 3), noise(rng, 10, 14, levels=2**bits)
    return png(stored, (b"PLTE", palette.tobytes()), bits=bits), palette[stored]


@taken(".png", each=(1, 4, 8))
def palette_png_with_alpha_of_bits(rng: Random, bits: int) -> tuple[bytes, Shown]:
    """The last color has no entry in tRNS: it is opaque."""
    palette, stored = noise(rng, 2**bits, 3), noise(rng, 10, 14, levels=2**bits)
    alpha = np.append(noise(rng, 2**bits - 1), 255)
    data = png(
        stored, (b"PLTE", palette.tobytes()), (b"tRNS", alpha[:-1].astype(np.uint8).tobytes()), bits=bits
    )
    return data, over_white(palette[stored], alpha[stored])


@taken(".png")
def palette_png_of_seventeen_grays(rng: Random) -> tuple[bytes, Shown]:
    """Fewer colors than its bits allow."""
    palette, stored = np.sort(noise(rng, 17))[:, None].repeat(3, 1), noise(rng, 10, 14, levels=17)
    return png(stored, (b"PLTE", palette.tobytes())), palette[stored]


@taken(".png", reference=False)
def palette_png_with_indices_beyond_its_palette(rng: Random) -> bytes:
    """An error in the file, which readers paint black or whatever they like."""
    return png(noise(rng, 10, 14), (b"PLTE", noise(rng, 2, 3).tobytes()))


@taken(".png", each=((1, 1), (8, 3), (8, 4), (16, 1), (16, 3)))
def interlaced_png(rng: Random, bits: int, channels: int) -> tuple[bytes, Shown]:
    """Of bits and channels."""
    stored = rng.integers(0, 2**bits, (11, 13, channels)).astype(np.uint16 if bits == 16 else np.uint8)
    levels = stored * (255 / (2**bits - 1))
    shown = levels if channels < 4 else over_white(levels[..., :3], levels[..., 3])
    return png(stored, bits=bits, interlaced=True), shown[..., 0] if channels == 1 else shown


@taken(".png")
def png_with_every_filter(rng: Random) -> tuple[bytes, Shown]:
    """Row k is stored as its difference from what filter k % 5 of the standard predicts."""
    stored = noise(rng, 15, 14, 3)
    past = np.pad(stored.astype(int), ((1, 0), (1, 0), (0, 0)))
    left, up, corner = past[1:, :-1], past[:-1, 1:], past[:-1, :-1]
    estimate = left + up - corner
    distances = np.stack([abs(estimate - each) for each in (left, up, corner)])
    paeth = np.choose(distances.argmin(axis=0), [left, up, corner])
    predicted = np.stack([np.zeros_like(left), left, up, (left + up) // 2, paeth])
    differences = [stored[y] - predicted[y % 5, y] for y in range(len(stored))]
    rows = b"".join(bytes([y % 5]) + row.astype(np.uint8).tobytes() for y, row in enumerate(differences))
    return PNG_START + ihdr(14, 15) + chunk(b"IDAT", zlib.compress(rows)) + PNG_END, stored


@taken(".png")
def png_in_chunks_of_one_byte(rng: Random) -> tuple[bytes, Shown]:
    """With empty ones between."""
    stored = noise(rng)
    pixels = zlib.compress(b"".join(b"\0" + row for row in packed_rows(stored, 8)))
    pieces = b"".join(chunk(b"IDAT", pixels[k : k + 1]) + chunk(b"IDAT", b"") for k in range(len(pixels)))
    return PNG_START + ihdr(14, 10) + pieces + PNG_END, stored


@taken(".png")
def png_with_bytes_behind(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return png(stored) + rng.bytes(3000), stored


@taken(".png")
def png_with_an_archive_behind(rng: Random) -> tuple[bytes, Shown]:
    """Both a picture and a .zip, for readers that begin at the end."""
    stored = noise(rng)
    return png(stored) + zipped({"other.png": png(255 - stored)}), stored


@taken(".png", each=("tEXt", "iTXt"))
def png_with_a_huge_text(rng: Random, kind: str) -> tuple[bytes, Shown]:
    """Programs that paint store their whole recipe so."""
    stored = noise(rng)
    text = (b"workflow\0" if kind == "tEXt" else b"workflow\0\0\0\0\0") + b"recipe " * 300_000
    return png(stored, (kind.encode(), text)), stored


@taken(".png")
def png_with_unknown_chunks(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return png(stored, (b"prIv", rng.bytes(50)), (b"teSt", b"")), stored


@taken(".png")
def png_of_ordinary_gamma(rng: Random) -> tuple[bytes, Shown]:
    """1/2.2, which is how sRGB is told to old readers."""
    stored = noise(rng)
    return png(stored, (b"gAMA", struct.pack(">I", 45455))), stored


@taken(".png")
def png_of_linear_gamma(rng: Random) -> tuple[bytes, Shown]:
    """Samples are proportional to light (PNG, 3rd edition, 11.3.2.2); browsers show it so."""
    stored = noise(rng)
    return png(stored, (b"gAMA", struct.pack(">I", 100_000))), linear_seen(stored / 255)


@taken(".png")
def animated_png(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return saved(stored, "PNG", save_all=True, append_images=[Image.fromarray(255 - stored)]), stored


@taken(".png")
def png_with_more_rows_than_it_declares(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    pixels = zlib.compress(b"".join(b"\0" + row for row in packed_rows(np.concatenate([stored, stored]), 8)))
    return PNG_START + ihdr(14, 10) + chunk(b"IDAT", pixels) + PNG_END, stored
