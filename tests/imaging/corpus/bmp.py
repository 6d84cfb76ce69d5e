"""BMP: its writer, and images of every depth, with masks and of runs."""

from __future__ import annotations

import struct

import numpy as np

from tests.imaging.corpus.encoding import packed_rows
from tests.imaging.corpus.pictures import Random, Shown, noise, over_white
from tests.imaging.corpus.registry import taken


def bmp(
    rows: list[bytes] | bytes,
    width_px: int,
    height_px: int,
    bits: int,
    *,
    compression: int = 0,
    palette: np.ndarray | None = None,
    masks: tuple[int, ...] = (),
) -> bytes:
    """Rows from the bottom up, or from the top down where the height is negative, or the bytes of RLE.

    `palette` is `[N, 3]` RGB; three `masks` follow the header, four are part of a longer one (version 4).
    """
    data = rows if isinstance(rows, bytes) else b"".join(row + b"\0" * (-len(row) % 4) for row in rows)
    colors = b"" if palette is None else np.insert(palette[:, ::-1], 3, 0, axis=1).astype(np.uint8).tobytes()
    more = struct.pack(f"<{len(masks)}I", *masks)
    more += b"BGRs" + b"\0" * 48 if len(masks) == 4 else b""
    size = 40 + (len(more) if len(masks) == 4 else 0)
    start = 14 + 40 + len(more) + len(colors)
    used = 0 if palette is None else len(palette)
    info = struct.pack(
        "<IiiHHIIiiII", size, width_px, height_px, 1, bits, compression, len(data), 2835, 2835, used, 0
    )
    return struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start) + info + more + colors + data


@taken(".bmp", each=("bottom", "top"))
def bmp_that_begins_at_the(rng: Random, first: str) -> tuple[bytes, Shown]:
    stored = noise(rng, 10, 15, 3)
    rows = packed_rows(stored[..., ::-1], 8)
    return (bmp(rows, 15, -10, 24) if first == "top" else bmp(rows[::-1], 15, 10, 24)), stored


@taken(".bmp", each=(1, 4, 8))
def palette_bmp_of_bits(rng: Random, bits: int) -> tuple[bytes, Shown]:
    palette, stored = noise(rng, 2**bits, 3), noise(rng, 10, 15, levels=2**bits)
    return bmp(packed_rows(stored, bits)[::-1], 15, 10, bits, palette=palette), palette[stored]


@taken(".bmp", each=((5, 5), (6, 5)))
def sixteen_bit_bmp(rng: Random, green_bits: int, other_bits: int) -> tuple[bytes, Shown]:
    """Of bits of green, and of red and blue."""
    sizes = np.array([other_bits, green_bits, other_bits])
    stored = rng.integers(0, 2**sizes, (10, 15, 3))
    shifts = np.array([green_bits + other_bits, other_bits, 0])
    rows = packed_rows((stored << shifts).sum(axis=-1).astype(np.uint16), 16, big_endian=False)[::-1]
    masks = tuple(int(value) for value in (2**sizes - 1) << shifts)
    data = bmp(rows, 15, 10, 16) if green_bits == 5 else bmp(rows, 15, 10, 16, compression=3, masks=masks)
    return data, stored * (255 / (2**sizes - 1))


@taken(".bmp", each=("zero", "noise"))
def bmp_of_32_bits_with_a_fourth_byte_of(rng: Random, rest: str) -> tuple[bytes, Shown]:
    """The fourth is no alpha, whatever it holds."""
    stored = noise(rng, 10, 15, 4)
    stored[..., 3] *= rest == "noise"
    return bmp(packed_rows(stored, 8)[::-1], 15, 10, 32), stored[..., 2::-1]


@taken(".bmp")
def bmp_with_alpha(rng: Random) -> tuple[bytes, Shown]:
    """By the masks of its header's version 4."""
    stored = noise(rng, 10, 15, 4)
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    data = bmp(packed_rows(stored, 8)[::-1], 15, 10, 32, compression=3, masks=masks)
    return data, over_white(stored[..., 2::-1], stored[..., 3])


@taken(".bmp")
def bmp_of_runs(rng: Random) -> tuple[bytes, Shown]:
    """RLE8: runs in the even rows, bytes as they are in the odd ones."""
    palette, stored = noise(rng, 256, 3), noise(rng, 10, 15)
    stored[::2] = stored[::2, :1]
    data = b""
    for y, row in enumerate(stored[::-1]):
        literal = bytes([0, 15]) + row.tobytes() + b"\0"
        data += (bytes([15, row[0]]) if (9 - y) % 2 == 0 else literal) + b"\0\0"
    return bmp(data + b"\0\1", 15, 10, 8, compression=1, palette=palette), palette[stored]


@taken(".bmp")
def bmp_of_runs_of_half_bytes(rng: Random) -> tuple[bytes, Shown]:
    """RLE4: a run alternates between two colors."""
    palette, pairs = noise(rng, 16, 3), noise(rng, 10, 2, levels=16)
    stored = np.tile(pairs, 7)
    data = b"".join(bytes([14, a << 4 | b, 0, 0]) for a, b in pairs[::-1])
    return bmp(data + b"\0\1", 14, 10, 4, compression=2, palette=palette), palette[stored]


@taken(".bmp")
def bmp_of_os2(rng: Random) -> tuple[bytes, Shown]:
    """A header of 12 bytes, and colors of three."""
    palette, stored = noise(rng, 256, 3), noise(rng, 10, 16)
    head = struct.pack("<2sIHHI", b"BM", 26 + 768 + 160, 0, 0, 26 + 768) + struct.pack(
        "<I4H", 12, 16, 10, 1, 8
    )
    return head + palette[:, ::-1].tobytes() + b"".join(packed_rows(stored, 8)[::-1]), palette[stored]
