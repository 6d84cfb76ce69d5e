"""Augmentation, and the controller that turns it up as D begins to know the training images by heart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from ganpipe.errors import GanpipeError
from ganpipe.settings.schema import Settings
from ganpipe.training.ada import AdaState, r_v
from ganpipe.training.augment import DRAWS, HIGHEST_P, KINDS, augment, parse_kinds
from ganpipe.training.callbacks import Callbacks, Point
from ganpipe.training.trainer import train
from tests.conftest import R3, noise_data, with_


def some_draws(count: int = 6) -> torch.Tensor:
    return torch.rand(count, DRAWS, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_augmentation_changes_nothing_at_0_and_most_images_at_1(kind: str) -> None:
    images = torch.randn(6, 3, 12, 16)
    zero, one = torch.tensor(0.0), torch.tensor(1.0)
    torch.testing.assert_close(augment(images, some_draws(), zero, (kind,)), images, atol=1e-5, rtol=1e-5)
    changed = augment(images, some_draws(), one, (kind,))
    assert changed.shape == images.shape
    moved = [(a - b).abs().max() > 1e-3 for a, b in zip(changed, images, strict=True)]
    assert sum(moved) >= 4  # a translation may be by no pixel


def test_augmentation_can_be_differentiated_twice() -> None:
    """R1 goes through it: the penalty of a quadratic D has the right second derivative by finite differences."""
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    draws = some_draws(2)

    def judge(x: torch.Tensor) -> torch.Tensor:
        return augment(x, draws, torch.tensor(1.0), KINDS).square().sum()

    assert torch.autograd.gradgradcheck(judge, (images,), eps=1e-6, atol=1e-4)


def test_translation_moves_whole_pixels() -> None:
    images = torch.arange(16.0 * 16).view(1, 1, 16, 16)
    draws = torch.zeros(1, DRAWS)
    draws[:, 1] = 0.99  # two pixels across: an eighth of 16
    draws[:, 2] = 0.5
    moved = augment(images, draws, torch.tensor(1.0), ("translation",))
    torch.testing.assert_close(moved[..., :14], images[..., 2:])


def smooth_images() -> torch.Tensor:
    """Random images of 64×64 without fine details."""
    coarse = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    return F.interpolate(coarse, size=(64, 64), mode="bicubic", align_corners=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("times", [2, 4])
def test_the_same_draws_change_every_scale_alike(kind: str, times: int) -> None:
    """A changed image that is pooled is the pooled image changed, for images without fine details, inside their edges."""
    images, draws, p = smooth_images(), some_draws(), torch.tensor(1.0)
    if kind == "cutout":
        images = torch.ones_like(images)  # the rectangle's edge is a fine detail of anything else
    expected = F.avg_pool2d(augment(images, draws, p, (kind,)), times)
    found = augment(F.avg_pool2d(images, times), draws, p, (kind,), times)
    assert (found - expected).abs().mean() < 0.02 * images.abs().mean()
    if kind in ("color", "cutout"):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_color_changes_keep_gray_gray_and_leave_alpha_alone() -> None:
    gray = torch.rand(4, 1, 5, 5).expand(4, 3, 5, 5) * 2 - 1
    alpha = torch.rand(4, 1, 5, 5)
    changed = augment(torch.cat([gray, alpha], 1), some_draws(4), torch.tensor(1.0), ("color",))
    torch.testing.assert_close(changed[:, 0], changed[:, 1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(changed[:, 3:], alpha)


def test_an_unknown_kind_of_augmentation_is_named() -> None:
    with pytest.raises(GanpipeError, match=r"has 'blur'; it joins some of translation"):
        parse_kinds("color+blur")


def test_the_controller_goes_towards_its_target_and_says_when_it_is_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = with_(Settings(), augment__adapt_images=1000, augment__target=0.6).augment
    state = AdaState()
    state.observe(0.9, 100, options)
    assert state.p == pytest.approx(0.1)
    state.observe(0.1, 150, options)
    assert state.p == pytest.approx(0.05)
    for k in range(1, 20):
        state.observe(1.0, 150 + 100 * k, options)
    assert state.p == HIGHEST_P
    assert "Too little data" in state.notes()[0]
    assert caplog.text.count("Too little data") == 1


def test_r_v_is_0_without_and_1_with_all_overfitting() -> None:
    assert r_v(2.0, 2.0, -2.0) == 0
    assert r_v(2.0, -2.0, -2.0) == 1


def test_the_held_out_signal_steers_the_augmentation(settings: Settings, tmp_path: Path) -> None:
    points: list[Point] = []
    options = with_(
        settings, **R3, augment__mode="adaptive", augment__signal="held_out", augment__adapt_images=200
    )
    train(noise_data(), options, tmp_path, Callbacks(points=points.extend))
    assert all("overfitting" in p.values for p in points)
    assert any(p.values["augment_p"] > 0 or p.values["overfitting"] < 0.6 for p in points)
