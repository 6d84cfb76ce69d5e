"""Prefect's server: the one that is running, or a temporary one for a single run. Imports no Prefect."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from ganpipe.compute.processes import start_process, stop_process
from ganpipe.console import say
from ganpipe.errors import STORAGE_SENTENCES, GanpipeError, classify_disk, classify_storage_text, redact
from ganpipe.files import write_text
from ganpipe.services.prefect_server import HOST, SECRET_VARIABLE, origins
from ganpipe.stores.addresses import answers, is_ours, refuses, running_servers
from ganpipe.stores.secret import workspace_secret
from ganpipe.stores.workspace import Workspace

START_S = 120.0
HIGHEST_PORT, NEARBY_PORTS = 2**16, 100
URL_VARIABLE, CLIENT_SECRET_VARIABLE = "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"


def free_port() -> int:
    """A free port on this machine."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def choose_port(asked: int | None, usual: int, name: str, taken: Container[int] = ()) -> int:
    """The port that was asked for; without one the usual port, or the next that is free. `taken`: not these.

    Raises:
        GanpipeError: the port that was asked for is in use, or no port near the usual one is free.
    """
    if asked is not None:
        if not 0 < asked < HIGHEST_PORT:
            raise GanpipeError(f"--{name}-port is {asked}; it must be from 1 to {HIGHEST_PORT - 1}.")
        if not _is_free(asked):
            raise GanpipeError(
                f"Port {asked} for the {name} is in use; choose another with --{name}-port, or stop what uses it."
            )
        return asked
    for port in range(usual, usual + NEARBY_PORTS):
        if port not in taken and _is_free(port):
            if port != usual:
                say(f"Port {usual} is in use; {name} takes {port}.")
            return port
    raise GanpipeError(f"No port from {usual} to {port} is free; choose one with --{name}-port.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def start_prefect(workspace: Workspace, port: int, keep_days: int | None) -> subprocess.Popen[bytes]:
    """Starts the server's process on loopback; it is not ready yet.

    `keep_days`: how long it remembers flow runs; None: it is a temporary one, which schedules and forgets nothing.
    """
    log_file = workspace.state / "logs" / "prefect-server.log"
    url = f"http://{HOST}:{port}/api"
    environment = os.environ | {
        URL_VARIABLE: url,
        SECRET_VARIABLE: workspace_secret(workspace),
        CLIENT_SECRET_VARIABLE: workspace_secret(workspace),
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_UI_API_URL": url,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins(port)),
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
    }
    if keep_days is not None:
        environment |= {
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(keep_days * 86_400),
        }
    else:
        unused = (
            "SCHEDULER",
            "LATE_RUNS",
            "PAUSE_EXPIRATIONS",
            "CANCELLATION_CLEANUP",
            "FOREMAN",
            "TRIGGERS",
        )
        environment |= {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in unused}
    command = [sys.executable, "-m", "ganpipe.services.prefect_server", str(port)]
    return start_process(command, environment, log_file)


def point_to(workspace: Workspace, url: str) -> None:
    """Makes Prefect in this process and its children use this workspace's server at `url`.

    Must come before Prefect is imported: it reads its settings once.
    """
    os.environ[URL_VARIABLE] = url
    os.environ[CLIENT_SECRET_VARIABLE] = workspace_secret(workspace)


def wait_until_ready(url: str, process: subprocess.Popen[bytes], name: str, log_file: Path) -> None:
    """Waits for a server's first answer.

    Raises:
        GanpipeError: its process ended, or START_S passed.
    """
    deadline = time.monotonic() + START_S
    while not answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            stop_process(process)
            last = log_file.read_text(errors="replace")[-4000:]
            fault = classify_storage_text(last) or classify_disk(log_file.parent)
            why = f": {STORAGE_SENTENCES[fault]}" if fault else ""
            raise GanpipeError(f"{name} did not start{why}; its last words are in {log_file}.")
        time.sleep(0.1)


@contextmanager
def prefect_api(workspace: Workspace, meanwhile: Callable[[], None] = lambda: None) -> Iterator[str]:
    """The API to use for one run, with PREFECT_API_URL pointing to it inside the block.

    A server that the environment names or that `ganpipe up` runs is used; otherwise a temporary one is started,
    and `meanwhile` is called while it starts.
    """
    before = {name: os.environ.get(name) for name in (URL_VARIABLE, CLIENT_SECRET_VARIABLE)}
    try:
        if named := before[URL_VARIABLE]:
            yield _named_server(workspace, named, meanwhile)
        elif found := running_servers(workspace):
            point_to(workspace, found.prefect_api)
            say(f"Using the Prefect server at {found.prefect_api}")
            meanwhile()
            yield found.prefect_api
        else:
            with _temporary_server(workspace, meanwhile) as url:
                yield url
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _named_server(workspace: Workspace, url: str, meanwhile: Callable[[], None]) -> str:
    """The server of PREFECT_API_URL. It gets the workspace's secret only if it proves that it knows it."""
    if not answers(f"{url}/health", 5.0):
        raise GanpipeError(
            f"The Prefect server at {url} (PREFECT_API_URL) does not answer; start it or unset it."
        )
    if CLIENT_SECRET_VARIABLE not in os.environ and is_ours(workspace, url):
        point_to(workspace, url)
    if "PREFECT_API_KEY" not in os.environ and refuses(
        f"{url}/admin/version", os.environ.get(CLIENT_SECRET_VARIABLE, "")
    ):
        raise GanpipeError(
            f"The Prefect server at {url} (PREFECT_API_URL) wants a password: set {CLIENT_SECRET_VARIABLE}, or unset "
            "PREFECT_API_URL. The server of another workspace has its password in .ganpipe/prefect-secret there."
        )
    say(redact(f"Using the Prefect server at {url}"))
    meanwhile()
    return url


@contextmanager
def first_start(workspace: Workspace) -> Iterator[None]:
    """Around a start of Prefect's server until it is ready: one process makes the database's tables, others wait.

    Prefect's migrations are not locked. Once a server of this version of Prefect was ready, nobody waits any more.
    """
    migrated, version = workspace.state / "prefect" / "migrated", metadata.version("prefect")
    if _text_of(migrated) == version:
        yield
        return
    with workspace.lock("prefect-database", START_S, say):
        yield
        write_text(migrated, version)


def _text_of(path: Path) -> str | None:
    return path.read_text(errors="replace") if path.is_file() else None


@contextmanager
def _temporary_server(workspace: Workspace, meanwhile: Callable[[], None]) -> Iterator[str]:
    port = free_port()
    url = f"http://{HOST}:{port}/api"
    started = time.monotonic()
    process = None
    point_to(workspace, url)
    try:
        with first_start(workspace):
            process = start_prefect(workspace, port, keep_days=None)
            meanwhile()
            say("Waiting for a temporary Prefect server (`ganpipe up` keeps one running) …")
            log_file = workspace.state / "logs" / "prefect-server.log"
            wait_until_ready(f"{url}/health", process, "Prefect's server", log_file)
        say(f"  ready after {time.monotonic() - started:.0f} s")
        yield url
    finally:
        if process is not None:
            _deliver_logs()
            stop_process(process)


def _deliver_logs() -> None:
    """Sends what Prefect has not sent yet: after the server has gone it would complain at exit."""
    if handlers := sys.modules.get("prefect.logging.handlers"):
        handlers.APILogHandler().flush()
