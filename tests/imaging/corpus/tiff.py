"""TIFF and BigTIFF: their writer, and images of every type of number, layout and compression."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import Image

from tests.imaging.corpus.encoding import packed_rows, saved
from tests.imaging.corpus.pictures import Random, Shown, deep_noise, gradient, noise, over_white, printed
from tests.imaging.corpus.registry import taken
from tests.imaging.icc_profiles import srgb_of_lab


def tiff(
    samples: np.ndarray,
    *,
    bits: int | None = None,
    big_endian: bool = False,
    wide: bool = False,
    planes: bool = False,
    tile_px: int = 0,
    deflated: bool = False,
    endless: bool = False,
    tags: dict[int, int | tuple[int, ...] | bytes] | None = None,
) -> bytes:
    """Samples `[H, W]` or `[H, W, C]` as a TIFF, or as a BigTIFF where `wide`, its directory at the end.

    In strips of five rows or in square tiles; `endless` ones name themselves as the next page.
    """
    height, width, channels = (*samples.shape, 1)[:3]
    bits = bits or 8 * samples.itemsize
    parts = [samples[..., k] for k in range(channels)] if planes else [samples]
    if tile_px:
        starts = [(y, x) for y in range(0, height, tile_px) for x in range(0, width, tile_px)]
        blocks = [
            _filled(part[y : y + tile_px, x : x + tile_px], tile_px) for part in parts for y, x in starts
        ]
    else:
        blocks = [part[y : y + 5] for part in parts for y in range(0, height, 5)]
    data = [b"".join(packed_rows(block, bits, big_endian)) for block in blocks]
    data = [zlib.compress(block) for block in data] if deflated else data
    start = 16 if wide else 8
    offsets = tuple(start + sum(map(len, data[:k])) for k in range(len(data)))
    fields = {
        256: width,
        257: height,
        258: (bits,) * channels,
        259: 8 if deflated else 1,
        262: 1 if channels < 3 else 2,
        277: channels,
        284: 2 if planes else 1,
        339: ({"u": 1, "i": 2, "f": 3}[samples.dtype.kind],) * channels,
    }
    lengths = tuple(map(len, data))
    area = (
        {322: tile_px, 323: tile_px, 324: offsets, 325: lengths}
        if tile_px
        else {273: offsets, 278: 5, 279: lengths}
    )
    return tiff_file(fields | area | (tags or {}), b"".join(data), big_endian, wide, endless)


def _filled(block: np.ndarray, tile_px: int) -> np.ndarray:
    missing = [(0, tile_px - size) for size in block.shape[:2]]
    return np.pad(block, missing + [(0, 0)] * (block.ndim - 2))


def tiff_file(
    fields: dict[int, int | tuple[int, ...] | bytes],
    data: bytes = b"",
    big_endian: bool = False,
    wide: bool = False,
    endless: bool = False,
) -> bytes:
    """A TIFF of these tags; the data of its pixels begin at byte 8, of a BigTIFF's at 16."""
    order, word, start = ">" if big_endian else "<", "Q" if wide else "I", 16 if wide else 8
    heap, rows = data + b"\0" * (len(data) % 2), b""
    for tag, value in sorted(fields.items()):
        kind, count, content = _field(value, order)
        if len(content) > struct.calcsize(word):
            place, heap = start + len(heap), heap + content + b"\0" * (len(content) % 2)
            content = struct.pack(order + word, place)
        rows += struct.pack(f"{order}HH{word}", tag, kind, count) + content.ljust(
            struct.calcsize(word), b"\0"
        )
    directory = start + len(heap)
    head = (b"MM" if big_endian else b"II") + (
        struct.pack(order + "3HQ", 43, 8, 0, directory) if wide else struct.pack(order + "HI", 42, directory)
    )
    number = struct.pack(order + ("Q" if wide else "H"), len(fields))
    return head + heap + number + rows + struct.pack(order + word, directory if endless else 0)


def _field(value: int | tuple[int, ...] | bytes, order: str) -> tuple[int, int, bytes]:
    """Kind, count and bytes of a tag's value: SHORT, LONG or UNDEFINED."""
    if isinstance(value, bytes):
        return 7, len(value), value
    values = value if isinstance(value, tuple) else (value,)
    kind, letter = (3, "H") if max(values) < 65536 else (4, "I")
    return kind, len(values), struct.pack(f"{order}{len(values)}{letter}", *values)


@taken(".tif", each=("little", "big"))
def color_tiff(rng: Random, end: str) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return tiff(stored, big_endian=end == "big"), stored


@taken(".tif", each=("little", "big"))
def sixteen_bit_gray_tiff(rng: Random, end: str) -> tuple[bytes, Shown]:
    stored = deep_noise(rng)
    return tiff(stored, big_endian=end == "big"), stored / 257


@taken(".tif", each=("little", "big"))
def sixteen_bit_color_tiff(rng: Random, end: str) -> tuple[bytes, Shown]:
    stored = deep_noise(rng, 10, 14, 3)
    return tiff(stored, big_endian=end == "big"), stored / 257


@taken(".tif", each=("little", "big"))
def sixteen_bit_tiff_in_planes(rng: Random, end: str) -> tuple[bytes, Shown]:
    stored = deep_noise(rng, 10, 14, 3)
    return tiff(stored, planes=True, big_endian=end == "big"), stored / 257


@taken(".tif", each=(1, 2, 4))
def gray_tiff_of_bits(rng: Random, bits: int) -> tuple[bytes, Shown]:
    stored = noise(rng, 10, 14, levels=2**bits)
    return tiff(stored, bits=bits), stored * (255 / (2**bits - 1))


@taken(".tif")
def twelve_bit_gray_tiff(rng: Random) -> tuple[bytes, Shown]:
    """As microscopes and medical cameras write it: 4095 is white."""
    stored = deep_noise(rng) >> 4
    return tiff(stored, bits=12), stored * (255 / 4095)


@taken(".tif", each=(1, 4, 8, 16))
def tiff_whose_zero_is_white_of_bits(rng: Random, bits: int) -> tuple[bytes, Shown]:
    stored = rng.integers(0, 2**bits, (10, 14)).astype(np.uint16 if bits == 16 else np.uint8)
    return tiff(stored, bits=bits, tags={262: 0}), 255 - stored * (255 / (2**bits - 1))


@taken(".tif", each=("little", "big"))
def float_tiff_from_zero_to_one(rng: Random, end: str) -> tuple[bytes, Shown]:
    stored = rng.random((10, 14), dtype=np.float32)
    return tiff(stored, big_endian=end == "big"), stored * 255


@taken(".tif")
def float_tiff_of_a_wide_range(rng: Random) -> tuple[bytes, Shown]:
    """Heights or temperatures: the darkest is black, the brightest white."""
    stored = rng.normal(0, 1000, (10, 14)).astype(np.float32)
    return tiff(stored), (stored - stored.min()) * (255 / (stored.max() - stored.min()))


@taken(".tif")
def float_tiff_whose_zero_is_white(rng: Random) -> tuple[bytes, Shown]:
    stored = rng.random((10, 14), dtype=np.float32)
    return tiff(stored, tags={262: 0}), 255 - stored * 255


@taken(".tif", reference=False)
def float_tiff_of_one_value(rng: Random) -> bytes:
    """Beyond 1, so that it has no range of its own."""
    return tiff(np.full((10, 14), 5 + rng.random(), np.float32))


@taken(".tif", each=("int16", "int32"))
def signed_tiff(rng: Random, kind: str) -> tuple[bytes, Shown]:
    stored = rng.integers(-30_000, 30_000, (10, 14)).astype(kind)
    return tiff(stored), (stored - float(stored.min())) * (255 / (stored.max() - float(stored.min())))


@taken(".tif")
def unsigned_32_bit_tiff(rng: Random) -> tuple[bytes, Shown]:
    """Half of its values are beyond those of a signed number."""
    stored = rng.integers(0, 2**32, (10, 14)).astype(np.uint32)
    return tiff(stored), (stored - float(stored.min())) * (255 / (stored.max() - float(stored.min())))


@taken(".tif", each=("8", "16"))
def tiff_with_alpha_of_bits(rng: Random, bits: str) -> tuple[bytes, Shown]:
    stored = noise(rng, 10, 14, 4) if bits == "8" else deep_noise(rng, 10, 14, 4)
    levels = stored / (1 if bits == "8" else 257)
    return tiff(stored, tags={338: 2}), over_white(levels[..., :3], levels[..., 3])


@taken(".tif")
def tiff_with_colors_times_alpha(rng: Random) -> tuple[bytes, Shown]:
    color, alpha = noise(rng), noise(rng, 10, 14) | 128
    stored = (color * (alpha[..., None] / 255.0)).round()
    seen = stored + 255.0 - alpha[..., None]
    return tiff(np.concatenate([stored, alpha[..., None]], axis=-1).astype(np.uint8), tags={338: 1}), seen


@taken(".tif")
def tiff_with_a_fourth_channel_that_is_no_alpha(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng, 10, 14, 4)
    return tiff(stored, tags={338: 0}), stored[..., :3]


@taken(".tif")
def gray_tiff_with_alpha(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng, 10, 14, 2)
    return tiff(stored, tags={338: 2}), over_white(stored[..., 0], stored[..., 1])


@taken(".tif")
def palette_tiff(rng: Random) -> tuple[bytes, Shown]:
    palette, stored = deep_noise(rng, 3, 256), noise(rng, 10, 14)
    colors = tuple(int(value) for value in palette.ravel())
    return tiff(stored, tags={262: 3, 320: colors}), (palette / 257).T[stored]


@taken(".tif", each=(8, 16))
def cmyk_tiff_of_bits(rng: Random, bits: int) -> tuple[bytes, Shown]:
    stored = noise(rng, 10, 14, 4) if bits == 8 else deep_noise(rng, 10, 14, 4)
    return tiff(stored, tags={262: 5}), printed(stored / (1 if bits == 8 else 257))


@taken(".tif")
def ycbcr_tiff(rng: Random) -> tuple[bytes, Shown]:
    stored = gradient(rng)
    y, cb, cr = (stored[..., 0], *(stored[..., k].astype(float) - 128 for k in (1, 2)))
    color = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    return tiff(stored, tags={262: 6, 530: (1, 1)}), color


@taken(".tif")
def lab_tiff(rng: Random) -> tuple[bytes, Shown]:
    """CIE Lab relative to D50, as Photoshop saves it: a and b are signed bytes."""
    lab = np.stack([np.linspace(20, 90, 40), *(20 * rng.random((2, 40)) - 10)], axis=-1)
    stored = np.round(lab * [2.55, 1, 1])
    seen = np.stack([srgb_of_lab(each / [2.55, 1, 1]) for each in stored]) * 255
    data = tiff(stored.astype(np.int16).astype(np.uint8)[None].repeat(6, 0), tags={262: 8})
    return data, seen[None].repeat(6, 0)


@taken(".tif", each=("tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma"))
def tiff_compressed_with(rng: Random, compression: str) -> tuple[bytes, Shown]:
    stored = noise(rng, 20, 30, 3)
    return saved(stored, "TIFF", compression=compression), stored


@taken(".tif")
def tiff_with_differences_compressed(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng, 20, 30, 3)
    return saved(stored, "TIFF", compression="tiff_lzw", tiffinfo={317: 2}), stored


@taken(".tif")
def tiff_compressed_as_jpeg(rng: Random) -> tuple[bytes, Shown]:
    stored = gradient(rng)
    return saved(stored, "TIFF", compression="jpeg", quality=100), stored


@taken(".tif", each=("group3", "group4"))
def fax_tiff(rng: Random, compression: str) -> tuple[bytes, Shown]:
    stored = noise(rng, 20, 30, levels=2) * 255
    return saved(Image.fromarray(stored).convert("1"), "TIFF", compression=compression), stored


@taken(".tif")
def tiff_with_deflated_strips(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng, 22, 30, 3)
    return tiff(stored, deflated=True), stored


@taken(".tif", each=("chunky", "planar"))
def tiled_tiff(rng: Random, kind: str) -> tuple[bytes, Shown]:
    stored = noise(rng, 21, 37, 3)
    return tiff(stored, tile_px=16, planes=kind == "planar"), stored


@taken(".tif")
def sixteen_bit_tiled_tiff(rng: Random) -> tuple[bytes, Shown]:
    stored = deep_noise(rng, 21, 37)
    return tiff(stored, tile_px=16, deflated=True, big_endian=True), stored / 257


@taken(".tif")
def tiff_in_planes(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return tiff(stored, planes=True), stored


@taken(".tif")
def big_tiff(rng: Random) -> tuple[bytes, Shown]:
    """With offsets of 64 bits; Pillow 13.0 takes only those that begin with the little end."""
    stored = noise(rng)
    return tiff(stored, wide=True), stored


@taken(".tif")
def tiff_of_several_pages(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    others = [Image.fromarray(noise(rng, 5, 7, 3)), Image.fromarray(255 - stored)]
    return saved(stored, "TIFF", save_all=True, append_images=others), stored


@taken(".tif")
def tiff_whose_pages_never_end(rng: Random) -> tuple[bytes, Shown]:
    """Its directory names itself as the next."""
    stored = noise(rng)
    return tiff(stored, endless=True), stored


@taken(".tif")
def tiff_whose_bits_run_backwards(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    backwards = np.packbits(np.unpackbits(stored[..., None], axis=-1), axis=-1, bitorder="little")[..., 0]
    return tiff(backwards, tags={266: 2}), stored
