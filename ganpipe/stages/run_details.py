"""One run as people look at it: its record, curve, grids, and what its settings changed. Imports no torch."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ganpipe.stores.addresses import running_servers
from ganpipe.stores.run_records import RunRecord, find_record, read_records, run_folder
from ganpipe.stores.run_results import results_of_run
from ganpipe.stores.workspace import Workspace
from ganpipe.training.callbacks import Point
from ganpipe.training.points import POINTS, read_points

MOST_POINTS = 1000  # of a curve; a chart has no more pixels


@dataclass(frozen=True)
class Grid:
    """A grid of images of the fixed latents, or of fixed reconstructions, made after `nimg` images."""

    nimg: int
    path: Path


@dataclass(frozen=True)
class SettingChange:
    """A setting that differs from the run before; None: that run did not have it."""

    name: str
    before: str | None
    now: str | None


@dataclass(frozen=True)
class RunDetails:
    """A run. `before`: the run of the same dataset that was made before it; None if it is the first.

    `pages`: of the servers that know the run, by their name.
    """

    record: RunRecord
    points: list[Point]
    grids: list[Grid]
    reconstructions: list[Grid]
    before: str | None
    changes: list[SettingChange]
    pages: dict[str, str]


def run_details(workspace: Workspace, reference: str) -> RunDetails:
    """The run called so, with what its folder holds.

    Raises:
        GanpipeError: there is none, or its record is damaged.
    """
    record = find_record(workspace, reference)
    before = _run_before(workspace, record)
    return RunDetails(
        record,
        thin_out(read_curve(workspace, record.run_id)),
        list_grids(workspace, record.run_id),
        list_grids(workspace, record.run_id, "reconstructions"),
        before.run_id if before else None,
        _changes(before, record) if before else [],
        _pages(workspace, record),
    )


def _pages(workspace: Workspace, record: RunRecord) -> dict[str, str]:
    servers, pages = running_servers(workspace), dict[str, str]()
    if servers and record.mlflow_run_id:
        pages["MLflow"] = servers.mlflow_run_page(record.mlflow_run_id, record.mlflow_experiment_id)
    flow_runs = [r.flow_run_id for r in results_of_run(workspace, record.run_id) if r.flow_run_id]
    if servers and flow_runs:
        pages["Prefect"] = servers.flow_run_page(flow_runs[-1])
    return pages


def read_curve(workspace: Workspace, run_id: str) -> list[Point]:
    """Every point of a run's curve so far."""
    return read_points(run_folder(workspace, run_id) / POINTS)


class GrowingCurve:
    """The curve of a run that trains: each reading looks only at what was added since the one before."""

    def __init__(self, workspace: Workspace, run_id: str) -> None:
        self.path = run_folder(workspace, run_id) / POINTS
        self.points: list[Point] = []
        self._offset = 0

    def read(self) -> list[Point]:
        """Every point so far; a line that is being written is left for the next reading."""
        with suppress(OSError), self.path.open("rb") as file:  # there is no point yet
            file.seek(self._offset)
            added = file.read()
            whole = added[: added.rfind(b"\n") + 1]
            self._offset += len(whole)
            for line in whole.splitlines():
                with suppress(ValueError, TypeError):  # damaged
                    self.points.append(Point(**json.loads(line)))
        return self.points


def thin_out(points: list[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most `most` of the points, evenly spread, with the last one."""
    step = -(-len(points) // most) or 1
    return points[::-1][::step][::-1]


def list_grids(workspace: Workspace, run_id: str, folder: str = "grids") -> list[Grid]:
    """The grids of a run so far, in order. `folder`: which kind, a row of TRAINING_PICTURES."""
    paths = sorted((run_folder(workspace, run_id) / folder).glob("*.png"))
    return [Grid(int(path.stem), path) for path in paths if path.stem.isdecimal()]


def newest_grid(workspace: Workspace, run_id: str) -> Path | None:
    """The latest grid of a run; None if there is none yet."""
    grids = list_grids(workspace, run_id)
    return grids[-1].path if grids else None


def _run_before(workspace: Workspace, record: RunRecord) -> RunRecord | None:
    """The run that it continues; otherwise the one of the same dataset that was changed last before it."""
    records = read_records(workspace).whole
    if record.continues:
        return next((r for r in records if r.run_id == record.continues), None)
    ids = [r.run_id for r in records]
    earlier = records[: ids.index(record.run_id)]
    return next((r for r in reversed(earlier) if r.dataset == record.dataset), None)


def _changes(before: RunRecord, record: RunRecord) -> list[SettingChange]:
    old, new = _flat(before), _flat(record)
    names = [name for name in new | old if old.get(name) != new.get(name)]
    return [SettingChange(name, old.get(name), new.get(name)) for name in sorted(names)]


def _flat(record: RunRecord) -> dict[str, str]:
    """The settings and the dataset's version as text, by full name."""
    flat = {
        f"{section}.{k}": str(v) for section, values in record.settings.items() for k, v in values.items()
    }
    return flat | {"dataset version": record.version}
