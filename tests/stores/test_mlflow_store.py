"""MLflow's store is there before it is used: a database made once and whole, a server that answers."""

from __future__ import annotations

import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from ganpipe.errors import GanpipeError
from ganpipe.stores import mlflow_store
from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.mlflow_store import ensure_database, require_tracking_server
from ganpipe.stores.workspace import Workspace, mlflow_database
from tests.conftest import Killed


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as database:
        return {str(name) for (name,) in database.execute("SELECT name FROM sqlite_master")}


def test_of_three_first_uses_at_once_one_makes_the_database(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def make(place: Workspace, path: Path) -> None:
        made.append(path)
        time.sleep(0.1)
        with closing(sqlite3.connect(path)) as database:
            database.executescript("CREATE TABLE experiments (e); INSERT INTO experiments VALUES (0)")

    monkeypatch.setattr(mlflow_store, "_make_database", make)
    with ThreadPoolExecutor() as threads:
        list(threads.map(ensure_database, [workspace] * 3))
    assert made == [mlflow_database(workspace)]


def test_an_experiment_that_another_process_has_just_made_is_used(
    migrated: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(migrated)
    theirs = tracker.experiment("stylized")
    real, asked = tracker.client.get_experiment_by_name, []

    def too_early(name: str) -> object:
        asked.append(name)
        return real(name) if len(asked) > 1 else None

    monkeypatch.setattr(tracker.client, "get_experiment_by_name", too_early)
    assert tracker.experiment("stylized") == theirs


def test_a_kill_before_the_rename_leaves_no_database_and_the_next_use_makes_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(path: Path) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(mlflow_store, "replacing", kill)
        with pytest.raises(Killed):
            ensure_database(workspace)
    assert not mlflow_database(workspace).exists()
    assert Tracker(workspace).experiment("noise") == "1"


@pytest.mark.parametrize("begun", ["CREATE TABLE alembic_version (v)", "CREATE TABLE experiments (e)"])
def test_what_an_interrupted_first_use_has_left_is_replaced(workspace: Workspace, begun: str) -> None:
    with closing(sqlite3.connect(mlflow_database(workspace))) as database:
        database.executescript(begun)
    Tracker(workspace)
    assert {"experiments", "runs", "model_versions"} <= tables(mlflow_database(workspace))


def test_a_database_with_tables_of_another_program_is_never_replaced(workspace: Workspace) -> None:
    with closing(sqlite3.connect(mlflow_database(workspace))) as database:
        database.execute("CREATE TABLE recipes (name)")
    ensure_database(workspace)
    assert tables(mlflow_database(workspace)) == {"recipes"}


def test_a_database_with_experiments_is_left_as_it_is(migrated: Workspace) -> None:
    before = mlflow_database(migrated).read_bytes()
    ensure_database(migrated)
    assert mlflow_database(migrated).read_bytes() == before


def test_a_database_that_the_environment_names_is_made_whole_too(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/shared.db")
    ensure_database(workspace)
    assert "experiments" in tables(tmp_path / "shared.db")
    assert not mlflow_database(workspace).exists()


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:{port}", "postgresql://jane:pa55word@127.0.0.1:{port}/mlflow"]
)
def test_a_server_that_is_off_is_said_at_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(port=taken.getsockname()[1]))
        with pytest.raises(GanpipeError, match=r"\(MLFLOW_TRACKING_URI\) does not answer") as said:
            Tracker(workspace)
    assert "pa55word" not in str(said.value)


def test_a_server_that_accepts_and_never_answers_is_said_within_its_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mlflow_store, "PATIENCE_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(GanpipeError, match="does not answer"):
            require_tracking_server()
    assert time.monotonic() - started < 2


def test_an_experiment_opens_as_trainings(migrated: Workspace) -> None:
    tracker = Tracker(migrated)
    made = tracker.client.get_experiment(tracker.experiment("cats"))
    assert made.tags["mlflow.experimentKind"] == "custom_model_development"
