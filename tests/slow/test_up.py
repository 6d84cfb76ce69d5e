"""Slow: a real `ganpipe up`, with a web page, a stranger's files and a kill -9 against it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

import ganpipe
from ganpipe.compute.process_identity import lives, start_time
from ganpipe.services.prefect import free_port
from ganpipe.stores.addresses import Addresses, announce, running_servers
from ganpipe.stores.secret import secret_file
from ganpipe.stores.workspace import Workspace
from tests.conftest import TINY, activated, copied

OVERRIDES = [f"{key}={value}" for key, value in TINY.items()]
LONG = [
    *OVERRIDES,
    "training.total_images=4000000",
    "training.log_every_images=800",
    "training.save_every_images=8000",
]
SECRETS = {"AWS_SECRET_ACCESS_KEY": "planted-aws-secret", "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-secret"}
DVC_SECRET = "planted-dvc-secret"
HOSTILE = (
    "yaml.py",
    "uvicorn.py",
    "numpy.py",
    "flows/__init__.py",
    "ganpipe/__init__.py",
    "prefect/__init__.py",
)


def soon(true: Callable[[], Any], within_s: float = 240.0) -> Any:
    """What `true` returns, once that is true."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.2)
    raise AssertionError("It did not happen in time.")


class Up:
    """A running `ganpipe up` in its own process, started as the installed command is."""

    def __init__(self, workspace: Workspace, scratch: Path) -> None:
        self.workspace = workspace
        self.ports = free_port(), free_port()
        script = scratch / "start-ganpipe"
        script.write_text("from ganpipe.cli import entry\nentry()\n")
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_", "DVC_"))
        }
        environment |= SECRETS | {"PYTHONPATH": str(Path(ganpipe.__file__).parents[1])}
        words = [
            "up",
            "--dataset",
            "noise",
            "--prefect-port",
            str(self.ports[0]),
            "--mlflow-port",
            str(self.ports[1]),
        ]
        sets = [word for text in OVERRIDES for word in ("--set", text)]
        with (workspace.root / "up.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(script), *words, *sets],
                cwd=workspace.root,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.servers = soon(lambda: running_servers(workspace))
        self.auth = base64.b64encode(secret_file(workspace).read_text().strip().encode()).decode()

    def ask(self, path: str, body: Any = None, url: str = "", **headers: str) -> tuple[int, Any]:
        """Status and JSON that a server answers; Prefect's with the secret unless `url` or Authorization is given."""
        given = {"Content-Type": "application/json", "Authorization": f"Basic {self.auth}"} | headers
        data = None if body is None else json.dumps(body).encode()
        try:
            with urlopen(Request((url or self.servers.prefect_api) + path, data, given), timeout=30) as reply:  # noqa: S310
                return reply.status, json.loads(reply.read() or b"null")
        except HTTPError as error:
            return error.code, error.read().decode()

    def start_run(self, **parameters: Any) -> str:
        def registered() -> Any:  # by the runner, a moment after the servers answer
            status, found = self.ask("/deployments/name/ganpipe/scheduled")
            return found if status == 200 else None

        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        status, run = self.ask(f"/deployments/{soon(registered)['id']}/create_flow_run", body)
        assert status in (200, 201), run
        return str(run["id"])

    def ended(self, run: str) -> tuple[str, str]:
        """The state of a run that has ended, and its message."""

        def state() -> tuple[str, str] | None:
            found = self.ask(f"/flow_runs/{run}")[1]["state"]
            final = found["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
            return (found["type"], found["message"] or "") if final else None

        return soon(state)

    def descendants(self) -> dict[int, str]:
        """Every process below this one, with its start time."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
        found = {self.process.pid}
        while more := {child for child, parent in parents.items() if parent in found} - found:
            found |= more
        return {pid: start_time(pid) for pid in found - {self.process.pid}}


@pytest.fixture
def up(workspace: Workspace, added_noise: Path, tmp_path: Path) -> Iterator[Up]:
    """`up` in a workspace whose folder holds modules that write a marker when they are imported."""
    copied(added_noise, workspace)
    for name in HOSTILE:
        path = workspace.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"open({str(tmp_path / 'hostile')!r}, 'a').write(__file__)\n")
    config = workspace.root / ".dvc" / "config.local"
    with config.open("a") as file:
        file.write(f"['remote \"store\"']\n    url = https://jane:{DVC_SECRET}@127.0.0.1:1/x\n")
        file.write(f"    password = {DVC_SECRET}\n")
    running = Up(workspace, tmp_path)
    yield running
    running.process.send_signal(signal.SIGTERM)
    running.process.wait(90)


@pytest.mark.slow
def test_up_serves_its_own_workspace_and_tells_no_secret(up: Up, tmp_path: Path) -> None:
    flows, body = "/flows/filter", {}
    assert up.ask(flows, body)[0] == 200
    assert up.ask(flows, body, Authorization="")[0] == 401
    assert up.ask(flows, body, Origin="http://evil.example")[0] == 403
    assert up.ask(flows, body, Host="evil.example")[0] == 403
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert up.ask(search, url=up.servers.mlflow)[0] == 200
    for host in ("evil.example", "10.0.0.1", "192.168.0.1:5000"):
        assert up.ask(search, url=up.servers.mlflow, Host=host)[0] == 403

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "secrets").write_text("planted-line\n")
    assert up.ended(up.start_run(workspace=str(foreign)))[0] == "FAILED"
    state, why = up.ended(up.start_run(overrides=[f"style.contents=@{foreign / 'secrets'}"]))
    assert state == "FAILED"
    assert "must stay inside" in why
    assert [path.name for path in foreign.iterdir()] == ["secrets"]

    assert up.ended(up.start_run()) == ("COMPLETED", "")
    assert not (tmp_path / "hostile").exists()

    other = Workspace(tmp_path / "other")
    with activated(other.root):
        announce(other, Addresses(up.servers.pid, up.servers.started, up.servers.prefect_api, ""))
        assert running_servers(other) is None  # it is not this workspace's

    planted = {
        *SECRETS.values(),
        DVC_SECRET,
        "planted-line",
        secret_file(up.workspace).read_text().strip().partition(":")[2],
    }
    allowed = {secret_file(up.workspace), up.workspace.root / ".dvc" / "config.local"}
    for path in up.workspace.root.rglob("*"):
        if path.is_file() and path not in allowed:
            told = {secret for secret in planted if secret.encode() in path.read_bytes()}
            assert not told, path
    for pid in [up.process.pid, *up.descendants()]:
        line = Path(f"/proc/{pid}/cmdline").read_text()
        assert not any(secret in line for secret in planted), line


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGHUP])
def test_everything_that_up_started_ends_with_it_and_training_writes_its_checkpoint(
    up: Up, signum: int
) -> None:
    up.start_run(overrides=LONG)
    soon(lambda: list(up.workspace.runs.glob("*/checkpoints/*.json")))
    processes = up.descendants()
    assert len(processes) >= 5
    [checkpoint] = up.workspace.runs.glob("*/checkpoints")
    before = {path.name for path in checkpoint.iterdir()}
    up.process.send_signal(signum)
    up.process.wait(90)
    soon(lambda: not any(lives(pid, started) for pid, started in processes.items()), within_s=60)
    assert {path.name for path in checkpoint.iterdir()} - before, "no checkpoint was written after the signal"
    [record] = up.workspace.runs.glob("*/run.json")
    assert json.loads(record.read_text())["state"] == "interrupted"
