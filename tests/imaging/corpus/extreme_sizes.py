"""Files that are too much: images of no pixels or of too many, and small files that unpack to large ones."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from ganpipe.imaging.decode import HAS_AVIF
from tests.imaging.corpus.bmp import bmp
from tests.imaging.corpus.encoding import packed_rows, saved
from tests.imaging.corpus.gif import gif, gif_colors
from tests.imaging.corpus.jpeg import jpeg
from tests.imaging.corpus.pictures import Random, deep_noise, noise
from tests.imaging.corpus.png import PNG_END, PNG_START, chunk, ihdr, png
from tests.imaging.corpus.registry import refused
from tests.imaging.corpus.tiff import tiff, tiff_file
from tests.imaging.corpus.webp_avif import webp_of_one_color


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
