"""Decoded images are sRGB, whatever their color profile says."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ganpipe.imaging.decode import decode_image
from ganpipe.imaging.icc import srgb_profile
from tests.conftest import noise_image
from tests.imaging.icc_profiles import (
    ADOBE,
    SRGB,
    SRGB_CURVE,
    cmyk_profile,
    gray_profile,
    rgb_profile,
    srgb_of_adobe,
    srgb_of_lab,
    srgb_of_light,
)
from tests.imaging.image_files import encoded, exif_with


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_profile_of_swapped_channels_swaps_them_back_and_keeps_alpha(mode: str, format: str) -> None:
    """The channel that the file calls red is sRGB's green."""
    profile = rgb_profile(SRGB[:, [1, 0, 2]], SRGB_CURVE)
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    stored = noise_image(0, mode=mode)
    image = decode_image(encoded(stored, format, icc_profile=profile, exif=exif_with(6), **options))
    expected = np.rot90(np.asarray(stored), -1)[..., [1, 0, 2, 3][: len(mode)]]
    assert image.mode == mode
    assert image.info.get("icc_profile") in (None, srgb_profile())
    np.testing.assert_allclose(np.asarray(image, dtype=int), expected, atol=2)
    np.testing.assert_array_equal(np.asarray(image)[..., 3:], expected[..., 3:])


def test_adobe_rgb_is_converted_as_its_definition_says() -> None:
    stored = noise_image(0, (64, 64))
    image = decode_image(encoded(stored, "PNG", icc_profile=rgb_profile(ADOBE, 563 / 256)))
    np.testing.assert_allclose(np.asarray(image), srgb_of_adobe(np.asarray(stored) / 255) * 255, atol=2)


def test_a_palette_is_converted_too() -> None:
    stored = noise_image(0).quantize(16)
    image = decode_image(encoded(stored, "PNG", icc_profile=rgb_profile(ADOBE, 563 / 256)))
    expected = srgb_of_adobe(np.asarray(stored.convert("RGB")) / 255) * 255
    np.testing.assert_allclose(np.asarray(image), expected, atol=2)


@pytest.mark.parametrize("profile", [gray_profile(1.0), rgb_profile(SRGB, 1.0)], ids=["gray", "RGB"])
def test_linear_gray_becomes_brighter_and_stays_gray(profile: bytes) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = decode_image(encoded(Image.fromarray(ramp), "PNG", icc_profile=profile))
    assert image.mode == "L"
    np.testing.assert_allclose(np.asarray(image), srgb_of_light(ramp / 255) * 255, atol=2)
    both = Image.merge("LA", (Image.fromarray(ramp), Image.fromarray(255 - ramp)))
    image = decode_image(encoded(both, "PNG", icc_profile=profile))
    assert image.mode == "LA"
    np.testing.assert_allclose(np.asarray(image)[..., 0], srgb_of_light(ramp / 255) * 255, atol=2)
    np.testing.assert_array_equal(np.asarray(image)[..., 1], 255 - ramp)


def test_cmyk_is_converted_by_its_profile() -> None:
    """The inks of a made-up press; all that has black is black."""
    lab = np.zeros((2, 2, 2, 2, 3))
    inks = {
        (0, 0, 0): (100, 0, 0),
        (1, 0, 0): (60, -30, -30),
        (0, 1, 0): (50, 60, 0),
        (0, 0, 1): (90, -5, 80),
        (1, 1, 0): (30, 20, -40),
        (1, 0, 1): (50, -40, 30),
        (0, 1, 1): (45, 50, 30),
        (1, 1, 1): (0, 0, 0),
    }
    for index, color in inks.items():
        lab[(*index, 0)] = color
    for index in inks:
        stored = Image.new("CMYK", (16, 16), (*(255 * k for k in index), 0))
        image = decode_image(encoded(stored, "TIFF", icc_profile=cmyk_profile(lab)))
        assert image.mode == "RGB"
        np.testing.assert_allclose(np.asarray(image)[8, 8], srgb_of_lab(lab[(*index, 0)]) * 255, atol=2)


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        ("RGB", b"broken"),
        ("RGB", srgb_profile()[:400]),
        ("RGB", gray_profile(1.0)),
        ("RGB", cmyk_profile(np.zeros((2, 2, 2, 2, 3)))),
        ("L", cmyk_profile(np.zeros((2, 2, 2, 2, 3)))),
        ("RGB", srgb_profile()),
        ("RGB", rgb_profile(SRGB, SRGB_CURVE)),
        ("L", srgb_profile()),
    ],
    ids=["broken", "cut short", "gray", "CMYK", "CMYK of gray", "sRGB", "another sRGB", "sRGB of gray"],
)
def test_a_profile_that_is_broken_or_of_other_channels_or_srgb_changes_nothing(
    mode: str, profile: bytes
) -> None:
    stored = noise_image(0, (200, 200), mode)
    image = decode_image(encoded(stored, "PNG", icc_profile=profile))
    np.testing.assert_array_equal(np.asarray(image), np.asarray(stored))
