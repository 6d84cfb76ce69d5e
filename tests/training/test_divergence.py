"""Breaking and going back."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ganpipe.compute.checkpoints import load_checkpoint
from ganpipe.compute.device import Compute
from ganpipe.data.shards import PreparedData
from ganpipe.errors import GanpipeError
from ganpipe.settings.schema import Settings
from ganpipe.training.algorithm import TrainingContext
from ganpipe.training.callbacks import Callbacks, Point
from ganpipe.training.divergence import MOST_ROLLBACKS
from ganpipe.training.gan import GanAlgorithm
from ganpipe.training.losses import LOSSES
from ganpipe.training.trainer import train
from tests.conftest import noise_data, with_

CPU = torch.device("cpu")


def test_a_number_that_is_not_finite_is_noticed_at_once(settings: Settings) -> None:
    algorithm = GanAlgorithm(TrainingContext(noise_data(), settings, Compute(CPU, "fp32")))
    found = algorithm.diverged({"loss_d": 1.0, "g_grad": math.inf}, 16)
    assert found is not None
    assert (found.why, found.exploded) == ("g_grad is no longer finite", True)


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
