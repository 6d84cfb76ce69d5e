"""Artifacts and results of a run wait in its folder until MLflow has them, in order.

points.jsonl   every point of the loss curve, by the trainer, before each checkpoint; MLflow's own curve says which of
               them it has
pending.jsonl  artifacts, results and the end of the run that are not delivered yet, one a line"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ganpipe.files import append_json_lines, json_lines, read_json_lines, write_text
from ganpipe.stores.best_effort import BestEffort
from ganpipe.stores.mlflow_runs import CurveWriter, Tracker
from ganpipe.stores.recorded_paths import path_for_record
from ganpipe.stores.run_records import PENDING, RunRecord, load_record, run_folder
from ganpipe.stores.workspace import Workspace
from ganpipe.training.callbacks import Point
from ganpipe.training.points import POINTS, read_points


@dataclass(frozen=True)
class Pending:
    """Something to deliver.

    `kind`: artifact (`path` into `folder`), grid (`path`, `nimg`), tags, training, evaluation, gate or end (`state`).
    """

    kind: str
    path: str = ""
    folder: str = ""
    nimg: int = 0
    state: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


class Outbox:
    """Delivers what a run has to say to MLflow; while MLflow is away, training goes on."""

    def __init__(self, workspace: Workspace, record: RunRecord, tracker: Tracker | None = None) -> None:
        self.workspace, self.run, self.run_id = workspace, record.run_id, str(record.mlflow_run_id)
        self.folder = run_folder(workspace, record.run_id)
        self._tracker = tracker
        # The curve of this run in MLflow; None before the first contact, and after each failed one.
        self._curve: CurveWriter | None = None
        self._attempt = BestEffort(
            "MLflow", f"curve, images and results wait in {self.folder} and are delivered later"
        )

    def points(self, points: list[Point]) -> None:
        """Delivers points of the curve, which are in the file already."""
        self._deliver(points)

    def picture(self, path: Path, nimg: int) -> None:
        """Delivers a grid of the training."""
        self._put([Pending("grid", path_for_record(self.workspace, str(path)), nimg=nimg)])

    def tags(self, tags: Mapping[str, str]) -> None:
        """Delivers tags of the run."""
        self._put([Pending("tags", tags=tags)])

    def artifacts(self, paths: Sequence[Path], folder: str) -> None:
        """Delivers files of the workspace as artifacts."""
        recorded = [path_for_record(self.workspace, str(path)) for path in paths]
        self._put([Pending("artifact", path, folder) for path in recorded])

    def training(self, state: str) -> None:
        """Delivers the results of the training as run.json has them, if it has any, and the end of the run."""
        self._put([Pending("training"), Pending("end", state=state)], now=True)

    def evaluation(self) -> None:
        """Delivers the evaluation that run.json has."""
        self._put([Pending("evaluation")], now=True)

    def gate(self) -> None:
        """Delivers the gate's answer that run.json has."""
        self._put([Pending("gate")], now=True)

    def deliver(self) -> bool:
        """Delivers what waits; whether nothing waits any more."""
        return self._deliver(None, now=True)

    def _put(self, entries: list[Pending], now: bool = False) -> None:
        append_json_lines(self.folder / PENDING, entries)
        self._deliver([], now)

    def _deliver(self, points: list[Point] | None, now: bool = False) -> bool:
        """`points`: the new ones; None, as after each failure: all of the file."""

        def deliver() -> None:
            tracker = self._tracker or Tracker(self.workspace)
            everything = points is None or self._curve is None
            self._curve, curve = None, self._curve or tracker.curve(self.run_id)
            curve.write(read_points(self.folder / POINTS) if everything else points or [])
            self._deliver_pending(tracker)
            self._tracker, self._curve = tracker, curve

        return self._attempt(deliver, now)

    def _deliver_pending(self, tracker: Tracker) -> None:
        waiting = read_pending(self.folder)
        if not waiting:
            return
        delivered = 0
        try:
            for entry in waiting:
                self._deliver_one(tracker, entry)
                delivered += 1
        finally:
            left = waiting[delivered:]
            if left and delivered:
                write_text(self.folder / PENDING, json_lines(left))
            elif not left:
                (self.folder / PENDING).unlink(missing_ok=True)

    def _deliver_one(self, tracker: Tracker, entry: Pending) -> None:
        if entry.kind in ("artifact", "grid"):
            path = self.workspace.root / entry.path
            if path.exists():  # else somebody has deleted it meanwhile
                self._deliver_file(tracker, entry, path)
            return
        if entry.kind == "tags":
            tracker.tag(self.run_id, entry.tags)
            return
        if entry.kind == "end":
            tracker.end(self.run_id, entry.state)
            return
        record = load_record(self.workspace, self.run)
        if record and record.train and entry.kind == "training":
            tracker.training(self.run_id, record.train)
            tracker.times(self.run_id, record)
        if record and record.evaluation and entry.kind == "evaluation":
            tracker.evaluation(self.run_id, record.evaluation)
        if record and record.gate and entry.kind == "gate":
            tracker.gate(self.run_id, record.gate)

    def _deliver_file(self, tracker: Tracker, entry: Pending, path: Path) -> None:
        if entry.kind == "grid":
            tracker.grid(self.run_id, path, entry.nimg)
        else:
            tracker.picture(self.run_id, path, entry.folder)


def read_pending(folder: Path) -> list[Pending]:
    """The entries that wait in a run folder; a line that a kill has cut is left out."""
    return read_json_lines(folder / PENDING, Pending)
