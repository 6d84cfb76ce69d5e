"""The spectrum sees a checkerboard of a few grey levels, blur and noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ganpipe.evaluation.spectrum import peak_db, sharpness, spectra
from ganpipe.samples.flowers import draw_flower

SIGNS = 1.0 - 2 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2)[:, :, None]


@pytest.fixture(scope="module")
def flowers() -> Tensor:
    """240 flowers at 32 pixels, as floats."""
    return torch.from_numpy(np.stack([np.asarray(draw_flower(k, size_px=32)) for k in range(240)])).float()


def _spectra(images: Tensor):  # type: ignore[no-untyped-def]
    return spectra(images.round().clamp(0, 255).to(torch.uint8))


@pytest.mark.parametrize(("height", "expected"), [(0, 0.0), (3, 6.0), (10, 15.0)])
def test_a_checkerboard_is_a_peak_and_real_images_have_none(
    flowers: Tensor, height: int, expected: float
) -> None:
    found = peak_db(_spectra(flowers[:120] + height * SIGNS), _spectra(flowers[120:]))
    assert found == 0 if height == 0 else found > expected


def test_a_checkerboard_in_one_channel_is_seen(flowers: Tensor) -> None:
    pattern = torch.cat([SIGNS, torch.zeros(32, 32, 2)], 2)
    assert peak_db(_spectra(flowers[:120] + 10 * pattern), _spectra(flowers[120:])) > 10


def test_noise_and_blur_are_no_peak_but_change_the_sharpness(flowers: Tensor) -> None:
    real = _spectra(flowers[120:])
    noisy = _spectra(
        flowers[:120] + 12 * torch.randn(120, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    )
    blurred = _spectra((flowers[:120] + flowers[:120].roll(1, 1) + flowers[:120].roll(1, 2)) / 3)
    assert peak_db(noisy, real) == peak_db(blurred, real) == 0
    assert sharpness(noisy, real).db > 1
    assert sharpness(blurred, real).db < -2
    fresh = sharpness(_spectra(flowers[:120]), real)
    assert abs(fresh.db) < 3 * fresh.error


def test_images_of_other_shapes_have_spectra() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 256, (300, 17, 40, 4), generator=generator).to(torch.uint8) for _ in range(2))
    assert peak_db(spectra(a), spectra(b)) == 0
    assert len(spectra(a).fine) == 300
