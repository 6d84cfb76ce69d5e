"""Restores the lost part of a run: MLflow's run from the run folder, the record from MLflow."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ganpipe.errors import GanpipeError
from ganpipe.evaluation.gate_result import GateResult
from ganpipe.evaluation.verdict import Evaluation
from ganpipe.files import read_dataclass, read_json
from ganpipe.models.io import generator_damage
from ganpipe.settings.schema import from_dict
from ganpipe.stages.report import report_files
from ganpipe.stores.dataset_versions import pointer_text
from ganpipe.stores.mlflow_database import lacks_mlflow
from ganpipe.stores.mlflow_runs import DATASET_VERSION, STARTS_FROM, Tracker, dataset_of, read_start_point
from ganpipe.stores.model_registry import ModelRegistry
from ganpipe.stores.run_files import GATE_PICTURE, SAMPLES, TRAINING_PICTURES
from ganpipe.stores.run_records import RECORD, RunRecord, run_folder, save_record
from ganpipe.stores.workspace import Workspace
from ganpipe.training.points import POINTS, read_points
from ganpipe.training.summary import TrainSummary

log = logging.getLogger(__name__)


def restore_in_mlflow(workspace: Workspace, record: RunRecord) -> RunRecord:
    """The record of a finished run, which MLflow has afterwards: run, curve, grids, evaluation, model version.

    Raises:
        GanpipeError: MLflow cannot be used.
    """
    if not lacks_mlflow(workspace, record):
        return record
    registry, folder = ModelRegistry(workspace), run_folder(workspace, record.run_id)
    tracker = registry.tracker
    if not tracker.exists(str(record.mlflow_run_id)):
        log.warning(f"MLflow no longer has run {record.run_id}; it is logged again from {folder}.")
        run_id = _log_again(workspace, tracker, record)
        experiment_id = tracker.experiment_of(run_id)
        record = replace(record, mlflow_run_id=run_id, mlflow_experiment_id=experiment_id)
        save_record(workspace, record)
    if record.model_version is None:
        return record
    if damage := generator_damage(folder / "model"):
        log.warning(f"The model of {record.run_id} cannot be registered again: {damage}")
        return save_record(workspace, replace(record, model_version=None, champion=False))
    reference = registry.register(record, folder / "model")
    if record.gate:
        registry.record_gate(reference, record.gate)
    if record.champion and registry.champion(reference.name) is None:
        registry.promote(reference, "restore", "MLflow had lost it; its run was the champion's.")
    return save_record(workspace, replace(record, model_version=str(reference)))


def _log_again(workspace: Workspace, tracker: Tracker, record: RunRecord) -> str:
    folder = run_folder(workspace, record.run_id)
    run_id = tracker.begin(record, pointer_text(workspace, record.dataset, record.version))
    tracker.curve(run_id).write(read_points(folder / POINTS))
    for pictures in TRAINING_PICTURES:
        for path in sorted((folder / pictures).glob("*.png")):
            tracker.grid(run_id, path, int(path.stem))
    for path, place in report_files(folder):
        tracker.picture(run_id, path, place)
    assert record.train is not None
    tracker.training(run_id, record.train)
    tracker.times(run_id, record)
    if record.evaluation:
        tracker.evaluation(run_id, record.evaluation)
    if record.gate:
        tracker.gate(run_id, record.gate)
    tracker.end(run_id, "finished")
    return run_id


def restore_record(workspace: Workspace, run_id: str) -> RunRecord:
    """Writes the damaged or missing run.json of a run again, from what MLflow knows; the damaged one is kept beside it.

    Raises:
        GanpipeError: MLflow does not know the run; the sentence says what to do.
    """
    folder = run_folder(workspace, run_id)
    record = _record_of(workspace, Tracker(workspace), run_id)
    if record is None:
        raise GanpipeError(
            f"{folder / RECORD} is damaged, and MLflow does not know the run; train it again with the same "
            f"settings, which resumes from its checkpoints, or delete {folder}."
        )
    path = folder / RECORD
    if path.exists():
        path.rename(path.with_suffix(".json.damaged"))
    return save_record(workspace, record)


def _record_of(workspace: Workspace, tracker: Tracker, run_id: str) -> RunRecord | None:
    run = tracker.run_of(run_id)
    if run is None:
        return None
    tags, name = run.data.tags, dataset_of(run) or run_id.rpartition("-")[0]
    with workspace.scratch_folder() as scratch:

        def download(artifact: str) -> Path | None:
            try:
                return Path(tracker.client.download_artifacts(run.info.run_id, artifact, str(scratch)))
            except Exception:  # MLflow raises what its store raises; the artifact is not there
                return None

        def read(artifact: str) -> Any:
            path = download(artifact)
            return read_json(path) if path else None

        settings, packages = read("settings.json"), read("environment.json")
        judged = download("evaluation/evaluation.json")
        evaluation = read_dataclass(judged, Evaluation) if judged else None
        decided = download("gate/gate.json")
        gate = read_dataclass(decided, GateResult) if decided else None
    if settings is None or packages is None:
        return None
    from_dict(settings)
    if evaluation is not None:
        evaluation.grid = str(run_folder(workspace, run_id) / SAMPLES)
    if gate is not None and gate.comparison:
        gate = replace(gate, picture=str(run_folder(workspace, run_id) / GATE_PICTURE))
    device, _, precision = tags.get("ganpipe.compute", "cpu fp32").partition(" ")
    numbers, weights = run.data.metrics, tags.get("ganpipe.weights_sha256")
    notes = (tags["ganpipe.notes"],) if "ganpipe.notes" in tags else ()
    summary = (
        TrainSummary(
            int(numbers["nimg"]), numbers.get("images_per_second", 0.0), device, precision, weights, notes
        )
        if weights and "nimg" in numbers
        else None
    )
    record = RunRecord(
        run_id=run_id,
        fingerprint=tags["ganpipe.fingerprint"],
        dataset=name,
        version=tags[DATASET_VERSION],
        settings=settings,
        source_sha256=tags["ganpipe.source_sha256"],
        environment=packages,
        compute=[device, precision],
        state="finished" if summary else "interrupted",
        mlflow_run_id=str(run.info.run_id),
        mlflow_experiment_id=str(run.info.experiment_id),
        train=summary,
        evaluation=evaluation,
        gate=gate,
        continues=tags.get("ganpipe.continues"),
        began_at=tags.get("ganpipe.began_at") or _time(run.info.start_time),
        ended_at=tags.get("ganpipe.ended_at") or _time(run.info.end_time),
        train_s=numbers.get("train_s", 0.0),
        starts_from=read_start_point(tags.get(STARTS_FROM)),
    )
    registry = ModelRegistry(workspace)
    version = registry.registered(record)
    if version is None:
        return record
    champion = registry.champion(version.name)
    return replace(
        record,
        model_version=str(version),
        champion=champion is not None and champion.version == version.version,
    )


def _time(milliseconds: int | None) -> str | None:
    """A time of MLflow as records have it."""
    return (
        datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
        if milliseconds
        else None
    )
