"""Images of every format with ICC profiles, usable or not."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import Image

from ganpipe.imaging.icc import srgb_profile
from tests.imaging.corpus.encoding import exif, saved
from tests.imaging.corpus.jpeg import jpeg, segment, with_segments
from tests.imaging.corpus.pictures import (
    Random,
    Shown,
    deep_noise,
    hidden,
    linear_seen,
    noise,
    over_white,
    patches,
    printed,
)
from tests.imaging.corpus.png import png
from tests.imaging.corpus.registry import taken
from tests.imaging.icc_profiles import (
    ADOBE,
    SRGB,
    SRGB_CURVE,
    cmyk_profile,
    gray_profile,
    rgb_profile,
    srgb_of_adobe,
    srgb_of_lab,
)
from tests.imaging.image_files import upright

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
