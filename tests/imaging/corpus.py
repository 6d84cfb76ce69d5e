"""A generated corpus of bad, odd and hostile files for whatever takes in pictures.

Every case is a small function: it returns the bytes of a file and, where the file must be taken, the pixels
that people see when they open it, worked out from the numbers that went into the file and not from what a
decoder made of them. What Pillow does not write is written here by hand (`png`, `tiff`, `bmp`, `gif`, …).

    for case in cases():
        case.make(folder / os.fsdecode(case.file))
"""

from __future__ import annotations

import json
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganpipe.imaging.decode import HAS_AVIF, MAX_BYTES
from ganpipe.imaging.icc import srgb_profile
from tests.imaging.test_decode import (
    ADOBE,
    SRGB,
    SRGB_CURVE,
    cmyk_profile,
    gray_profile,
    rgb_profile,
    srgb_of_adobe,
    srgb_of_lab,
    srgb_of_light,
    upright,
)

Random = np.random.Generator
Shown = np.ndarray  # what is seen: [H, W] or [H, W, 3] of any type, in 0…255
Build = Callable[..., Any]  # from a Random, and perhaps more, to bytes or to bytes and Shown


@dataclass(frozen=True)
class Case:
    """One file, and what is to become of it."""

    name: str
    file: bytes  # its name in the folder: any bytes but / and 0
    make: Callable[[Path], None]
    code: frozenset[str] | None  # None: it must be taken; else one of these refusals
    expected: Callable[[], np.ndarray] | None  # uint8 [H, W, 3], over white; None: there is no one truth
    tolerance: int = 2
    root_reads_it: bool = False  # to be left out where os.geteuid() is 0


CASES: list[Case] = []


def cases() -> list[Case]:
    """The whole corpus; each case has a name, a file name and (links apart) a content of its own."""
    return list(CASES)


def taken(
    extension: str,
    each: Iterable[Any] = ((),),
    reference: bool = True,
    tolerance: int = 2,
    where: bool = True,
) -> Callable[[Build], Build]:
    """Makes a case, or one for each of some arguments, of a function that returns a file and what it shows.

    Without `reference` the function returns the file alone: it must be taken, as whatever it is.
    """

    def register(build: Build) -> Build:
        for arguments in each if where else ():
            given = arguments if isinstance(arguments, tuple) else (arguments,)
            name = "_".join([build.__name__, *(str(value).lower() for value in given)])
            _add(name, f"{name}{extension}".encode(), build, given, reference=reference, tolerance=tolerance)
        return build

    return register


def refused(*codes: str, file: str, where: bool = True) -> Callable[[Build], Build]:
    """Makes a case of a function that returns a file that must be refused with one of these codes."""

    def register(build: Build) -> Build:
        if where:
            _add(build.__name__, file.encode(), build, code=frozenset(codes), reference=False)
        return build

    return register


def special(
    *codes: str, file: str, root_reads_it: bool = False
) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Makes a case of a function that makes what is no plain file at a path."""

    def register(make: Callable[[Path], None]) -> Callable[[Path], None]:
        code = frozenset(codes)
        CASES.append(Case(make.__name__, file.encode(), make, code, None, root_reads_it=root_reads_it))
        return make

    return register


def _add(
    name: str,
    file: bytes,
    build: Build,
    arguments: tuple[Any, ...] = (),
    code: frozenset[str] | None = None,
    reference: bool = True,
    tolerance: int = 2,
) -> None:
    run = partial(_run, build, name, arguments)
    expected = partial(_expect, run) if reference else None
    CASES.append(Case(name, file, partial(_write, run), code, expected, tolerance))


def _run(build: Build, name: str, arguments: tuple[Any, ...]) -> Any:
    """Every case draws from a generator of its own, so that no two pictures are the same."""
    return build(np.random.default_rng(zlib.crc32(name.encode())), *arguments)


def _write(run: Callable[[], Any], path: Path) -> None:
    result = run()
    path.write_bytes(result[0] if isinstance(result, tuple) else result)


def _expect(run: Callable[[], tuple[bytes, Shown]]) -> np.ndarray:
    shown = np.asarray(run()[1], dtype=np.float64)
    if shown.ndim == 2:
        shown = shown[..., None].repeat(3, axis=2)
    return shown.round().clip(0, 255).astype(np.uint8)


# What is in the images.


def noise(rng: Random, *shape: int, levels: int = 256) -> np.ndarray:
    """uint8 `[H, W, …]` below `levels`."""
    return rng.integers(0, levels, shape or (10, 14, 3), dtype=np.uint8)


def deep_noise(rng: Random, *shape: int) -> np.ndarray:
    """uint16 `[H, W, …]` of all 65536 values."""
    return rng.integers(0, 65536, shape or (10, 14), dtype=np.uint16)


def gradient(rng: Random, height_px: int = 24, width_px: int = 40, channels: int = 3) -> np.ndarray:
    """uint8 `[H, W, C]` between four quiet colors in the corners, which lossy formats keep."""
    corners = rng.uniform(90, 165, (2, 2, 1)) + rng.uniform(-30, 30, (2, 2, channels))
    y, x = np.linspace(0, 1, height_px)[:, None, None], np.linspace(0, 1, width_px)[None, :, None]
    top, bottom = ((1 - x) * corners[k, 0] + x * corners[k, 1] for k in range(2))
    return ((1 - y) * top + y * bottom).round().astype(np.uint8)


def patches(rng: Random, height_px: int = 30, width_px: int = 44, channels: int = 3) -> np.ndarray:
    """uint8 `[H, W, C]` of squares of 16 pixels, of one color each: of a block of a JPEG one number remains."""
    colors = noise(rng, -(-height_px // 16), -(-width_px // 16), channels)
    return colors.repeat(16, axis=0).repeat(16, axis=1)[:height_px, :width_px]


def over_white(color: np.ndarray, alpha: np.ndarray) -> Shown:
    """Colors `[H, W]` or `[H, W, 3]` seen through alpha `[H, W]` in 0…255, in front of white."""
    share = (alpha if color.ndim == 2 else alpha[..., None]) / 255.0
    return color * share + 255.0 * (1 - share)


def hidden(color: np.ndarray, where: np.ndarray) -> Shown:
    """White where `[H, W]` nothing shows."""
    return over_white(color, np.where(where, 0, 255))


def printed(inks: np.ndarray) -> Shown:
    """Computes the colors of inks `[H, W, 4]` in 0…255 without a profile: each takes its share of the light."""
    light = 255.0 - inks
    return light[..., :3] * light[..., 3:] / 255.0


def linear_seen(light: np.ndarray) -> Shown:
    """Light in [0, 1] as sRGB in 0…255."""
    return srgb_of_light(light) * 255


# What writes the files.


def saved(picture: np.ndarray | Image.Image, format: str, **options: Any) -> bytes:
    """Encodes a picture with Pillow."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


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


# Images upright, whichever way they lie in the file.


@taken(".jpg", each=range(1, 9))
def jpeg_with_orientation(rng: Random, orientation: int) -> tuple[bytes, Shown]:
    stored = patches(rng)
    data = with_segments(jpeg(stored), segment(0xE1, b"Exif\0\0" + exif(orientation, orientation % 2 == 0)))
    return data, upright(stored, orientation)


@taken(".png", each=range(1, 9))
def png_with_orientation(rng: Random, orientation: int) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return png(stored, (b"eXIf", exif(orientation, True))), upright(stored, orientation)


@taken(".png", each=(3, 6))
def png_with_orientation_behind_its_pixels(rng: Random, orientation: int) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return png(stored, late=((b"eXIf", exif(orientation)),)), upright(stored, orientation)


@taken(".webp", each=range(1, 9))
def webp_with_orientation(rng: Random, orientation: int) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return saved(stored, "WEBP", lossless=True, exif=exif(orientation)), upright(stored, orientation)


@taken(".tif", each=range(1, 9))
def tiff_with_orientation(rng: Random, orientation: int) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return tiff(stored, tags={274: orientation}), upright(stored, orientation)


@taken(".tif", each=(5, 8))
def deep_tiff_with_orientation(rng: Random, orientation: int) -> tuple[bytes, Shown]:
    stored = deep_noise(rng)
    return tiff(stored, big_endian=True, tags={274: orientation}), upright(stored / 257, orientation)


@taken(".avif", each=range(1, 9), where=HAS_AVIF)
def avif_with_orientation(rng: Random, orientation: int) -> tuple[bytes, Shown]:
    stored = gradient(rng)
    data = saved(stored, "AVIF", quality=100, subsampling="4:4:4", speed=10, exif=exif(orientation))
    return data, upright(stored, orientation)


@taken(".jpg", each=(0, 9, 65535))
def jpeg_with_impossible_orientation(rng: Random, orientation: int) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return with_segments(jpeg(stored), segment(0xE1, b"Exif\0\0" + exif(orientation))), stored


@taken(".jpg")
def jpeg_with_orientation_as_text(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return with_segments(jpeg(stored), segment(0xE1, b"Exif\0\0" + exif(ord("6"), kind=2))), stored


@taken(".jpg")
def jpeg_with_damaged_exif(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return with_segments(jpeg(stored), segment(0xE1, b"Exif\0\0" + rng.bytes(300))), stored


@taken(".jpg")
def jpeg_with_exif_cut_short(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return with_segments(jpeg(stored), segment(0xE1, b"Exif\0\0" + exif(6)[:14])), stored


@taken(".jpg")
def jpeg_with_exif_that_declares_gigabytes(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return with_segments(jpeg(stored), segment(0xE1, b"Exif\0\0" + exif(6, kind=12, count=2**32 - 1))), stored


@taken(".jpg")
def jpeg_with_exif_that_ends_nowhere(rng: Random) -> tuple[bytes, Shown]:
    """Its first directory is at the end of 4 GB."""
    stored = patches(rng)
    return with_segments(jpeg(stored), segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff")), stored


@taken(".png")
def png_with_damaged_exif(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return png(stored, (b"eXIf", b"no such thing")), stored


@taken(".webp")
def webp_with_damaged_exif(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return saved(stored, "WEBP", lossless=True, exif=b"II*\0\xff\xff\xff\xff no such thing"), stored


# JPEG.


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


# PNG.


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


# Shapes and names of files.


@taken(".png", each=((1, 1), (1, 40), (40, 1), (2, 3), (1, 4000), (4000, 1), (3, 700)))
def png_of_height_and_width(rng: Random, height_px: int, width_px: int) -> tuple[bytes, Shown]:
    stored = noise(rng, height_px, width_px, 3)
    return png(stored), stored


@taken(".jpg", each=((1, 1), (1, 30), (30, 1)))
def jpeg_of_height_and_width(rng: Random, height_px: int, width_px: int) -> tuple[bytes, Shown]:
    stored = patches(rng, height_px, width_px)
    return jpeg(stored), stored


@taken(".jpg")
def png_called_jpg(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return png(stored), stored


@taken(".png")
def jpeg_called_png(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return jpeg(stored), stored


@taken(".txt")
def png_called_txt(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return png(stored), stored


@taken("")
def png_without_extension(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return png(stored), stored


@taken(".JPG")
def jpeg_in_capitals(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return jpeg(stored), stored


@taken(".PnG")
def png_in_mixed_case(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return png(stored), stored


NAMES = {
    "spaces": b"two  words and more.png",
    "a_leading_space": b" space.png",
    "a_trailing_space": b"space.png ",
    "a_trailing_dot": b"dot.png.",
    "quotes": b'it\'s "quoted" `so`.png',
    "a_newline": b"two\nlines.png",
    "a_carriage_return": b"two\rlines\r\n.png",
    "a_tab": b"a\ttab.png",
    "a_bell_and_colors": b"\x1b[31mred\x1b[0m\a.png",
    "an_emoji": "🐈‍⬛ cat.png".encode(),
    "arabic": "صورة.png".encode(),
    "reversed_reading": "gnp.\u202egpj.png".encode(),
    "composed_accents": "caf\u00e9.png".encode(),
    "decomposed_accents": "cafe\u0301.png".encode(),
    "bytes_that_are_no_utf8": b"\xff\xfe\x80picture.png",
    "latin1": b"caf\xe9.png",
    "half_a_surrogate": b"\xed\xa0\x80.png",
    "all_255_bytes": b"n" * 251 + b".png",
    "all_255_bytes_of_emoji": "🌻".encode() * 62 + b"abc.png",
    "small_letters": b"case.png",
    "capital_letters": b"CASE.png",
    "a_leading_dash": b"-rf.png",
    "two_leading_dots": b"..png",
    "three_dots": b"...",
    "dots_and_backslashes": b"..\\..\\etc\\passwd.png",
    "escaped_slashes": b"..%2F..%2Fetc%2Fpasswd.png",
    "a_hidden_file": b".hidden.png",
    "only_an_extension": b".png",
    "wildcards": b"[a-z]*?.png",
    "percent_signs": b"%s %d 100%.png",
    "braces": b"{name} {0} {{.png",
    "a_command": b"$(touch owned); rm -rf ~ & .png",
    "a_tilde": b"~",
    "markup": b"<img src=x onerror=alert(1)>.png",
    "a_formula": b"=1+1, -2;3.png",
    "a_colon": b"file:name.png",
    "a_name_of_a_windows_device": b"CON.png",
    "a_source_s_name": b"sample:flowers",
    "idx_in_it": b"images-idx3-ubyte.png",
    "a_number": b"007",
}


for _name, _file in NAMES.items():
    _add(f"a_name_with_{_name}", _file, plain_png)


# GIF.


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


# TIFF.


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


# BMP.


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


# WebP and AVIF.


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


# Color profiles.


SWAPPED = rgb_profile(SRGB[:, [1, 0, 2]], SRGB_CURVE)  # what it calls red is sRGB's green
ADOBE_RGB = rgb_profile(ADOBE, 563 / 256)


@taken(".png")
def png_of_adobe_rgb(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return saved(stored, "PNG", icc_profile=ADOBE_RGB), srgb_of_adobe(stored / 255) * 255


@taken(".png", tolerance=3)  # Pillow keeps 8 of 16 bits of color, before the profile spreads them
def sixteen_bit_png_of_adobe_rgb(rng: Random) -> tuple[bytes, Shown]:
    stored = 8192 + deep_noise(rng, 10, 14, 3) // 2
    profile = (b"iCCP", b"Adobe\0\0" + zlib.compress(ADOBE_RGB))
    return png(stored.astype(np.uint16), profile, bits=16), srgb_of_adobe(stored / 65535) * 255


@taken(".jpg")
def jpeg_of_adobe_rgb(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return jpeg(stored, icc_profile=ADOBE_RGB), srgb_of_adobe(stored / 255) * 255


@taken(".jpg")
def jpeg_whose_profile_is_in_three_pieces(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    long = rgb_profile(SRGB[:, [1, 0, 2]], SRGB_CURVE, {b"priv": b"data\0\0\0\0" + rng.bytes(150_000)})
    return jpeg(stored, icc_profile=long), stored[..., [1, 0, 2]]


@taken(".jpg")
def jpeg_that_lacks_a_piece_of_its_profile(rng: Random) -> tuple[bytes, Shown]:
    """Without it there is no profile."""
    stored = patches(rng)
    piece = segment(0xE2, b"ICC_PROFILE\0\x01\x02" + SWAPPED[:300])
    return with_segments(jpeg(stored), piece), stored


@taken("", each=("PNG", "TIFF", "WEBP"))
def swapped_channels_in_a(rng: Random, format: str) -> tuple[bytes, Shown]:
    stored = noise(rng)
    options = {"lossless": True} if format == "WEBP" else {}
    return saved(stored, format, icc_profile=SWAPPED, **options), stored[..., [1, 0, 2]]


@taken(".png")
def swapped_channels_of_a_palette(rng: Random) -> tuple[bytes, Shown]:
    palette, stored = noise(rng, 16, 3), noise(rng, 10, 14, levels=16)
    alpha = noise(rng, 16)
    chunks = [
        (b"iCCP", b"swapped\0\0" + zlib.compress(SWAPPED)),
        (b"PLTE", palette.tobytes()),
        (b"tRNS", alpha.tobytes()),
    ]
    return png(stored, *chunks, bits=4), over_white(palette[stored][..., [1, 0, 2]], alpha[stored])


@taken(".png")
def swapped_channels_under_alpha_turned(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng, 10, 14, 4)
    shown = over_white(stored[..., [1, 0, 2]], stored[..., 3])
    data = png(stored, (b"iCCP", b"swapped\0\0" + zlib.compress(SWAPPED)), (b"eXIf", exif(8)))
    return data, upright(shown, 8)


@taken(".png")
def png_of_linear_gray(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng, 10, 14)
    return saved(stored, "PNG", icc_profile=gray_profile(1.0)), linear_seen(stored / 255)


@taken(".png")
def sixteen_bit_png_of_linear_gray(rng: Random) -> tuple[bytes, Shown]:
    """Eight bits are too few for the dark tones of linear light: 1 of 255 is seen as 13."""
    stored = deep_noise(rng)
    profile = (b"iCCP", b"linear\0\0" + zlib.compress(gray_profile(1.0)))
    return png(stored, profile, bits=16), linear_seen(stored / 65535)


@taken(".png", tolerance=13)
def sixteen_bit_png_of_linear_color(rng: Random) -> tuple[bytes, Shown]:
    """As renderers write it. Of 16-bit color Pillow keeps 8 bits: a linear profile's darkest tones are steps of 13."""
    stored = deep_noise(rng, 10, 14, 3)
    profile = (b"iCCP", b"linear\0\0" + zlib.compress(rgb_profile(SRGB, 1.0)))
    return png(stored, profile, bits=16), linear_seen(stored / 65535)


@taken(".png")
def gray_png_of_a_color_profile(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng, 10, 14)
    return saved(stored, "PNG", icc_profile=rgb_profile(SRGB, 1.0)), linear_seen(stored / 255)


@taken(".png")
def gray_png_of_a_profile_with_a_transparent_gray(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng, 10, 14)
    key = int(stored[3, 4])
    chunks = [(b"iCCP", b"linear\0\0" + zlib.compress(gray_profile(1.0))), (b"tRNS", struct.pack(">H", key))]
    return png(stored, *chunks), hidden(linear_seen(stored / 255), stored == key)


UNUSABLE = {
    "that_is_noise": b"no such profile at all, whatever it says" * 9,
    "cut_short": srgb_profile()[:400],
    "of_gray": gray_profile(1.0),
    "of_inks": cmyk_profile(np.zeros((2, 2, 2, 2, 3))),
    "of_srgb": srgb_profile(),
}


@taken(".png", each=UNUSABLE)
def color_png_with_a_profile(rng: Random, kind: str) -> tuple[bytes, Shown]:
    """Broken, of other channels, or sRGB: the numbers are taken for sRGB."""
    stored = noise(rng)
    return saved(stored, "PNG", icc_profile=UNUSABLE[kind]), stored


@taken(".jpg", each=("that_is_noise", "of_gray"))
def cmyk_jpeg_with_a_profile(rng: Random, kind: str) -> tuple[bytes, Shown]:
    inks = patches(rng, channels=4)
    return jpeg(Image.fromarray(inks, "CMYK"), icc_profile=UNUSABLE[kind]), printed(inks)


@taken("", each=("JPEG", "TIFF"))
def inks_of_a_press_in_a(rng: Random, format: str) -> tuple[bytes, Shown]:
    """All cyan looks as the profile's table says."""
    lab = np.zeros((2, 2, 2, 2, 3))
    lab[0, 0, 0, 0], lab[1, 0, 0, 0] = (100, 0, 0), (60, -30, -30)
    inks = np.zeros((16, 32, 4), np.uint8)
    inks[:, 16:, 0] = 255
    shown = np.full((16, 32, 3), 255.0)
    shown[:, 16:] = srgb_of_lab(lab[1, 0, 0, 0]) * 255
    options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {}
    return saved(Image.fromarray(inks, "CMYK"), format, icc_profile=cmyk_profile(lab), **options), shown


# Files that are cut short or damaged.


def half(data: bytes) -> bytes:
    """Cuts a file in half, as a full disk leaves it."""
    return data[: len(data) // 2]


@refused("damaged", file="half.jpg")
def jpeg_cut_in_half(rng: Random) -> bytes:
    return half(jpeg(noise(rng, 48, 48, 3)))


@refused("damaged", file="half progressive.jpg")
def progressive_jpeg_cut_in_half(rng: Random) -> bytes:
    return half(jpeg(noise(rng, 48, 48, 3), progressive=True))


@refused("damaged", file="no end.jpg")
def jpeg_without_its_end_marker(rng: Random) -> bytes:
    """All its pixels are there, but nothing in the file says so."""
    return jpeg(noise(rng, 48, 48, 3))[:-2]


@refused("damaged", file="zeros.jpg")
def jpeg_that_ends_in_zeros(rng: Random) -> bytes:
    """As a crash of the file system leaves it."""
    data = jpeg(noise(rng, 48, 48, 3))
    return half(data) + bytes(len(data) - len(data) // 2)


@refused("damaged", "not_an_image", file="header.jpg")
def jpeg_of_a_header_alone(rng: Random) -> bytes:
    data = jpeg(noise(rng))
    return data[: data.index(b"\xff\xda")]


@refused("damaged", "not_an_image", file="start.jpg")
def jpeg_of_three_bytes(rng: Random) -> bytes:
    return b"\xff\xd8\xff"


@refused("damaged", "not_an_image", file="no tables.jpg")
def jpeg_without_its_tables(rng: Random) -> bytes:
    return without_segment(without_segment(jpeg(noise(rng)), 0xDB), 0xC4)


@refused("damaged", "not_an_image", "too_small", file="no height.jpg")
def jpeg_without_height(rng: Random) -> bytes:
    data = jpeg(noise(rng))
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + b"\0\0" + data[place + 2 :]


@refused("damaged", file="half.png")
def png_cut_in_half(rng: Random) -> bytes:
    return half(png(noise(rng, 48, 48, 3)))


@refused("damaged", "not_an_image", file="header.png")
def png_of_a_header_alone(rng: Random) -> bytes:
    return PNG_START + ihdr(14, 10)


@refused("damaged", "not_an_image", file="start.png")
def png_of_eight_bytes(rng: Random) -> bytes:
    return PNG_START


@refused("damaged", "not_an_image", file="lf.png")
def png_sent_as_text(rng: Random) -> bytes:
    """Its line ends were changed on the way."""
    return png(noise(rng)).replace(b"\r\n", b"\n")


def _stored_png(rng: Random, spoil: Callable[[bytearray], None]) -> bytes:
    """Its pixels are not compressed, so that one byte more or less decodes to something."""
    rows = b"".join(b"\0" + row for row in packed_rows(noise(rng), 8))
    pixels = bytearray(chunk(b"IDAT", zlib.compress(rows, 0)))
    spoil(pixels)
    return PNG_START + ihdr(14, 10) + bytes(pixels) + PNG_END


@refused("damaged", "not_an_image", file="wrong sum.png")
def png_with_a_wrong_check_sum(rng: Random) -> bytes:
    """Of its pixels, which are as they should be."""

    def spoil(pixels: bytearray) -> None:
        pixels[-1] ^= 1

    return _stored_png(rng, spoil)


@refused("damaged", "not_an_image", file="wrong pixel.png")
def png_with_a_changed_pixel(rng: Random) -> bytes:
    """Both its check sums, the chunk's and zlib's, tell it."""

    def spoil(pixels: bytearray) -> None:
        pixels[100] ^= 255

    return _stored_png(rng, spoil)


@refused("damaged", "not_an_image", file="wrong zlib.png")
def png_with_a_damaged_stream(rng: Random) -> bytes:
    pixels = bytearray(zlib.compress(noise(rng, 48, 146).tobytes()))
    pixels[len(pixels) // 2 :] = rng.bytes(len(pixels) - len(pixels) // 2)
    return PNG_START + ihdr(48, 48) + chunk(b"IDAT", bytes(pixels)) + PNG_END


@refused("damaged", "not_an_image", file="wrong start.png")
def png_whose_header_has_a_wrong_check_sum(rng: Random) -> bytes:
    data = png(noise(rng))
    return data[:29] + bytes([data[29] ^ 1]) + data[30:]


@refused("damaged", "not_an_image", file="few rows.png")
def png_with_fewer_rows_than_it_declares(rng: Random) -> bytes:
    pixels = zlib.compress(b"".join(b"\0" + row for row in packed_rows(noise(rng), 8)))
    return PNG_START + ihdr(14, 20) + chunk(b"IDAT", pixels) + PNG_END


@refused("damaged", "not_an_image", file="no pixels.png")
def png_with_empty_pixels(rng: Random) -> bytes:
    return PNG_START + ihdr(14, 10) + chunk(b"IDAT", b"") + PNG_END


@refused("damaged", "not_an_image", file="no pixels at all.png")
def png_without_pixels(rng: Random) -> bytes:
    return PNG_START + ihdr(14, 10) + PNG_END


@refused("damaged", "not_an_image", file="no palette.png")
def palette_png_without_palette(rng: Random) -> bytes:
    pixels = zlib.compress(b"".join(b"\0" + row for row in packed_rows(noise(rng, 10, 14), 8)))
    return PNG_START + ihdr(14, 10, color=3) + chunk(b"IDAT", pixels) + PNG_END


@refused("damaged", "not_an_image", file="filter nine.png")
def png_with_an_unknown_filter(rng: Random) -> bytes:
    pixels = zlib.compress(b"".join(b"\x09" + row for row in packed_rows(noise(rng), 8)))
    return PNG_START + ihdr(14, 10) + chunk(b"IDAT", pixels) + PNG_END


@refused("damaged", "not_an_image", file="seven bits.png")
def png_of_seven_bits(rng: Random) -> bytes:
    return PNG_START + ihdr(14, 10, bits=7, color=0) + chunk(b"IDAT", zlib.compress(bytes(150))) + PNG_END


@refused("damaged", "not_an_image", file="long chunk.png")
def png_with_a_chunk_of_two_gigabytes(rng: Random) -> bytes:
    return PNG_START + ihdr(14, 10) + struct.pack(">I", 2**31 - 1) + b"tEXt" + rng.bytes(200)


@refused("damaged", "not_an_image", file="iphone.png")
def png_of_an_iphone_program(rng: Random) -> bytes:
    """Apple's CgBI: blue first, and no zlib header, which no other reader shows."""
    squeeze = zlib.compressobj(wbits=-15)
    pixels = squeeze.compress(b"".join(b"\0" + row for row in packed_rows(noise(rng, 10, 14, 4), 8)))
    body = chunk(b"IDAT", pixels + squeeze.flush()) + PNG_END
    return PNG_START + chunk(b"CgBI", b"\x50\0\x20\x06") + ihdr(14, 10, color=6) + body


@refused("damaged", file="half.gif")
def gif_cut_in_half(rng: Random) -> bytes:
    return gif(noise(rng, 48, 48), gif_colors(rng))[:2200]


@refused("damaged", "not_an_image", file="header.gif")
def gif_of_a_header_alone(rng: Random) -> bytes:
    return gif(noise(rng, 20, 30), gif_colors(rng))[: 13 + 768]


@refused("damaged", "not_an_image", file="no frame.gif")
def gif_without_a_frame(rng: Random) -> bytes:
    return gif(noise(rng, 20, 30), gif_colors(rng))[: 13 + 768] + b";"


@refused("damaged", "not_an_image", file="half.webp")
def webp_cut_in_half(rng: Random) -> bytes:
    return half(saved(noise(rng, 48, 48, 3), "WEBP", lossless=True))


@refused("damaged", "not_an_image", file="half lossy.webp")
def lossy_webp_cut_in_half(rng: Random) -> bytes:
    return half(saved(noise(rng, 48, 48, 3), "WEBP", quality=90))


@refused("damaged", "not_an_image", file="wrong.webp")
def webp_with_a_damaged_stream(rng: Random) -> bytes:
    data = saved(noise(rng, 48, 48, 3), "WEBP", lossless=True)
    return data[:30] + rng.bytes(len(data) - 30)


@refused("damaged", "not_an_image", file="header.webp")
def webp_of_a_header_alone(rng: Random) -> bytes:
    return saved(noise(rng), "WEBP", lossless=True)[:20]


@refused("damaged", "not_an_image", file="half.avif", where=HAS_AVIF)
def avif_cut_in_half(rng: Random) -> bytes:
    return half(saved(noise(rng, 48, 48, 3), "AVIF", speed=10))


@refused("damaged", "not_an_image", file="half.tif")
def tiff_that_lost_its_directory(rng: Random) -> bytes:
    return half(tiff(noise(rng, 48, 48, 3)))


@refused("damaged", file="half pixels.tif")
def tiff_that_lost_half_its_pixels(rng: Random) -> bytes:
    return half(saved(noise(rng, 48, 48, 3), "TIFF"))


@refused("damaged", file="half deflated.tif")
def deflated_tiff_that_lost_half_its_pixels(rng: Random) -> bytes:
    data = tiff(noise(rng, 48, 48, 3), deflated=True)
    return data[:8] + bytes(3000) + data[3008:]


@refused("damaged", "not_an_image", file="elsewhere.tif")
def tiff_whose_pixels_are_elsewhere(rng: Random) -> bytes:
    return tiff(noise(rng), tags={273: (10**9, 10**9 + 210)})


@refused("damaged", "not_an_image", file="many tags.tif")
def tiff_of_65535_tags(rng: Random) -> bytes:
    return b"II*\0\x08\0\0\0\xff\xff" + rng.bytes(300)


@refused("damaged", "not_an_image", "memory", file="long list.tif")
def tiff_whose_list_of_strips_is_gigabytes_long(rng: Random) -> bytes:
    entry = struct.pack("<HHI", 273, 3, 2)
    return tiff(noise(rng)).replace(entry, struct.pack("<HHI", 273, 4, 2**30))


@refused("damaged", "not_an_image", file="no strips.tif")
def tiff_without_pixels(rng: Random) -> bytes:
    return tiff_file({256: 14, 257: 10, 258: (8, 8, 8), 259: 1, 262: 2, 277: 3})


@refused("damaged", "not_an_image", file="nan.tif")
def float_tiff_with_a_nan(rng: Random) -> bytes:
    stored = rng.random((10, 14), dtype=np.float32)
    stored[3, 4] = np.nan
    return tiff(stored)


@refused("damaged", "not_an_image", file="inf.tif")
def float_tiff_with_an_infinity(rng: Random) -> bytes:
    stored = rng.random((10, 14), dtype=np.float32)
    stored[3, 4] = np.inf
    return tiff(stored)


@refused("damaged", file="half.bmp")
def bmp_cut_in_half(rng: Random) -> bytes:
    return half(bmp(packed_rows(noise(rng, 48, 48, 3), 8), 48, 48, 24))


@refused("damaged", "not_an_image", file="endless.bmp")
def bmp_of_runs_that_stop(rng: Random) -> bytes:
    return bmp(b"\x05\x07" * 3, 15, 10, 8, compression=1, palette=noise(rng, 256, 3))


# Files that are too much.


@refused("too_many_pixels", "damaged", "not_an_image", "too_small", file="no width.png")
def png_without_width(rng: Random) -> bytes:
    return PNG_START + ihdr(0, 10) + chunk(b"IDAT", zlib.compress(bytes(10))) + PNG_END


@refused("damaged", "not_an_image", "too_small", file="no size.gif")
def gif_without_size(rng: Random) -> bytes:
    return gif(noise(rng, 0, 0), gif_colors(rng))


@refused("damaged", "not_an_image", "too_small", file="no width.bmp")
def bmp_without_width(rng: Random) -> bytes:
    return bmp([b""] * 10, 0, 10, 24)


@refused("damaged", "not_an_image", "too_small", file="no width.tif")
def deep_tiff_without_width(rng: Random) -> bytes:
    return tiff(deep_noise(rng, 10, 0))


@refused("damaged", "not_an_image", "too_small", file="no height.tif")
def deep_tiff_without_height(rng: Random) -> bytes:
    return tiff(deep_noise(rng, 10, 14), tags={257: 0})


@refused("too_many_pixels", file="bomb.png")
def png_of_60000_pixels_square(rng: Random) -> bytes:
    return PNG_START + ihdr(60_000, 60_000) + chunk(b"IDAT", zlib.compress(bytes(100_000))) + PNG_END


@refused("too_many_pixels", "damaged", "not_an_image", file="largest.png")
def png_of_all_the_pixels_there_are(rng: Random) -> bytes:
    return PNG_START + ihdr(2**31 - 1, 2**31 - 1) + chunk(b"IDAT", zlib.compress(bytes(1000))) + PNG_END


@refused("too_many_pixels", file="bomb.gif")
def gif_of_a_huge_canvas(rng: Random) -> bytes:
    return gif(noise(rng, 6, 9), gif_colors(rng), canvas=(65535, 65535))


@refused("too_many_pixels", "damaged", file="grown.gif")
def gif_whose_frame_is_far_outside_its_canvas(rng: Random) -> bytes:
    return gif(noise(rng, 6, 9), gif_colors(rng), canvas=(30, 20), at=(65_000, 65_000))


@refused("too_many_pixels", "damaged", file="bomb.tif")
def tiff_of_60000_pixels_square(rng: Random) -> bytes:
    return tiff(noise(rng), tags={256: 60_000, 257: 60_000})


@refused("too_many_pixels", "damaged", "memory", file="bomb tile.tif")
def tiff_with_one_tile_of_16384_pixels_square(rng: Random) -> bytes:
    """The picture has 140 pixels; its tile, which must be unpacked whole, has 268 million."""
    side = 16_384
    block = zlib.compressobj(9, wbits=-15)
    zeros = block.compress(bytes(2**20)) + block.flush(zlib.Z_FULL_FLUSH)
    pixels = b"\x78\xda" + zeros * (side * side // 2**20)
    pixels += b"\x03\0" + struct.pack(">HH", side * side % 65521, 1)  # the end, and Adler's sum of zeros
    tags = {256: 14, 257: 10, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: len(pixels)}
    return tiff_file(tags, pixels)


@refused("too_many_pixels", file="bomb.webp")
def webp_of_16383_pixels_square(rng: Random) -> bytes:
    """Thirty bytes, and valid."""
    return webp_of_one_color(16_383, 16_383, (1, 2, 3))


@refused("too_many_pixels", "damaged", "not_an_image", file="bomb.bmp")
def bmp_of_60000_pixels_square(rng: Random) -> bytes:
    return bmp(packed_rows(noise(rng), 8), 60_000, 60_000, 24)


@refused("too_many_pixels", file="bomb.jpg")
def jpeg_of_65500_pixels_square(rng: Random) -> bytes:
    data = jpeg(noise(rng))
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", 65_500, 65_500) + data[place + 4 :]


@refused("too_many_pixels", "damaged", "not_an_image", file="bomb.avif", where=HAS_AVIF)
def avif_of_60000_pixels_square(rng: Random) -> bytes:
    data = saved(noise(rng, 16, 16, 3), "AVIF", speed=10)
    place = data.index(b"ispe") + 8
    return data[:place] + struct.pack(">II", 60_000, 60_000) + data[place + 8 :]


@refused("bomb", "time", file="scans.jpg")
def jpeg_of_a_thousand_scans(rng: Random) -> bytes:
    """Each of 14 bytes goes over all pixels again: of 8000 pixels square a megabyte would take an hour."""
    data = jpeg(np.full((600, 600), rng.integers(60, 200), np.uint8), progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * 1000 + b"\xff\xd9"


@refused("damaged", "not_an_image", "too_large", "memory", file="text bomb.png")
def png_with_a_compressed_text_of_64_megabytes(rng: Random) -> bytes:
    return png(noise(rng), (b"zTXt", b"text\0\0" + zlib.compress(bytes(2**26), 1)))


@refused("damaged", "not_an_image", "too_large", "memory", file="profile bomb.png")
def png_with_a_compressed_profile_of_64_megabytes(rng: Random) -> bytes:
    return png(noise(rng), (b"iCCP", b"profile\0\0" + zlib.compress(bytes(2**26), 1)))


# Files that are something else.


@refused("empty", file="empty.jpg")
def file_of_no_bytes(rng: Random) -> bytes:
    return b""


@refused("not_an_image", file="one byte.jpg")
def file_of_one_byte(rng: Random) -> bytes:
    return b"\xff"


@refused("not_an_image", file="text.jpg")
def text_called_jpg(rng: Random) -> bytes:
    return b"This is not a picture.\n" * 20


@refused("not_an_image", file="page.png")
def web_page_called_png(rng: Random) -> bytes:
    """The page that a server sends instead of a picture that is gone."""
    return b"<!DOCTYPE html><html><head><title>404</title></head><body>Not Found</body></html>\n"


@refused("not_an_image", file="pointer.jpg")
def pointer_of_git_lfs(rng: Random) -> bytes:
    return (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:"
        + rng.bytes(32).hex().encode()
        + b"\nsize 12345\n"
    )


@refused("not_an_image", file="random.jpg")
def random_bytes(rng: Random) -> bytes:
    return rng.bytes(5000)


@refused("not_an_image", file="zeros.png")
def zero_bytes(rng: Random) -> bytes:
    return bytes(5000)


@refused("not_an_image", file="paper.jpg")
def pdf_called_jpg(rng: Random) -> bytes:
    return b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


@refused("not_an_image", file="drawing.svg")
def svg_that_reads_files(rng: Random) -> bytes:
    return (
        b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><text>&x;</text></svg>'
    )


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n(%pipe%touch owned) (w) file\nshowpage\n%%EOF\n"


@refused("not_an_image", file="drawing.eps")
def eps(rng: Random) -> bytes:
    """Pillow would start Ghostscript over it."""
    return EPS


@refused("not_an_image", file="drawing.png")
def eps_called_png(rng: Random) -> bytes:
    return EPS.replace(b"owned", b"taken")


@refused("not_an_image", file="drawing dos.jpg")
def eps_of_dos_called_jpg(rng: Random) -> bytes:
    return b"\xc5\xd0\xd3\xc6" + struct.pack("<6IH", 30, len(EPS), 0, 0, 0, 0, 0xFFFF) + EPS


@refused("not_an_image", file="icon.ico")
def ico(rng: Random) -> bytes:
    return saved(noise(rng, 32, 32, 4), "ICO")


@refused("not_an_image", file="layers.psd")
def psd(rng: Random) -> bytes:
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 10, 14, 8, 3)
    return head + bytes(12) + b"\0\0" + np.moveaxis(noise(rng), -1, 0).tobytes()


@refused("not_an_image", file="map.ppm")
def ppm(rng: Random) -> bytes:
    return saved(noise(rng), "PPM")


@refused("not_an_image", file="wavelets.jp2")
def jpeg_2000(rng: Random) -> bytes:
    return b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 " + rng.bytes(400)


@refused("not_an_image", "damaged", file="photo.heic")
def heic_without_a_picture(rng: Random) -> bytes:
    return b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + bytes(12) + rng.bytes(400)


@refused("not_an_image", file="pixels.tga")
def tga(rng: Random) -> bytes:
    return saved(noise(rng), "TGA")


@refused("not_an_image", file="pixels.pcx")
def pcx(rng: Random) -> bytes:
    return saved(noise(rng), "PCX")


@refused("not_an_image", file="letters.xbm")
def xbm(rng: Random) -> bytes:
    return b"#define a_width 8\n#define a_height 2\nstatic char a_bits[] = {\n0x55, 0xaa};\n"


def zipped(files: dict[str, bytes]) -> bytes:
    """An archive of these files."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


@refused("not_an_image", file="pictures.zip")
def archive_among_the_pictures(rng: Random) -> bytes:
    return zipped({"picture.png": png(noise(rng)), "../../outside.png": png(noise(rng))})


@refused("not_an_image", file="pictures.tar.gz")
def gzip_among_the_pictures(rng: Random) -> bytes:
    squeeze = zlib.compressobj(wbits=31)
    return squeeze.compress(png(noise(rng))) + squeeze.flush()


@refused("not_an_image", file="._picture.jpg")
def apple_double(rng: Random) -> bytes:
    """The file that macOS leaves beside each file on other file systems."""
    return struct.pack(">II16xHIII", 0x00051607, 0x00020000, 1, 9, 38, 82) + bytes(82) + rng.bytes(32)


@refused("not_an_image", file="Thumbs.db")
def thumbs_db(rng: Random) -> bytes:
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + b"\x3e\0\x03\0\xfe\xff\x09\0" + rng.bytes(2000)


@refused("not_an_image", file=".DS_Store")
def ds_store(rng: Random) -> bytes:
    return b"\0\0\0\x01Bud1" + rng.bytes(600)


@refused("not_an_image", file="picture.json")
def description_beside_a_picture(rng: Random) -> bytes:
    return json.dumps({"prompt": "a cat", "seed": int(rng.integers(10**6))}).encode()


@refused("not_an_image", file="program.png")
def program_called_png(rng: Random) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(9) + rng.bytes(500)


@refused("not_an_image", file="pickle.jpg")
def pickle_called_jpg(rng: Random) -> bytes:
    """It would run a command where it was unpickled."""
    return b"cos\nsystem\n(S'touch owned'\ntR."


@refused("not_an_image", file="newline first.jpg")
def jpeg_behind_a_newline(rng: Random) -> bytes:
    return b"\n" + jpeg(patches(rng))


@refused("not_an_image", file="\ufefftext first.png")
def png_behind_a_byte_order_mark(rng: Random) -> bytes:
    return b"\xef\xbb\xbf" + png(noise(rng))


# What is no file that can be read.


@special("not_a_file", file="pipe.png")
def fifo(path: Path) -> None:
    """Opening it would wait for a writer for ever."""
    os.mkfifo(path)


@special("not_a_file", "unreadable", file="socket.png")
def socket(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


@special("not_a_file", "link", file="zero.png")
def link_to_endless_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


@special("not_a_file", "empty", "link", file="null.png")
def link_to_nothing(path: Path) -> None:
    path.symlink_to("/dev/null")


@special("empty", "not_an_image", "link", "unreadable", file="environment.png")
def link_to_what_the_kernel_tells(path: Path) -> None:
    """A regular file of 0 bytes, and yet something to read."""
    path.symlink_to("/proc/self/environ")


@special("unreadable", file="secret.png", root_reads_it=True)
def file_that_nobody_may_read(path: Path) -> None:
    path.write_bytes(png(noise(np.random.default_rng(0))))
    path.chmod(0)


@special("unreadable", "dangling_link", "link", file="dangling.png")
def link_to_what_is_gone(path: Path) -> None:
    path.symlink_to("gone/for/ever.png")


@special("unreadable", "link_loop", "link", file="itself.png")
def link_to_itself(path: Path) -> None:
    path.symlink_to("itself.png")


@special("unreadable", "link_loop", "dangling_link", "link", file="loop 1.png")
def first_of_two_links_in_a_loop(path: Path) -> None:
    path.symlink_to("loop 2.png")


@special("unreadable", "link_loop", "dangling_link", "link", file="loop 2.png")
def second_of_two_links_in_a_loop(path: Path) -> None:
    path.symlink_to("loop 1.png")


@special("too_large", file="large.png")
def file_of_more_bytes_than_are_read(path: Path) -> None:
    """It takes no room on the disk: all of it but its start is a hole."""
    path.write_bytes(PNG_START)
    os.truncate(path, MAX_BYTES + 1)
