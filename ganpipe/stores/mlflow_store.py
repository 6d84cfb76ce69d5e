"""MLflow's store is there before it is used: its server answers, its database is made once and whole.

MLflow creates the tables of a SQLite database in some sixty steps that are neither locked nor atomic: two first commands
at once, or a kill in between, leave a database that no command can use. It is therefore made aside, and then renamed.
In PostgreSQL each step is atomic; one process makes them while others wait.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from ganpipe.compute.locks import lock_file
from ganpipe.errors import GanpipeError, first_line
from ganpipe.files import replacing
from ganpipe.stores.addresses import accepts, replies
from ganpipe.stores.recorded_paths import artifacts_root
from ganpipe.stores.workspace import Workspace, mlflow_database, sqlite_uri, tracks_here

log = logging.getLogger(__name__)

PATIENCE_S = 5.0  # a server that has not answered by then is away
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
MAKING_KEY = int.from_bytes(b"ganpipe")  # of PostgreSQL's lock: any number that nobody else takes
MAKING_S = 120.0  # another process has made the database by then; alone it takes one or two seconds


def require_tracking_server() -> None:
    """Raises GanpipeError within seconds if the server that MLFLOW_TRACKING_URI names does not answer.

    MLflow itself asks again and again: for minutes, without a word.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        is_there = replies(f"{uri.rstrip('/')}/health", PATIENCE_S)
    elif (port := parts.port or PORTS.get(parts.scheme.partition("+")[0])) and parts.hostname:
        is_there = accepts(parts.hostname, port, PATIENCE_S)
    else:
        return
    if not is_there:
        raise GanpipeError(
            f"The MLflow server at {uri} (MLFLOW_TRACKING_URI) does not answer; start it, or unset the variable to "
            "use the workspace's own database."
        )


def ensure_database(workspace: Workspace) -> None:
    """Makes MLflow's tables if they are not there, under a lock; a SQLite database whole or not at all.

    Raises:
        GanpipeError: the database is PostgreSQL and cannot be used.
    """
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri.startswith("postgresql"):
        _ensure_postgres_tables(uri, artifacts_root(workspace))
        return
    path = _sqlite_file(workspace)
    if path is None or not _is_missing(path):
        return
    place = workspace.state / "locks" if tracks_here(workspace) else path.parent
    with lock_file(place, path.name, MAKING_S, log.info):
        if _is_missing(path):
            _make_database(workspace, path)


def _ensure_postgres_tables(uri: str, artifacts: str) -> None:
    """The lock is the database's own, and ends with the connection: other machines wait for it, too."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import create_engine, inspect, text
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    try:
        # Without a transaction, whose locks on what it has read would hold up the process that makes the tables.
        with create_engine(uri, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect() as connection:
            tables = inspect(connection).has_table("experiments")
            if tables and connection.execute(text("SELECT 1 FROM experiments")).first():
                return
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MAKING_KEY})
            SqlAlchemyStore(uri, artifacts).engine.dispose()
    except ModuleNotFoundError as error:
        raise GanpipeError(
            f"MLFLOW_TRACKING_URI names a PostgreSQL database, and the package {error.name} is missing; install it with: "
            "pip install 'ganpipe[postgres]'"
        ) from None
    except SQLAlchemyError as error:
        raise GanpipeError(f"MLflow's database at {uri} cannot be used: {first_line(error)}") from None


def _sqlite_file(workspace: Workspace) -> Path | None:
    """The file of the tracking store if that is a SQLite database."""
    if tracks_here(workspace):
        return mlflow_database(workspace)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    name = make_url(uri).database
    return None if not name or name.startswith((":memory:", "file:")) else Path(name).absolute()


def _is_missing(path: Path) -> bool:
    """Whether no database is there, or one that an interrupted first use has left without a run."""
    if not path.exists() or path.stat().st_size == 0:
        return True
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=10)) as database:
            tables = {
                name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
            begun = "experiments" in tables and database.execute("SELECT 1 FROM experiments").fetchone()
    except sqlite3.DatabaseError:  # damaged or busy: others say so
        return False
    return not begun and tables <= _mlflow_tables()


def _mlflow_tables() -> set[str]:
    """The names of MLflow's tables, and of those that its migrations use meanwhile."""
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.db.utils import _all_tables_exist  # noqa: F401  (registers every table)

    names = {"alembic_version", *Base.metadata.tables}
    return names | {f"_alembic_tmp_{name}" for name in names}


def _make_database(workspace: Workspace, path: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for name in ("mlflow", "alembic"):  # they tell of every step
        logging.getLogger(name).setLevel(logging.WARNING)
    with workspace.scratch_folder() as scratch:
        made = scratch / "mlflow.db"
        store = SqlAlchemyStore(sqlite_uri(made), artifacts_root(workspace))
        store.engine.dispose()
        for suffix in (
            "-journal",
            "-wal",
            "-shm",
        ):  # of the interrupted one: SQLite would apply them to this one
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        with replacing(path) as file:
            file.write(made.read_bytes())
