"""Faults of a disk or database are told apart, whoever reports them and however they are wrapped."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from ganpipe import cli
from ganpipe.errors import (
    StorageFault,
    classify_storage_error,
    classify_storage_text,
    explain_storage_error,
)
from ganpipe.stores.workspace import Workspace


def wrapped(inner: Exception, outer: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


class WithOrig(Exception):
    """As SQLAlchemy's errors, which keep the driver's."""

    def __init__(self, orig: Exception) -> None:
        super().__init__("a statement failed")
        self.orig = orig


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "full"),
        (OSError(errno.EROFS, "Read-only file system"), "read_only"),
        (OSError(errno.EACCES, "Permission denied"), None),
        (OSError("Not enough free space to write 9 bytes"), "full"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), "full"),
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 704 vs 598"), "full"),
        (RuntimeError("CUDA error"), None),
        (Exception("Error while serializing: I/O error: Os { code: 28, kind: StorageFull }"), "full"),
        (sqlite3.OperationalError("database or disk is full"), "full"),
        (sqlite3.OperationalError("database is locked"), "locked"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "read_only"),
        (sqlite3.DatabaseError("database disk image is malformed"), "damaged"),
        (sqlite3.DatabaseError("file is not a database"), "damaged"),
        (sqlite3.OperationalError("unable to open database file"), None),
        (Exception("(sqlite3.OperationalError) database or disk is full\n[SQL: INSERT"), "full"),
        (WithOrig(sqlite3.OperationalError("database is locked")), "locked"),
        (wrapped(OSError(errno.ENOSPC, "x"), ValueError("cannot pickle")), "full"),
        (ExceptionGroup("tasks", [ValueError("a"), OSError(errno.EROFS, "x")]), "read_only"),
        (ValueError("No label"), None),
    ],
)
def test_an_error_of_storage_is_told_from_others(error: Exception, fault: StorageFault | None) -> None:
    assert classify_storage_error(error) == fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("ERROR: unexpected error - [Errno 28] No space left on device: '/x'", "full"),
        ("ERROR: unexpected error - [Errno 30] Read-only file system", "read_only"),
        ("ERROR: Unable to acquire lock. Most likely another DVC process is running", "locked"),
        ("ERROR: failed to reproduce 'prepare'", None),
    ],
)
def test_the_text_of_another_program_is_told_too(
    text: str, fault: StorageFault | None, tmp_path: Path
) -> None:
    assert classify_storage_text(text) == fault
    assert classify_storage_text(text, tmp_path) == fault


def test_real_sqlite_errors_are_known_by_their_code(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "a.sqlite", timeout=0)
    database.execute("create table t (x blob)")
    database.execute("pragma max_page_count=3")
    with pytest.raises(sqlite3.OperationalError) as full:
        database.execute("insert into t values (zeroblob(100000))")
    database.execute("pragma query_only=1")
    with pytest.raises(sqlite3.OperationalError) as read_only:
        database.execute("insert into t values (1)")
    other = sqlite3.connect(tmp_path / "a.sqlite", timeout=0)
    other.execute("begin exclusive")
    with pytest.raises(sqlite3.OperationalError) as locked:
        database.execute("select * from t")
    found = [classify_storage_error(caught.value) for caught in (full, read_only, locked)]
    assert found == ["full", "read_only", "locked"]
    for caught in (full, read_only, locked):
        caught.value.args = ("in words that nobody knows",)
        assert classify_storage_error(caught.value) is not None


def test_a_doubtful_error_is_explained_by_the_disk_that_it_happened_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubtful = sqlite3.OperationalError("disk I/O error")
    assert explain_storage_error(doubtful, tmp_path) is None
    monkeypatch.setattr("ganpipe.errors.LEAST_FREE_BYTES", 2**62)
    assert explain_storage_error(doubtful, tmp_path) == "The disk is full; free some room and run again."
    assert explain_storage_error(ValueError("a bug"), tmp_path) is None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.EROFS, "Read-only file system", "/data/x"),
            "/data/x: the disk or folder is read-only",
        ),
        (sqlite3.OperationalError("database is locked"), "Another program holds the database; wait for it"),
        (
            Exception("(sqlite3.OperationalError) database or disk is full"),
            "The disk is full; free some room",
        ),
    ],
)
def test_a_command_says_what_is_wrong_in_one_sentence(
    error: Exception,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def fails(_: object) -> int:
        raise error

    monkeypatch.setattr("ganpipe.commands.data.list_all", fails)
    assert cli.main(["data", "list", "--workspace", str(tmp_path)]) == 1
    printed = capsys.readouterr().err
    assert said in printed
    assert "Unexpected" not in printed
    assert len(printed.splitlines()) == 1


def test_a_server_that_does_not_start_says_whether_its_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess
    import sys

    from ganpipe.errors import GanpipeError
    from ganpipe.services.prefect import wait_until_ready

    log = tmp_path / "server.log"
    log.write_text("sqlite3.OperationalError: database or disk is full")
    process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    process.wait()
    with pytest.raises(GanpipeError, match="Prefect did not start: the disk is full"):
        wait_until_ready("http://127.0.0.1:1/", process, "Prefect", log)


def test_a_damaged_mlflow_database_hides_no_run_in_the_status(workspace: Workspace) -> None:
    from ganpipe.stages.status import read_status

    (workspace.runs / "cats-1").mkdir(parents=True)
    (workspace.runs / "cats-1" / "run.json").write_text("{")
    (workspace.state / "mlflow.db").write_bytes(b"garbage" * 1000)
    found = read_status(workspace)
    assert [run.run for run in found.runs] == ["cats-1"]
    assert "mlflow.db is damaged (it is no SQLite database)" in str(found.models_problem)
