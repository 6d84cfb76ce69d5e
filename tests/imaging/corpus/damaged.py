"""Files that are cut short or damaged, in every format."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np

from ganpipe.imaging.decode import HAS_AVIF
from tests.imaging.corpus.bmp import bmp
from tests.imaging.corpus.encoding import packed_rows, saved
from tests.imaging.corpus.gif import gif, gif_colors
from tests.imaging.corpus.jpeg import jpeg, without_segment
from tests.imaging.corpus.pictures import Random, noise
from tests.imaging.corpus.png import PNG_END, PNG_START, chunk, ihdr, png
from tests.imaging.corpus.registry import refused
from tests.imaging.corpus.tiff import tiff, tiff_file


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
