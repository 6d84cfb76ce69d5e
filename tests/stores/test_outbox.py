"""Everything that MLflow is to hear of a run arrives once, also if MLflow is away for a while."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ganpipe.compute.checkpoints import load_checkpoint
from ganpipe.progress import Progress
from ganpipe.settings.schema import Settings
from ganpipe.stages import train
from ganpipe.stores import best_effort, dataset_versions
from ganpipe.stores.mlflow_runs import CurveWriter, Tracker
from ganpipe.stores.outbox import Outbox, read_pending
from ganpipe.stores.run_records import RunRecord, load_record, run_folder
from ganpipe.stores.workspace import Workspace
from ganpipe.training import trainer
from ganpipe.training.callbacks import Callbacks
from tests.conftest import copied


@pytest.fixture
def noise(migrated: Workspace, prepared_noise: Path) -> Workspace:
    return copied(prepared_noise, migrated)


class Outage:
    """MLflow raises while `is_away`; how often it was asked then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_away, self.asked = False, 0
        for kind, name in (
            (Tracker, "picture"),
            (Tracker, "grid"),
            (Tracker, "end"),
            (Tracker, "training"),
            (CurveWriter, "write"),
        ):
            monkeypatch.setattr(kind, name, self._failing(getattr(kind, name)))

    def _failing(self, call: Any) -> Any:
        def failing(*values: Any) -> Any:
            if self.is_away:
                self.asked += 1
                raise ConnectionError("refused")
            return call(*values)

        return failing


def run_train(workspace: Workspace, settings: Settings, report: Any) -> RunRecord:
    version = dataset_versions.open_version(workspace, "noise", settings.data)
    return train.train_model(workspace, version, settings, report)


def check_everything_is_there(workspace: Workspace, record: RunRecord) -> None:
    client, run_id = Tracker(workspace).client, str(record.mlflow_run_id)
    assert [m.step for m in client.get_metric_history(run_id, "loss_g")] == [16, 32, 48, 64]
    assert Tracker(workspace).logged_grids(run_id) == [32, 64]
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run_id, "nimg")) == 1
    assert record.train is not None
    assert run.data.tags["ganpipe.weights_sha256"] == record.train.weights_sha256
    assert read_pending(run_folder(workspace, record.run_id)) == []


@pytest.mark.parametrize("ends_at", [48, None])
def test_an_outage_during_training_ends_nothing_and_loses_nothing(
    noise: Workspace,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    ends_at: int | None,
) -> None:
    """It ends in the middle of the training, or after it."""
    if ends_at:
        monkeypatch.setattr(best_effort, "RETRY_EVERY_S", 0.0)
        monkeypatch.setattr(best_effort, "MOST_SHARE", 1e9)
    outage = Outage(monkeypatch)

    def report(p: Progress) -> None:
        outage.is_away = p.stage == "train" and p.done >= 24 and (ends_at is None or p.done < ends_at)

    record = run_train(noise, settings, report)
    assert record.state == "finished"
    assert outage.asked
    warned = [r.message for r in caplog.records if "MLflow cannot be reached" in r.message]
    assert len(warned) == 1
    if ends_at is None:
        assert outage.asked <= 3, "an attempt now and then, and at the end"
        outage.is_away = False
        assert Outbox(noise, record).deliver()
        assert Outbox(noise, record).deliver()
    check_everything_is_there(noise, record)


def test_a_grid_that_a_kill_leaves_in_the_line_is_not_logged_twice(
    noise: Workspace, settings: Settings
) -> None:
    record = run_train(noise, settings, lambda p: None)
    folder, client = run_folder(noise, record.run_id), Tracker(noise).client
    before = client.list_artifacts(str(record.mlflow_run_id), "images")
    Outbox(noise, record).picture(folder / "grids" / f"{64:012d}.png", 64)
    assert client.list_artifacts(str(record.mlflow_run_id), "images") == before


def test_a_callback_that_fails_leaves_a_checkpoint(settings: Settings, prepared: Any, tmp_path: Path) -> None:
    def fail(p: Progress) -> None:
        if p.done >= 24:
            raise ConnectionError("All connection attempts failed")

    with pytest.raises(ConnectionError):
        trainer.train(prepared, settings, tmp_path, Callbacks(report=fail))
    saved = load_checkpoint(tmp_path / "checkpoints", __import__("torch").device("cpu"))
    assert saved is not None
    assert saved["nimg"] == 24


def test_points_that_could_not_be_handed_over_are_on_the_disk(
    noise: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And are delivered by the next attempt at the training, which does not compute them again."""

    class Killed(BaseException):
        pass

    outage = Outage(monkeypatch)

    def die(p: Progress) -> None:
        outage.is_away = p.stage == "train"
        if p.stage == "train" and p.done >= 48:
            raise Killed

    with pytest.raises(Killed):
        run_train(noise, settings, die)
    outage.is_away = False
    (folder,) = noise.runs.iterdir()
    interrupted = load_record(noise, folder.name)
    assert interrupted is not None
    assert Outbox(noise, interrupted).deliver()
    record = run_train(noise, settings, lambda p: None)
    check_everything_is_there(noise, record)
