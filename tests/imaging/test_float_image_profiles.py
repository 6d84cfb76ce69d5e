"""Images into style transfer: color profiles are converted at 16 bits."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganpipe.imaging.decode import decode_image
from ganpipe.imaging.float_image import read_float_image
from ganpipe.imaging.icc import srgb_profile
from tests.imaging.icc_profiles import (
    ADOBE,
    D50,
    SRGB,
    SRGB_CURVE,
    fixed,
    gray_profile,
    rgb_profile,
    srgb_of_adobe,
    srgb_of_light,
)
from tests.imaging.image_files import png_bytes, tiff_bytes
from tests.imaging.samples import integers, noise, saved


def adobe(kind: str) -> bytes:
    table = np.linspace(0, 1, 4096) ** (563 / 256)
    return rgb_profile(ADOBE, table if kind == "table" else 563 / 256 if kind == "gamma" else (0, 563 / 256))


@pytest.mark.parametrize("kind", ["gamma", "table", "parametric"])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_adobe_rgb_is_converted_at_sixteen_bits(tmp_path: Path, format: str, kind: str) -> None:
    """Closed form; the numbers of a profile are rounded to 1/65536."""
    samples, profile = noise(3), adobe(kind)
    chunk = (b"iCCP", iccp(profile))
    data = png_bytes(samples, chunk) if format == "PNG" else tiff_bytes(samples, tags={34675: profile})
    image = read_float_image(saved(data, tmp_path))
    assert image.bit_depth == 16
    expected = srgb_of_adobe(samples / 65535)
    difference = np.abs(image.pixels[0].permute(1, 2, 0).numpy() - expected)
    assert np.median(difference) < 3e-5
    assert difference.max() < 2e-3  # where light is about 0, that rounding is multiplied by 12.92
    eight = np.asarray(decode_image(data)) / 255
    np.testing.assert_allclose(eight, expected, atol=2.5 / 255)


def iccp(profile: bytes) -> bytes:
    return b"a\0\0" + zlib.compress(profile)


# The kinds 0 to 4 of ICC.1:2010, table 65: their values, and what they make of x.
PARAMETRIC: list[tuple[tuple[float, ...], Any]] = [
    ((0, 1.8), lambda x: x**1.8),
    ((1, 2.0, 1.25, -0.25), lambda x: np.where(x >= 0.2, (1.25 * x - 0.25) ** 2, 0)),
    ((2, 2.0, 1.0, -0.0625, 0.12109375), lambda x: np.where(x >= 0.0625, (x - 0.0625) ** 2, 0) + 0.12109375),
    (SRGB_CURVE, lambda x: np.where(x >= 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)),
    (
        (4, 2.0, 0.75, 0.125, 1.0, 0.25, 0.234375, 0.08203125),
        lambda x: np.where(x >= 0.25, (0.75 * x + 0.125) ** 2 + 0.234375, x + 0.08203125),
    ),
]


@pytest.mark.parametrize(("values", "formula"), PARAMETRIC, ids=range(5))
def test_each_kind_of_curve_is_that_of_the_specification(
    tmp_path: Path, values: tuple[float, ...], formula: Any
) -> None:
    """Little CMS agrees at 8 bits. On sRGB's primaries, so that only the curve acts, and what is darkest is black."""
    samples = np.linspace(0, 65535, 100).round().astype(np.uint16).reshape(10, 10, 1)
    light, black = formula(samples[..., 0] / 65535), formula(np.float64(0))
    expected = srgb_of_light((light - black) / (1 - black))
    for profile in (gray_profile(values), rgb_profile(SRGB, values)):
        path = saved(png_bytes(samples, (b"iCCP", iccp(profile))), tmp_path)
        image = read_float_image(path)
        assert image.bit_depth == 16
        np.testing.assert_allclose(image.pixels[0, 1].numpy(), expected, atol=5e-4)
        eight = np.asarray(decode_image(path.read_bytes())) / 255
        np.testing.assert_allclose(eight, expected, atol=3 / 255)


def test_a_profile_of_tables_is_converted_at_eight_bits(tmp_path: Path) -> None:
    """A2B0 with two points a side: black is black, and every other corner, such as red, a fifth of the light."""
    grid = np.array(D50) / 5 * np.arange(8).clip(0, 1)[:, None]
    tables = struct.pack(">6H", *(0, 65535) * 3)
    table = (
        b"mft2\0\0\0\0" + bytes((3, 3, 2, 0)) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + struct.pack(">2H", 2, 2)
    )
    table += tables + (grid * 32768).round().astype(">u2").tobytes() + tables
    red = np.full((8, 8, 3), (65535, 0, 0), np.uint16)
    chunk = (b"iCCP", iccp(rgb_profile(SRGB, 1.0, {b"A2B0": table})))
    image = read_float_image(saved(png_bytes(red, chunk), tmp_path))
    assert image.bit_depth == 8
    expected = torch.full((1, 3, 8, 8), float(srgb_of_light(np.float64(0.2))))
    torch.testing.assert_close(image.pixels, expected, rtol=0, atol=2 / 255)


@pytest.mark.parametrize("profile", [b"broken", srgb_profile()[:400], srgb_profile(), gray_profile(1.0)])
def test_a_profile_that_says_nothing_leaves_sixteen_bits_as_they_are(tmp_path: Path, profile: bytes) -> None:
    samples = noise(3)
    image = read_float_image(saved(png_bytes(samples, (b"iCCP", iccp(profile))), tmp_path))
    np.testing.assert_array_equal(integers(image.pixels[0], 16), samples)
