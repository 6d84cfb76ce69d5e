"""A PostgreSQL of a test's own, on a free port of this machine; root starts it as the user `postgres`, as Debian does."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ganpipe.services.prefect import free_port


@dataclass(frozen=True)
class Postgres:
    """A running server and its programs."""

    programs: Path
    port: int

    def create(self, database: str) -> str:
        """Makes an empty database; its address without the scheme."""
        words = ["createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", database]
        subprocess.run([str(self.programs / words[0]), *words[1:]], check=True)
        return f"postgres@127.0.0.1:{self.port}/{database}"


def find_programs() -> Path | None:
    """The folder with PostgreSQL's programs: Debian keeps them apart from those on the path."""
    on_path = shutil.which("initdb")
    found = [Path(on_path)] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].resolve().parent if found else None


@contextmanager
def running_postgres(programs: Path) -> Iterator[Postgres]:
    """A new server without passwords, which is stopped and deleted afterwards."""
    user = "postgres" if os.geteuid() == 0 else None
    folder, port = Path(tempfile.mkdtemp(prefix="ganpipe-postgres-")), free_port()
    if user:
        shutil.chown(folder, user)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"

    def call(program: str, *words: str) -> None:
        command = [str(programs / program), *words]
        subprocess.run(command, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL)

    try:
        call("initdb", "-D", str(folder / "data"), "-U", "postgres", "-A", "trust")
        log = str(folder / "log")
        call("pg_ctl", "-D", str(folder / "data"), "-l", log, "-w", "-o", options, "start")
        yield Postgres(programs, port)
    finally:
        call("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(folder)
