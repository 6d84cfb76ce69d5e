"""Run records: what a run folder says about itself, and how runs are found."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import ganpipe
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.drift import Drift
from ganpipe.evaluation.gate_result import GateResult, refusal
from ganpipe.evaluation.verdict import Evaluation
from ganpipe.files import read_dataclass, write_json
from ganpipe.settings.schema import Settings, from_dict
from ganpipe.stores.fingerprint import (
    continued_fingerprint,
    environment,
    source_sha256,
    started_fingerprint,
    train_fingerprint,
)
from ganpipe.stores.recorded_paths import path_for_record, path_from_record
from ganpipe.stores.workspace import Workspace
from ganpipe.training.summary import StartPoint, TrainSummary

RECORD = "run.json"
PENDING = "pending.jsonl"  # what MLflow is still to hear of the run (outbox)
DOCTOR = "Rebuild it from MLflow with: ganpipe doctor --fix"


@dataclass(frozen=True)
class RunRecord:
    """The record in a run folder (run.json)."""

    run_id: str
    fingerprint: str
    dataset: str
    version: str
    settings: dict[str, Any]
    source_sha256: str
    environment: dict[str, str]
    compute: list[str]
    state: str = "running"  # running, interrupted, cancelled, pruned, failed, finished
    process: str | None = None  # that trains, or did (process_identity)
    mlflow_run_id: str | None = None
    train: TrainSummary | None = None
    evaluation: Evaluation | None = None
    model_version: str | None = None
    champion: bool = False
    gate: GateResult | None = None  # what the gate said when the model was registered
    continues: str | None = None  # the run from whose last checkpoint it started
    began_at: str | None = None  # the first attempt, in UTC; None: recorded by an earlier ganpipe
    ended_at: str | None = None  # the last attempt
    train_s: float = 0.0  # of all attempts together
    reason: str = ""  # why it failed or was interrupted
    drift: Drift | None = None  # of the data since the training before
    starts_from: StartPoint | None = None  # the networks that it started with (warm start)
    sweep: str = ""  # the sweep that it is a trial of
    mlflow_experiment_id: str | None = None  # of the run in MLflow; None: recorded by an earlier ganpipe

    def resolved(self) -> Settings:
        """The settings, checked again."""
        return from_dict(self.settings)

    @property
    def parent(self) -> str:
        """The run that this one continues, or whose networks it started with; empty if there is none."""
        return self.continues or (self.starts_from.run if self.starts_from else "")

    @property
    def is_ended_trial(self) -> bool:
        """Whether it was a trial of a sweep that is over: nothing needs its checkpoints or its dataset version any more."""
        return bool(self.sweep) and self.state in ("finished", "pruned", "failed") and not self.evaluation

    @property
    def refusal(self) -> str | None:
        """Why its model becomes champion only by force: its verdict, or the gate's reason; None if it may."""
        verdict = refusal(self.evaluation.verdict) if self.evaluation else None
        return verdict or (self.gate.reason if self.gate and self.gate.refused else None)

    def origin(self) -> dict[str, Any]:
        """The record of origin that every image of this run carries."""
        return {
            "run": self.run_id,
            "fingerprint": self.fingerprint,
            "mlflow_run_id": self.mlflow_run_id,
            "dataset": {"name": self.dataset, "version": self.version},
            "source_sha256": self.source_sha256,
            "ganpipe": ganpipe.__version__,
            **({"continues": self.continues} if self.continues else {}),
            **({"starts_from": self.starts_from.reference} if self.starts_from else {}),
        }


def new_record(dataset: str, version: str, settings: Settings, compute: tuple[str, str]) -> RunRecord:
    """The record of a training that has this fingerprint; its id is made from it."""
    fingerprint = train_fingerprint(version, settings, compute)
    return RunRecord(
        run_id=f"{dataset}-{fingerprint[:12]}",
        fingerprint=fingerprint,
        dataset=dataset,
        version=version,
        settings=settings.as_dict(),
        source_sha256=source_sha256(),
        environment=environment(),
        compute=list(compute),
    )


def continued_record(fresh: RunRecord, parent: str) -> RunRecord:
    """The record of the same training, if it starts from the last checkpoint of run `parent`."""
    fingerprint = continued_fingerprint(fresh.fingerprint, parent)
    return replace(
        fresh, run_id=f"{fresh.dataset}-{fingerprint[:12]}", fingerprint=fingerprint, continues=parent
    )


def started_record(fresh: RunRecord, start: StartPoint) -> RunRecord:
    """The record of the same training, if it starts from the networks of another run or of a file."""
    fingerprint = started_fingerprint(fresh.fingerprint, start.run, start.weights_sha256)
    return replace(
        fresh, run_id=f"{fresh.dataset}-{fingerprint[:12]}", fingerprint=fingerprint, starts_from=start
    )


def run_folder(workspace: Workspace, run_id: str) -> Path:
    return workspace.runs / run_id


def save_record(workspace: Workspace, record: RunRecord) -> RunRecord:
    """Writes run.json, whole or not at all."""
    recorded = _with_paths(record, lambda path: path_for_record(workspace, path))
    write_json(run_folder(workspace, record.run_id) / RECORD, recorded)
    _read_record.cache_clear()  # two writes within a tick of the file system's clock look the same
    return record


def _with_paths(record: RunRecord, convert: Callable[[str], str]) -> RunRecord:
    """The record with the paths of its sample grid and of the gate's picture converted."""
    if record.evaluation and record.evaluation.grid:
        record = replace(record, evaluation=replace(record.evaluation, grid=convert(record.evaluation.grid)))
    return replace(record, gate=record.gate and record.gate.with_path(convert))


def load_record(workspace: Workspace, run_id: str) -> RunRecord | None:
    """The record of a run; None if there is none.

    Raises:
        GanpipeError: it is damaged or of another version; the sentence says what rebuilds it.
    """
    path = run_folder(workspace, run_id) / RECORD
    if not path.exists():
        return None
    try:
        there = path.stat()
        found = _read_record(path, there.st_ino, there.st_ctime_ns, there.st_size)
    except (GanpipeError, OSError) as error:
        raise GanpipeError(f"{error} {DOCTOR}") from None
    return _with_paths(found, lambda path: path_from_record(workspace, path))


@lru_cache(maxsize=4096)
def _read_record(path: Path, inode: int, changed_ns: int, bytes: int) -> RunRecord:
    """The record as it lies there. A file that has not changed is not read again: a dashboard asks every two seconds.

    By the time of the change of the inode: that of the contents is set back where the age of a record is kept.
    """
    found = read_dataclass(path, RunRecord)
    found.resolved()
    return found


def record_files(workspace: Workspace) -> list[str]:
    """Where the record of each run folder is, or would be."""
    try:
        return [f"{entry.path}/{RECORD}" for entry in os.scandir(workspace.runs)]
    except OSError:  # no run yet
        return []


@dataclass(frozen=True)
class RunRecords:
    """All runs of a workspace, the latest last, and what is wrong with each damaged record, by run id."""

    whole: list[RunRecord]
    damaged: dict[str, str]


def read_records(workspace: Workspace) -> RunRecords:
    """Every run of the workspace; a damaged record hides no other."""
    found = RunRecords([], {})
    for path in sorted(workspace.runs.glob(f"*/{RECORD}"), key=lambda p: p.stat().st_mtime):
        try:
            if record := load_record(workspace, path.parent.name):
                found.whole.append(record)
        except GanpipeError as error:
            found.damaged[path.parent.name] = str(error)
    return found


def all_records(workspace: Workspace) -> list[RunRecord]:
    """Every run of the workspace with an undamaged record, the latest last."""
    return read_records(workspace).whole


def newest_experiment(workspace: Workspace) -> str | None:
    """The id of the experiment in MLflow of the latest run that has one; None if none has."""
    return next(
        (r.mlflow_experiment_id for r in all_records(workspace)[::-1] if r.mlflow_experiment_id), None
    )


def find_record(workspace: Workspace, reference: str) -> RunRecord:
    """The run that `reference` names: a run id, an MLflow run id, or the beginning of one of them or of a fingerprint.

    Raises:
        GanpipeError: none or several, and the sentence names the runs that there are; or its record is damaged.
    """
    read = read_records(workspace)
    records = read.whole
    found = [r for r in records if reference in (r.run_id, r.mlflow_run_id, r.fingerprint)]
    if not found and len(reference) >= 4:
        found = [
            r
            for r in records
            if any((name or "").startswith(reference) for name in (r.run_id, r.mlflow_run_id, r.fingerprint))
        ]
    if len(found) == 1:
        return found[0]
    if not found and (sentence := read.damaged.get(reference)):
        raise GanpipeError(sentence)
    there = ", ".join(r.run_id for r in records[-5:]) or "none yet"
    raise GanpipeError(
        f"{'No' if not found else 'More than one'} run is called {reference}; the latest are: {there}."
    )
