"""Breaking and going back, and the best checkpoint."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ganpipe.compute.checkpoints import best_folder, load_checkpoint
from ganpipe.compute.device import Compute
from ganpipe.data.shards import PreparedData
from ganpipe.errors import GanpipeError
from ganpipe.settings.schema import Settings
from ganpipe.training.algorithm import TrainingContext
from ganpipe.training.callbacks import Callbacks, Point
from ganpipe.training.divergence import MOST_ROLLBACKS
from ganpipe.training.gan import COLLAPSED_POINTS, GanAlgorithm, GanHealth
from ganpipe.training.losses import LOSSES
from ganpipe.training.trainer import train
from tests.conftest import noise_data, with_

CPU = torch.device("cpu")


def values(**changed: float) -> dict[str, float]:
    return {"loss_d": 1.0, "loss_g": 1.0, "spread": 0.8, "g_grad": 1.0, "d_sign": 0.5} | changed


def test_a_number_that_is_not_finite_is_noticed_at_once(settings: Settings) -> None:
    algorithm = GanAlgorithm(TrainingContext(noise_data(), settings, Compute(CPU, "fp32")))
    found = algorithm.diverged(values(g_grad=math.inf))
    assert found is not None
    assert (found.why, found.finite) == ("g_grad is no longer finite", False)


def test_a_collapse_is_noticed_after_some_points_and_a_narrow_start_is_not_one() -> None:
    health = GanHealth()
    assert all(health.observe(values(spread=0.01)) is None for _ in range(10))
    assert health.observe(values()) is None
    found = [health.observe(values(spread=0.01)) for _ in range(COLLAPSED_POINTS)]
    assert found[:-1] == [None] * (COLLAPSED_POINTS - 1)
    assert "G has collapsed" in str(found[-1])


def test_a_discriminator_that_has_won_is_noticed() -> None:
    health = GanHealth()
    for _ in range(5):
        assert health.observe(values()) is None
    assert all(health.observe(values(d_sign=1.0)) is None for _ in range(10))  # G still learns
    found = [health.observe(values(d_sign=1.0, g_grad=1e-6)) for _ in range(COLLAPSED_POINTS)]
    assert "D has won" in str(found[-1])


def break_at(monkeypatch: pytest.MonkeyPatch, times: int) -> dict[str, int]:
    """G's loss is NaN in the 11th step, and again after each rollback, so many times in all."""
    calls = {"steps": 0, "broken": 0}
    good = LOSSES["logistic"]

    def g_loss(fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        calls["steps"] += 1
        bad = len(fake) == 8 and calls["broken"] < times and calls["steps"] > 8
        if bad:
            calls["broken"] += 1
            calls["steps"] = 0
        return good.g_loss(fake, real) * (float("nan") if bad else 1.0)

    monkeypatch.setitem(LOSSES, "logistic", replace(good, g_loss=g_loss))
    return calls


@pytest.mark.parametrize("times", [1, MOST_ROLLBACKS])
def test_training_goes_back_skips_and_slows_down(
    prepared: PreparedData,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    times: int,
) -> None:
    break_at(monkeypatch, times)
    points: list[Point] = []
    result = train(
        prepared, with_(settings, training__total_images=160), tmp_path, Callbacks(points=points.extend)
    )
    assert result.summary.nimg == 160
    assert len(result.summary.notes) == times
    assert "halved both learning rates" in result.summary.notes[0]
    assert caplog.text.count("Rolled back to") == times
    assert [p.nimg for p in points] == list(range(16, 161, 16))
    assert points[-1].values["lr_g"] == pytest.approx(settings.training.g_lr / 2**times)
    saved = load_checkpoint(tmp_path / "checkpoints", CPU)
    assert saved is not None
    assert saved["remedies"]["skipped_images"] > 0
    assert all(torch.isfinite(w).all() for w in saved["G"].values())


def test_training_that_breaks_too_often_fails_with_all_its_evidence(
    prepared: PreparedData, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_at(monkeypatch, MOST_ROLLBACKS + 1)
    with pytest.raises(
        GanpipeError, match=r"rolled back 3 times: \(1\) at .*\(2\) at .*\(3\) at .*Lower training\.d_lr"
    ):
        train(prepared, with_(settings, training__total_images=400), tmp_path)


def test_the_best_checkpoint_is_kept_and_scores_are_in_the_curve(settings: Settings, tmp_path: Path) -> None:
    points: list[Point] = []
    options = with_(settings, training__validate_every_images=16, training__validation_images=32)
    result = train(noise_data(), options, tmp_path, Callbacks(points=points.extend))
    scores = {p.nimg: p.values["kd_quick"] for p in points if "kd_quick" in p.values}
    assert list(scores) == [16, 32, 48, 64]
    best = load_checkpoint(best_folder(tmp_path / "checkpoints"), CPU)
    assert best is not None
    assert best["nimg"] == min(scores, key=lambda nimg: scores[nimg])
    assert result.summary.nimg == 64
