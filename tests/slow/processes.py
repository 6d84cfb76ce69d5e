"""Real ganpipe processes, as a shell starts them: commands, a running `ganpipe up`, and what is left of them."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import ganpipe
from ganpipe.compute.process_identity import start_time
from ganpipe.services.prefect import free_port
from ganpipe.stores.addresses import running_servers
from ganpipe.stores.secret import secret_file
from ganpipe.stores.workspace import Workspace
from tests.conftest import TINY

Sets = dict[str, object]
LONG: Sets = {  # a training that no test waits for
    "training.total_images": 4_000_000,
    "training.log_every_images": 800,
    "training.save_every_images": 8000,
    "training.grid_every_images": 4_000_000,
}


def soon(true: Callable[[], Any], within_s: float = 240.0) -> Any:
    """Calls `true` until its result is true, and returns that."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.2)
    raise AssertionError("It did not happen in time.")


def overrides_of(sets: Sets) -> list[str]:
    """The small settings of all tests and these, as a deployment takes them."""
    return [f"{key}={value}" for key, value in (TINY | sets).items()]


def words_of(sets: Sets) -> list[str]:
    """The same as a command takes them."""
    return [word for text in overrides_of(sets) for word in ("--set", text)]


def environment(**more: str) -> dict[str, str]:
    """Returns the variables of a shell that knows nothing of the test's own workspace, and `more`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_", "DVC_"))}
    path = [str(Path(ganpipe.__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return clean | {"PYTHONPATH": os.pathsep.join(filter(None, dict.fromkeys(path)))} | more


def command(root: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "ganpipe", *words, "--workspace", str(root)]


def start(root: Path, *words: str, log: Path | None = None, **more: str) -> subprocess.Popen[bytes]:
    """Starts a command in its own session; what it prints is added to `log`."""
    with (log or Path(os.devnull)).open("ab") as file:
        return subprocess.Popen(
            command(root, *words),
            cwd=root,
            env=environment(**more),
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def answer(root: Path, *words: str, **more: str) -> dict[str, Any]:
    """The JSON of a command that succeeds."""
    done = subprocess.run(
        command(root, *words, "--json"),
        cwd=root,
        env=environment(**more),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def below(pid: int) -> set[int]:
    """The processes that this one, its children and theirs have started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def processes_of(root: Path) -> list[str]:
    """Command lines of all processes whose folder, command line or environment names this workspace."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            told = (process / "cmdline").read_bytes()
            if str(root).encode() in told + (process / "environ").read_bytes():
                found.append(told.replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in found if line]  # one that has ended and was not waited for has no command line


def half_done(root: Path) -> list[str]:
    """Names of the temporary files in a workspace, DVC's own left out."""
    endings = (".tmp", ".partial")
    return [p.name for p in root.rglob("*") if p.name.endswith(endings) and ".dvc" not in p.parts]


def rows(database: Path, query: str) -> list[tuple[str, ...]]:
    """Queries an SQLite database that others write, and returns the rows."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as opened:
        return list(opened.execute(query).fetchall())


class Up:
    """A running `ganpipe up` in its own process, started as the installed command is."""

    def __init__(
        self,
        workspace: Workspace,
        dataset: str,
        scratch: Path,
        ready: bool = True,
        words: Sequence[str] = (),
        **environment_: str,
    ) -> None:
        self.workspace = workspace
        script = scratch / "start-ganpipe"
        script.write_text("from ganpipe.cli import entry\nentry()\n")
        ports = [
            w for name in ("prefect", "mlflow", "dashboard") for w in (f"--{name}-port", str(free_port()))
        ]
        with (workspace.root / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(script), "up", "--dataset", dataset, *ports, *words_of({}), *words],
                cwd=workspace.root,
                env=environment(**environment_),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if ready:
            self.servers = soon(lambda: running_servers(workspace))

    def ask(self, path: str, body: Any = None, url: str = "", **headers: str) -> tuple[int, Any]:
        """Status and JSON that a server answers; Prefect's with the secret unless `url` or Authorization is given."""
        secret = base64.b64encode(secret_file(self.workspace).read_text().strip().encode()).decode()
        given = {"Content-Type": "application/json", "Authorization": f"Basic {secret}"} | headers
        data = None if body is None else json.dumps(body).encode()
        try:
            with urlopen(Request((url or self.servers.prefect_api) + path, data, given), timeout=30) as reply:  # noqa: S310
                return reply.status, json.loads(reply.read() or b"null")
        except HTTPError as error:
            return error.code, error.read().decode()

    def deployment(self, name: str = "ganpipe/scheduled") -> str:
        """Its id. The runner registers it a moment after the servers answer."""

        def registered() -> str | None:
            status, found = self.ask(f"/deployments/name/{name}")
            return str(found["id"]) if status == 200 else None

        return str(soon(registered))

    def start_run(self, **parameters: Any) -> str:
        """Starts a run of the deployment; asks again while the server is busy with its own start."""
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}

        def started() -> str | None:
            status, found = self.ask(f"/deployments/{self.deployment()}/create_flow_run", body)
            assert status in (200, 201, 503), found
            return str(found["id"]) if status != 503 else None

        return str(soon(started))

    def ended(self, run: str) -> tuple[str, str]:
        """The state of a run that has ended, and its message."""

        def state() -> tuple[str, str] | None:
            found = self.ask(f"/flow_runs/{run}")[1]["state"]
            final = found["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
            return (found["type"], found["message"] or "") if final else None

        found: tuple[str, str] = soon(state)
        return found

    def descendants(self) -> dict[int, str]:
        """Every process below this one, with its start time."""
        return {pid: start_time(pid) for pid in below(self.process.pid)}

    def child(self, name: str) -> int | None:
        """The process that `up` itself has started and that has `name` in its command line."""
        for pid in below(self.process.pid):
            try:
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if parent == self.process.pid and name in line:
                return pid
        return None
