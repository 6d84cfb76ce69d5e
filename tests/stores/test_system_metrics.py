"""The load of the machine is in MLflow's run of a training, and does not disturb its curve."""

from __future__ import annotations

import time

import pytest

from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.system_metrics import log_system_metrics
from ganpipe.stores.workspace import Workspace
from ganpipe.training.callbacks import Point
from tests.slow.processes import soon

LOAD = "system/cpu_utilization_percentage"


@pytest.fixture
def tracker(migrated: Workspace, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    return Tracker(migrated)


def new_run(tracker: Tracker) -> str:
    return str(tracker.client.create_run(tracker.experiment("noise")).info.run_id)


def steps(tracker: Tracker, run: str) -> list[int]:
    return [metric.step for metric in tracker.client.get_metric_history(run, LOAD)]


def test_a_resumed_training_goes_on_counting_and_its_curve_knows_nothing_of_it(tracker: Tracker) -> None:
    run = new_run(tracker)
    for _ in range(2):
        before = len(steps(tracker, run))
        with log_system_metrics(run):
            soon(lambda: len(steps(tracker, run)) >= before + 2, 60)  # noqa: B023
    assert steps(tracker, run) == list(range(len(steps(tracker, run))))
    curve = tracker.curve(run)
    curve.write([Point(1, {"loss_g": 1.0})])
    assert [m.step for m in tracker.client.get_metric_history(run, "loss_g")] == [1]


def test_whoever_does_not_want_it_sets_mlflows_own_variable(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    run = new_run(tracker)
    with log_system_metrics(run):
        time.sleep(0.5)
    assert steps(tracker, run) == []
