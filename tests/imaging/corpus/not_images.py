"""Files that are something else: other formats, programs, archives and what systems leave in folders."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np

from tests.imaging.corpus.encoding import saved, zipped
from tests.imaging.corpus.jpeg import jpeg
from tests.imaging.corpus.pictures import Random, noise, patches
from tests.imaging.corpus.png import png
from tests.imaging.corpus.registry import refused


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
