"""Decoded pixels: to floats and back, into a frame, onto a grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ganpipe.data.resize import resize_image
from ganpipe.imaging.grid import grid
from ganpipe.imaging.image import ImageShape
from ganpipe.imaging.tensors import to_float, to_uint8
from tests.conftest import noise_image


def test_every_byte_survives_the_way_to_float_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    floats = to_float(pixels)
    assert floats.min() == -1
    assert floats.max() == 1
    assert torch.equal(to_uint8(floats), pixels)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_any_image_fits_any_frame(fit: str, mode: str) -> None:
    for channels in (1, 3):
        pixels = resize_image(noise_image(0, (31, 9), mode), ImageShape(channels, 16, 32), fit)
        assert pixels.shape == (16, 32, channels)
        assert pixels.dtype == np.uint8


def test_pad_shows_the_whole_image_and_crop_fills_the_frame() -> None:
    white = Image.new("RGB", (40, 10), "white")
    padded, cropped = (resize_image(white, ImageShape(3, 16, 16), fit) for fit in ("pad", "crop"))
    assert padded.min() == 0
    assert cropped.min() == 255


def test_a_grid_shows_every_image_in_its_place() -> None:
    pixels = np.stack([np.full((64, 64, 1), 10 * k, np.uint8) for k in range(5)])
    sheet = np.asarray(grid(pixels, columns=3, gap_px=2))
    assert [int(sheet[2 + 66 * (k // 3), 2 + 66 * (k % 3), 0]) for k in range(5)] == [0, 10, 20, 30, 40]
