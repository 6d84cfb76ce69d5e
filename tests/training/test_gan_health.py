"""When a GAN's training has failed: by the rules, and in trainings that are made to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganpipe.errors import GanpipeError
from ganpipe.settings.schema import Settings
from ganpipe.training.callbacks import Callbacks, Point
from ganpipe.training.gan_health import FAILED_POINTS, FIRST_POINTS, RECENT_POINTS, GanHealth, is_early
from ganpipe.training.trainer import train
from tests.conftest import R3, noise_data, with_

HEALTHY = {"loss_d": 1.0, "loss_g": 1.0, "spread": 0.8, "d_grad": 1.0, "g_grad": 1.0, "d_sign": 0.9}
NOT_EARLY, EARLY = False, True


def started(points: int = FIRST_POINTS) -> GanHealth:
    """The health of a training that has had so many healthy points."""
    health = GanHealth()
    assert all(health.observe(HEALTHY, EARLY) is None for _ in range(points))
    return health


def failure(health: GanHealth, **changed: float) -> str | None:
    """What is said after FAILED_POINTS points with the changed values; nothing may be said before."""
    found = [health.observe(HEALTHY | changed, NOT_EARLY) for _ in range(FAILED_POINTS)]
    assert found[:-1] == [None] * (FAILED_POINTS - 1)
    return found[-1].why if found[-1] else None


def test_a_spread_that_was_never_healthy_is_a_collapse_after_the_beginning() -> None:
    health = GanHealth()
    assert all(health.observe(HEALTHY | {"spread": 0.05}, EARLY) is None for _ in range(20))
    assert not health.is_suspect
    assert "G has collapsed: its images differ by 5.0%" in str(failure(health, spread=0.05))


def test_a_spread_that_was_healthy_and_vanishes_at_the_beginning_is_a_collapse() -> None:
    health = started()
    found = [health.observe(HEALTHY | {"spread": 0.01}, EARLY) for _ in range(FAILED_POINTS)]
    assert found[-1] is not None


def test_a_narrow_spread_that_recovers_is_none() -> None:
    health = started()
    for _ in range(FAILED_POINTS - 1):
        assert health.observe(HEALTHY | {"spread": 0.05}, NOT_EARLY) is None
    assert health.is_suspect
    assert health.observe(HEALTHY, NOT_EARLY) is None
    assert not health.is_suspect
    assert failure(health) is None


@pytest.mark.parametrize(
    ("d_sign", "gradient", "said"),
    [
        (1.0, "g_grad", "D has won: it tells every pair, and the gradient of G fell from 1 to 0.001"),
        (1.0, "d_grad", "D has won: it tells every pair, and the gradient of D fell from 1 to 0.001"),
        (-1.0, "g_grad", "D has lost: it confuses every pair, and the gradient of G"),
        (-1.0, "d_grad", "D has lost: it confuses every pair, and the gradient of D"),
    ],
)
def test_a_network_without_a_gradient_is_noticed_in_both_directions(
    d_sign: float, gradient: str, said: str
) -> None:
    assert said in str(failure(started(), d_sign=d_sign, **{gradient: 0.001}))


def test_a_decided_discriminator_that_still_learns_is_healthy_and_so_is_a_small_gradient_of_an_undecided_one() -> (
    None
):
    assert failure(started(), d_sign=1.0, g_grad=0.02, d_grad=0.02) is None
    assert failure(started(), d_sign=0.97, g_grad=0.001, d_grad=0.001) is None


@pytest.mark.parametrize("name", ["loss_d", "loss_g", "d_grad", "g_grad"])
def test_a_hundredfold_loss_or_gradient_is_an_explosion(name: str) -> None:
    assert failure(started(), **{name: 99.0}) is None
    assert f"{name} has exploded to 1e+03 (usual: 1)" in str(failure(started(), **{name: 1000.0}))


def test_a_loss_that_is_huge_from_the_first_step_is_an_explosion() -> None:
    assert "loss_d has exploded" in str(failure(GanHealth(), loss_d=1e5))


def test_a_loss_without_a_scale_may_grow_and_not_jump() -> None:
    health = GanHealth()
    growth = [1.06**k for k in range(120)]
    assert growth[-1] > 1000
    assert all(health.observe(HEALTHY | {"loss_d": -loss}, NOT_EARLY, False) is None for loss in growth)
    jump = HEALTHY | {"loss_d": 1000 * growth[-1]}
    assert [health.observe(jump, NOT_EARLY, False) is None for _ in range(FAILED_POINTS)][-1] is False


def test_the_memory_of_a_long_training_is_bounded() -> None:
    health = started(3 * RECENT_POINTS)
    assert {len(values) for values in health.recent.values()} == {RECENT_POINTS}
    assert {len(values) for values in health.first.values()} == {FIRST_POINTS}


def test_the_beginning_is_a_share_of_the_training_and_at_least_some_steps(settings: Settings) -> None:
    long = with_(settings, training__total_images=100_000).training
    assert is_early(5_000, long)
    assert not is_early(5_001, long)
    short = with_(settings, training__total_images=10_000).training
    assert is_early(200 * short.batch_images, short)
    assert not is_early(201 * short.batch_images, short)


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({"training__d_lr": 0.0, "training__g_lr": 0.05}, "G has collapsed|D has lost"),
        ({"training__d_lr": 0.05, "training__g_lr": 0.05}, "has exploded|G has collapsed"),
    ],
    ids=["D stands still", "both rates too high"],
)
def test_a_training_with_hopeless_rates_ends_with_the_reason(
    settings: Settings, tmp_path: Path, rates: dict[str, float], said: str
) -> None:
    options = with_(settings, training__total_images=4_000, training__log_every_images=80, **rates)
    with pytest.raises(GanpipeError, match=rf"rolled back 3 times.*({said}).*Lower training\.d_lr"):
        train(noise_data(), options, tmp_path)


@pytest.mark.parametrize(
    "model",
    [
        {"model__g_channels": 8, "model__d_channels": 8},
        {"model__name": "mlp", "model__mlp_width": 16},
        {"loss__name": "wgan-gp"},
        R3,
    ],
    ids=["dcgan", "mlp", "wgan-gp", "r3gan"],
)
def test_a_sound_training_is_never_rolled_back(
    settings: Settings, tmp_path: Path, model: dict[str, object]
) -> None:
    options = with_(settings, training__total_images=2_400, training__log_every_images=80, **model)
    points: list[Point] = []
    result = train(noise_data(), options, tmp_path, Callbacks(points=points.extend))
    assert len(points) == 30
    assert result.summary.notes == ()
