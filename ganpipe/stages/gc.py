"""The gc stage: finds what a workspace can do without, and deletes it.

Kept: every model, report and picture; champions and the last ones before them; the last runs; what is not finished.
Only what ganpipe wrote is deleted, and a kill in between leaves nothing that a later command takes for whole.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ganpipe.compute.checkpoints import best_folder, delete_checkpoints
from ganpipe.data.prepare import preparation_key
from ganpipe.data.shards import META
from ganpipe.errors import GanpipeError
from ganpipe.settings.schema import GcSettings, Settings
from ganpipe.stages.continuation import CHECKPOINTS
from ganpipe.stores.dataset_shards import FEATURES
from ganpipe.stores.dataset_summaries import dataset_names, first_version
from ganpipe.stores.dataset_versions import data_lock
from ganpipe.stores.dvc import pointer_file, read_pointer
from ganpipe.stores.elsewhere import describe_untouched
from ganpipe.stores.mlflow_database import DeletedRun, deleted_runs
from ganpipe.stores.model_registry import ModelRegistry
from ganpipe.stores.recorded_paths import artifacts_root, local_artifact
from ganpipe.stores.run_records import RunRecord, read_records, run_folder
from ganpipe.stores.unneeded_objects import check_readable, find_unneeded
from ganpipe.stores.workspace import Workspace
from ganpipe.training.posthoc_ema import FOLDER as AVERAGES
from ganpipe.training.posthoc_ema import delete_snapshots

KINDS = ("checkpoints", "shards", "images", "mlflow", "features")


@dataclass(frozen=True)
class Removal:
    """Something that can be deleted: its kind (KINDS), what it is, and how much room it takes."""

    kind: str
    what: str
    bytes: int
    delete: Callable[[], object] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Plan:
    """The removals that can be made. `notes`: what is left alone, and why."""

    removals: list[Removal]
    notes: list[str]

    @property
    def bytes(self) -> int:
        return sum(removal.bytes for removal in self.removals)


@dataclass(frozen=True)
class _Kept:
    """Runs whose checkpoints and dataset versions stay; those of them that still need their shards."""

    runs: dict[str, RunRecord]
    at_work: list[RunRecord]


def collect(workspace: Workspace, settings: Settings) -> Plan:
    """Deletes what the plan names and returns it. The caller holds the turn of the workspace.

    Raises:
        Busy: a training is in progress.
        GanpipeError: it is not known what must be kept; nothing is deleted.
    """
    with workspace.lock("training", wait_s=0.0), data_lock(workspace):
        plan = plan_removals(workspace, settings)
        for removal in plan.removals:
            removal.delete()
    return plan


def plan_removals(workspace: Workspace, settings: Settings) -> Plan:
    """Finds everything that can be deleted now; nothing is written.

    Raises:
        GanpipeError: a run's record is damaged, or MLflow cannot be asked for the champions.
    """
    records = read_records(workspace)
    if records.damaged:
        raise GanpipeError(next(iter(records.damaged.values())))
    kept = _kept_runs(workspace, records.whole, settings.gc)
    keys = _preparations(workspace, kept, settings)
    folders, dropped = _shards(workspace, kept, keys)
    images, notes = _images(workspace, kept, dropped)
    removals = [*_checkpoints(workspace, records.whole, kept), *folders, *images, *_mlflow_runs(workspace)]
    return Plan(
        [*removals, *_features(workspace, keys)], [*notes, *describe_untouched(workspace, "ganpipe gc")]
    )


def _kept_runs(workspace: Workspace, records: list[RunRecord], settings: GcSettings) -> _Kept:
    done = [r for r in records if r.state == "finished" and r.evaluation]
    at_work = [r for r in records if r not in done and not r.is_ended_trial]
    champions: set[str] = set()
    if any(record.mlflow_run_id for record in records):
        registry = ModelRegistry(workspace, reading=True)
        for name in registry.models():
            champions |= registry.protected_runs(name, settings.keep_champions)
    last = done[len(done) - settings.keep_runs :] if settings.keep_runs else []
    kept = {r.run_id: r for r in [*at_work, *last, *(r for r in done if r.mlflow_run_id in champions)]}
    by_id = {r.run_id: r for r in records}
    for record in list(kept.values()):  # to reproduce a run, its parent's last checkpoint is needed
        while (parent := record.parent) in by_id and parent not in kept:
            record = by_id[parent]
            kept[record.run_id] = record
    return _Kept(kept, at_work)


def _checkpoints(workspace: Workspace, records: list[RunRecord], kept: _Kept) -> Iterator[Removal]:
    for record in records:
        folder = run_folder(workspace, record.run_id) / CHECKPOINTS
        if record.run_id not in kept.runs and (size := _bytes_in(folder)):
            yield Removal("checkpoints", record.run_id, size, partial(delete_all_checkpoints, folder))


def delete_all_checkpoints(folder: Path) -> None:
    """Deletes the checkpoints in a run's folder, the best one and the snapshots of averages, too."""
    delete_snapshots(folder / AVERAGES)
    delete_checkpoints(best_folder(folder))
    delete_checkpoints(folder)


def _preparations(workspace: Workspace, kept: _Kept, settings: Settings) -> set[str]:
    """The keys of the preparations that kept runs and present settings read."""
    present = {preparation_key(name, settings.data) for name in dataset_names(workspace)}
    return present | {preparation_key(r.dataset, r.resolved().data) for r in kept.runs.values()}


def _shards(workspace: Workspace, kept: _Kept, keys: set[str]) -> tuple[list[Removal], set[str]]:
    """Folders of shards that no kept run or present setting reads, and the preparations whose folder goes."""
    versions = {v.removesuffix(".dir") for v in _present_versions(workspace).values()}
    in_use = {
        (preparation_key(r.dataset, r.resolved().data), r.version.removesuffix(".dir")) for r in kept.at_work
    }
    # Shards of a kept version stay if its images are not to be had any more.
    needed = {r.version.removesuffix(".dir") for r in kept.runs.values()}
    shared = [p.parent for p in sorted((workspace.root / "data/prepared").glob(f"*/{META}"))]
    own = [p.parent for p in sorted((workspace.state / "prepared").glob(f"*/*/{META}"))]
    dropped = [folder for folder in shared if folder.name not in keys]
    dropped += [
        folder
        for folder in own
        if (folder.parent.name, folder.name) not in in_use
        and (folder.parent.name not in keys or folder.name not in versions)
        and (folder.name not in needed or not check_readable(workspace, [f"{folder.name}.dir"]))
    ]
    removals = [
        Removal(
            "shards",
            str(folder.relative_to(workspace.root)),
            _bytes_in(folder, own=folder in own),
            partial(_delete_folder, workspace, folder),
        )
        for folder in dropped
    ]
    return removals, {folder.name for folder in shared if folder.name not in keys}


def _delete_folder(workspace: Workspace, folder: Path) -> None:
    """Deletes a folder that a kill in between does not leave half: it is moved away first."""
    with workspace.scratch_folder() as scratch:
        try:
            folder.rename(scratch / "deleted")
        except OSError:  # on another disk
            (folder / META).unlink(missing_ok=True)
            shutil.rmtree(folder)


def _present_versions(workspace: Workspace) -> dict[str, str]:
    names = [name for name in dataset_names(workspace) if pointer_file(workspace, name).exists()]
    return {name: read_pointer(workspace, name) for name in names}


def _images(workspace: Workspace, kept: _Kept, dropped: set[str]) -> tuple[list[Removal], list[str]]:
    """Objects of DVC's cache. The listing of a dataset's first version stays: it is the anchor of every comparison."""
    versions = {*_present_versions(workspace).values(), *(r.version for r in kept.runs.values())}
    first = {v for name in dataset_names(workspace) if (v := first_version(workspace, name))}
    if not (workspace.root / ".dvc").is_dir():
        return [], []
    if problem := check_readable(workspace, versions):
        return [], [f"DVC's cache is left alone, because not all of a kept version is there: {problem}."]
    found = find_unneeded(workspace, versions, first, dropped)
    return [Removal(v.what, f"version {v.version[:12]} in DVC's cache", v.bytes, v.delete) for v in found], []


def _mlflow_runs(workspace: Workspace) -> list[Removal]:
    found = deleted_runs(workspace)
    size = sum(_artifact_bytes(workspace, run) for run in found)
    what = f"{len(found)} deleted run(s)"
    return [Removal("mlflow", what, size, partial(_gc_mlflow, workspace, found))] if found else []


def _artifact_bytes(workspace: Workspace, run: DeletedRun) -> int:
    folder = local_artifact(workspace, run.artifact_uri)
    return _bytes_in(folder) if folder else 0


def _gc_mlflow(workspace: Workspace, runs: list[DeletedRun]) -> None:
    """Deletes them for good, by MLflow's own command."""
    command = [sys.executable, "-P", "-m", "mlflow", "gc", "--run-ids", ",".join(run.run_id for run in runs)]
    uri = os.environ["MLFLOW_TRACKING_URI"]
    command += ["--backend-store-uri", uri, "--artifacts-destination", artifacts_root(workspace)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=workspace.state)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise GanpipeError(f"mlflow gc failed: {lines[-1]}")


def _features(workspace: Workspace, keys: set[str]) -> list[Removal]:
    """Features of generated images, and of datasets as no kept run or present setting prepares them."""
    of_datasets = (workspace.state / "prepared").glob(f"*/{FEATURES}/*.npz")
    files = [
        *sorted(workspace.features.glob("*.npz")),
        *sorted(file for file in of_datasets if file.parent.parent.name not in keys),
    ]
    size = sum(file.stat().st_size for file in files)
    what = f"{len(files)} set(s) of features"
    return [Removal("features", what, size, partial(_delete_files, files))] if files else []


def _delete_files(files: list[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _bytes_in(folder: Path, own: bool = False) -> int:
    """The size of a folder's files. `own`: without those that another folder has, too (hard links)."""
    stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(stat.st_size for stat in stats if not own or stat.st_nlink == 1)
