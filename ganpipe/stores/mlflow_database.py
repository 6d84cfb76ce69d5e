"""MLflow's SQLite database in a workspace, looked at without MLflow: is it there, whole, and of this place?"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ganpipe.stores.recorded_paths import ARTIFACTS, artifacts_root
from ganpipe.stores.run_records import RunRecord
from ganpipe.stores.workspace import Workspace, mlflow_database, tracks_here

MAGIC = b"SQLite format 3\0"
# Tables and columns that hold the place of an artifact (MLflow 3).
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def database_damage(path: Path) -> str | None:
    """Why a SQLite database cannot be used; None if it is whole as far as a quick look shows, or is not there."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(MAGIC):
        return "it is no SQLite database"
    page_bytes, changes, pages, valid_for = (
        struct.unpack(">H", header[16:18])[0],
        *struct.unpack(">I", header[24:28]),
        *struct.unpack(">I", header[28:32]),
        *struct.unpack(">I", header[92:96]),
    )
    expected = (65536 if page_bytes == 1 else page_bytes) * pages
    if changes == valid_for and path.stat().st_size < expected:
        return f"it has {path.stat().st_size:,} of {expected:,} bytes"
    try:
        with open_reading(path) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:  # busy, or no permission: nothing is known of its contents
        return None
    except sqlite3.DatabaseError as error:
        return str(error)
    return None


@dataclass(frozen=True)
class OpenRun:
    """A run of MLflow that says RUNNING, and the process that began it (process_identity), if it says so."""

    run_id: str
    process: str | None


def open_runs(workspace: Workspace) -> list[OpenRun]:
    """MLflow's runs in this workspace that say RUNNING and were begun by ganpipe."""
    rows = _rows(
        workspace,
        "SELECT r.run_uuid, p.value FROM runs r "
        "LEFT JOIN tags p ON p.run_uuid = r.run_uuid AND p.key = 'ganpipe.process' "
        "LEFT JOIN tags g ON g.run_uuid = r.run_uuid AND g.key = 'ganpipe.run' "
        "WHERE r.status = 'RUNNING' AND (p.value IS NOT NULL OR g.value IS NOT NULL)",
    )
    return [OpenRun(str(run), None if process is None else str(process)) for run, process in rows]


@dataclass(frozen=True)
class DeletedRun:
    """A run of ganpipe's that somebody has deleted in MLflow, which only hides it."""

    run_id: str
    artifact_uri: str


def deleted_runs(workspace: Workspace) -> list[DeletedRun]:
    """The deleted runs of ganpipe in this workspace's MLflow, but those that a registered model comes from."""
    rows = _rows(
        workspace,
        "SELECT run_uuid, artifact_uri FROM runs r WHERE lifecycle_stage = 'deleted' AND EXISTS (SELECT 1 FROM tags t "
        "WHERE t.run_uuid = r.run_uuid AND t.key IN ('ganpipe.run', 'ganpipe.process')) "
        "AND NOT EXISTS (SELECT 1 FROM model_versions v WHERE v.run_id = r.run_uuid)",
    )
    return [DeletedRun(str(run), str(uri)) for run, uri in rows]


def has_run(workspace: Workspace, run_id: str | None) -> bool:
    """Whether MLflow knows a run; True if its store is not in this workspace."""
    if not tracks_here(workspace):
        return True
    found = "SELECT 1 FROM runs WHERE run_uuid = ? AND lifecycle_stage = 'active'"
    return bool(_rows(workspace, found, run_id))


def has_version_of(workspace: Workspace, run_id: str | None) -> bool:
    """Whether a model version of a run is registered; True if MLflow's store is not in this workspace."""
    if not tracks_here(workspace):
        return True
    return bool(_rows(workspace, "SELECT 1 FROM model_versions WHERE run_id = ?", run_id))


def is_tracked(record: RunRecord) -> bool:
    """Whether the run should be in MLflow: its training has finished."""
    return record.state == "finished" and record.train is not None


def lacks_mlflow(workspace: Workspace, record: RunRecord) -> bool:
    """Whether MLflow, in this workspace, has lost the run or its model version."""
    if not is_tracked(record):
        return False
    lost_version = record.model_version is not None and not has_version_of(workspace, record.mlflow_run_id)
    return lost_version or not has_run(workspace, record.mlflow_run_id)


def relocate_artifacts(workspace: Workspace) -> int:
    """Makes MLflow's artifact locations those of this place, after the workspace was copied or moved; how many."""
    here = artifacts_root(workspace)
    if not is_elsewhere(workspace):
        return 0
    changed = 0
    with closing(sqlite3.connect(mlflow_database(workspace), timeout=60)) as database, database:
        for table, column in LOCATIONS:
            new = f"? || substr({column}, instr({column}, ?) + ?)"  # what stands after ARTIFACTS stays
            changed += database.execute(
                f"UPDATE {table} SET {column} = {new} WHERE {_elsewhere(column)}",  # noqa: S608
                (here, ARTIFACTS, len(ARTIFACTS), ARTIFACTS, len(here), here),
            ).rowcount
    return changed


def is_elsewhere(workspace: Workspace) -> bool:
    """Whether MLflow's artifact locations are those of another place: the workspace was copied or moved."""
    here = artifacts_root(workspace)
    question = f"SELECT 1 FROM experiments WHERE {_elsewhere('artifact_location')}"  # noqa: S608
    return bool(_rows(workspace, question, ARTIFACTS, len(here), here))


def _elsewhere(column: str) -> str:
    """The condition that a location is of a workspace (?1), and not of this one (?2, ?3)."""
    return f"{column} LIKE 'file:%' AND instr({column}, ?) > 0 AND substr({column}, 1, ?) <> ?"


def _rows(workspace: Workspace, question: str, *values: str | int | None) -> list[tuple[object, ...]]:
    """The answer; empty if there is no database here, or it cannot be read."""
    path = mlflow_database(workspace)
    if not tracks_here(workspace) or not path.exists():
        return []
    try:
        with open_reading(path) as database:
            return database.execute(question, values).fetchall()
    except sqlite3.DatabaseError:
        return []


@contextmanager
def open_reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, which is not written."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)) as database:
        yield database
