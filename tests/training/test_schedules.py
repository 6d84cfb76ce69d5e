"""Schedules as functions of the images seen, the published ones among them."""

from __future__ import annotations

import pytest

from ganpipe.compute.schedules import cosine
from ganpipe.settings.presets import preset_row
from ganpipe.settings.schema import Settings
from ganpipe.training.schedules import values_at


def test_a_cosine_begins_and_ends_where_it_should() -> None:
    assert cosine(2.0, 0.2, 0, 100) == 2.0
    assert cosine(2.0, 0.2, 50, 100) == pytest.approx(1.1)
    assert cosine(2.0, 0.2, 100, 100) == cosine(2.0, 0.2, 1000, 100) == pytest.approx(0.2)


def test_the_published_schedules_of_ffhq64() -> None:
    """Huang et al. 2025, appendix: from 0 to 20 million images."""
    settings = Settings().with_values(preset_row("ffhq64"))
    start, end = values_at(0, settings), values_at(20_000_000, settings)
    assert (start.g_lr, start.beta2, start.gamma, start.augment, start.ema_halflife_images) == (
        2e-4,
        0.9,
        2.0,
        0.0,
        0.0,
    )
    assert end.g_lr == pytest.approx(5e-5)
    assert end.beta2 == pytest.approx(0.99)
    assert end.gamma == pytest.approx(0.2)
    assert end.augment == pytest.approx(0.3)
    assert end.ema_halflife_images == pytest.approx(500_000)
    assert settings.training.batch_images == 256
    assert settings.training.beta1 == 0.0
