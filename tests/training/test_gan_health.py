"""When a GAN's training has failed: by the rules, and in trainings that are made to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganpipe.errors import GanpipeError
from ganpipe.settings.schema import Settings
from ganpipe.training.callbacks import Callbacks, Point
from ganpipe.training.divergence import EARLY_STEPS, is_early
from ganpipe.training.gan_health import FAILED_POINTS, FIRST_POINTS, RECENT_POINTS, GanHealth
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
    """Returns the failure reported after FAILED_POINTS points with the changed values; none may be reported before."""
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


@pytest.mark.parametrize(("gradient", "network"), [("g_grad", "G"), ("d_grad", "D")])
def test_a_discriminator_that_has_won_and_a_network_without_a_gradient_are_noticed(
    gradient: str, network: str
) -> None:
    said = failure(started(), d_sign=1.0, **{gradient: 0.001})
    assert said == f"D has won: it tells every pair apart, and the gradient of {network} fell from 1 to 0.001"


def test_a_discriminator_that_has_lost_is_noticed() -> None:
    assert failure(started(), d_sign=-0.97) is None
    assert "D has lost" in str(failure(started(), d_sign=-1.0))


def test_a_winner_that_still_learns_is_healthy_and_so_is_a_small_gradient_of_an_undecided_one() -> None:
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
    long = with_(settings, training__total_images=1_000_000).training
    assert is_early(50_000, long)
    assert not is_early(50_001, long)
    short = with_(settings, training__total_images=10_000).training
    assert is_early(EARLY_STEPS * short.batch_images, short)
    assert not is_early((EARLY_STEPS + 1) * short.batch_images, short)


# As in the demo: D without batch norm.
SOUND = {
    "training__log_every_images": 80,
    "training__save_every_images": 400,
    "model__g_channels": 8,
    "model__d_channels": 8,
    "model__d_norm": "none",
    "model__d_minibatch_std": True,
}


def test_a_training_whose_d_stands_still_is_rolled_back_until_it_fails(
    settings: Settings, tmp_path: Path
) -> None:
    rates = {"training__total_images": 800, "training__d_lr": 0.0, "training__g_lr": 0.05}
    with pytest.raises(GanpipeError, match=r"rolled back 3 times.*D has lost.*training\.d_lr is 0"):
        train(noise_data(), with_(settings, **SOUND | rates), tmp_path)


def test_a_training_with_much_too_high_rates_is_rolled_back_to_half_of_them(
    settings: Settings, tmp_path: Path
) -> None:
    rates = {"training__total_images": 480, "training__d_lr": 1.0, "training__g_lr": 1.0}
    notes = train(noise_data(), with_(settings, **SOUND | rates), tmp_path).summary.notes
    assert "loss_d has exploded" in notes[0]
    assert "halved both learning rates" in notes[0]


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"model__name": "mlp", "model__mlp_width": 16},
        {"loss__name": "wgan-gp"},
        pytest.param(R3, marks=pytest.mark.slow),
    ],
    ids=["dcgan", "mlp", "wgan-gp", "r3gan"],
)
def test_a_sound_training_is_never_rolled_back(
    settings: Settings, tmp_path: Path, model: dict[str, object]
) -> None:
    options = with_(settings, **SOUND | {"training__total_images": 800} | model)
    points: list[Point] = []
    result = train(noise_data(), options, tmp_path, Callbacks(points=points.extend))
    assert len(points) == 10
    assert result.summary.notes == ()
