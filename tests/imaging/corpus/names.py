"""Shapes and names of files: single rows and columns, false extensions, hostile names."""

from __future__ import annotations

from tests.imaging.corpus.jpeg import jpeg
from tests.imaging.corpus.pictures import Random, Shown, noise, patches
from tests.imaging.corpus.png import plain_png, png
from tests.imaging.corpus.registry import add_case, taken


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
    add_case(__name__, f"a_name_with_{_name}", _file, plain_png)
