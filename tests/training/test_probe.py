"""Before training: what is measured, and how a batch is split where it would not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ganpipe.compute.device import Compute
from ganpipe.compute.distributed import Distributed
from ganpipe.errors import GanpipeError
from ganpipe.files import read_json, write_json
from ganpipe.settings.schema import Settings
from ganpipe.training import probe
from ganpipe.training.setup import TrainingSetup
from ganpipe.training.trainer import train
from tests.conftest import R3, noise_data, with_

FP32 = Compute(torch.device("cpu"), "fp32")


def test_a_batch_that_does_not_fit_is_split_and_stays_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """10 MiB an image and 100 MiB free: at most 8 at once, which take 0.2 s."""
    measured = iter([(0.02, 4 * 2**20 * 10), (0.04, 8 * 2**20 * 10), (0.2, 8 * 2**20 * 10)])
    monkeypatch.setattr(probe, "measure_step", lambda step, images, device: next(measured))
    monkeypatch.setattr(probe, "free_memory", lambda device: 100 * 2**20)
    plan = probe.probe_steps(tmp_path / "plan.json", 64, 0, FP32, lambda n: None)
    assert plan.microbatch_images == 8
    assert plan.seconds_a_step == pytest.approx(1.6)
    assert "computed in parts of 8" in caplog.text
    assert "3 min" in plan.sentence([6400], 64, 1, "cpu")
    assert probe.read_probe(tmp_path / "plan.json") == plan


@pytest.mark.parametrize(
    ("small", "twice", "whole", "expected"),
    [
        (0.02, 0.02, 0.03, 0.03),  # overhead alone in the trial steps: the whole batch is timed
        (1.0, 2.0, None, 16.0),  # long steps: 0.25 s an image
    ],
)
def test_the_time_of_a_step(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small: float,
    twice: float,
    whole: float | None,
    expected: float,
) -> None:
    measured = iter([(small, 0), (twice, 0), (whole, 0)])
    monkeypatch.setattr(probe, "measure_step", lambda step, images, device: next(measured))
    plan = probe.probe_steps(tmp_path / "plan.json", 64, 0, FP32, lambda n: None)
    assert plan.seconds_a_step == pytest.approx(expected)


def test_the_time_of_a_step_is_the_mean_over_lazy_regularization(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of 8 images take 2 s with regularization, 1 s without: of four steps one has it."""
    measured = iter([(1.0, 0), (2.0, 0), (1.0, 0), (1.0, 0), (1.0, 0)])
    monkeypatch.setattr(probe, "measure_step", lambda step, images, device: next(measured))
    lazy = [lambda n: None] * 3
    plan = probe.probe_steps(tmp_path / "plan.json", 64, 0, FP32, lambda n: None, lazy=lazy)
    assert plan.seconds_a_step == pytest.approx(16 * (2 + 1 + 1 + 1) / 8)


def test_the_trial_steps_are_those_of_a_lazy_cycle(settings: Settings, tmp_path: Path) -> None:
    lazy = with_(settings, loss__penalty_every=4)
    setup = TrainingSetup(noise_data(), lazy, tmp_path, Distributed())
    steps, others = setup.trial_steps(setup.state.algorithm.phases(0, 64))
    assert (len(steps), len(others)) == (1, 3)
    assert setup.state.algorithm.probe_copy().lazy_cycle == 4
    none = with_(settings, loss__penalty_every=4, loss__penalty="none")
    assert TrainingSetup(noise_data(), none, tmp_path, Distributed()).state.algorithm.lazy_cycle == 1


def test_a_resumed_run_keeps_its_first_plan(settings: Settings, tmp_path: Path) -> None:
    """Whatever memory is free then: the split is part of what fixes the bits."""
    options = with_(settings, **R3)
    expected = train(
        noise_data(), with_(options, training__microbatch_images=2), tmp_path / "asked"
    ).summary.weights_sha256
    train(noise_data(), with_(options, training__total_images=8), tmp_path / "planned")
    plan = read_json(tmp_path / "planned" / "plan.json")
    assert plan["microbatch_images"] == 8
    write_json(tmp_path / "again" / "plan.json", plan | {"microbatch_images": 2})
    assert train(noise_data(), options, tmp_path / "again").summary.weights_sha256 == expected


def test_what_does_not_fit_at_all_is_one_sentence(tmp_path: Path) -> None:
    def step(images: int) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    with pytest.raises(GanpipeError, match=r"do not fit into the .* GiB that are free"):
        probe.probe_steps(tmp_path / "plan.json", 64, 0, FP32, step)


def test_measured_memory_sees_what_a_step_allocates(tmp_path: Path) -> None:
    kept = []

    def step(images: int) -> None:
        kept.append(torch.ones(images * 2**20))  # 4 MiB an image

    plan = probe.probe_steps(tmp_path / "plan.json", 64, 0, FP32, step)
    assert 0.7 * 64 * 4 * 2**20 < plan.peak_bytes < 1.5 * 64 * 4 * 2**20
