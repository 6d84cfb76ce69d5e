"""Prefect's server: the one that is running, or a temporary one for a single run. Imports no Prefect."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ganpipe.compute.processes import start_process, stop_process
from ganpipe.console import say
from ganpipe.errors import STORAGE_SENTENCES, GanpipeError, classify_disk, classify_storage_text
from ganpipe.stores.addresses import answers, running_servers
from ganpipe.stores.workspace import Workspace

START_S = 120.0
HOST = "127.0.0.1"


def free_port(preferred: int | None = None, name: str = "server") -> int:
    """A free port on this machine; `preferred` itself, if it is named.

    Raises:
        GanpipeError: the preferred port is in use.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, preferred or 0))
        except OSError:
            raise GanpipeError(
                f"Port {preferred} for the {name} is in use; choose another with --{name}-port, or stop what uses it."
            ) from None
        return int(probe.getsockname()[1])


def start_prefect(workspace: Workspace, port: int, services: bool) -> subprocess.Popen[bytes]:
    """Starts the server's process on loopback; it is not ready yet. Without services it schedules nothing."""
    log_file = workspace.state / "logs" / "prefect-server.log"
    environment = os.environ | {
        "PREFECT_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_UI_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
    }
    if not services:
        unused = (
            "SCHEDULER",
            "LATE_RUNS",
            "PAUSE_EXPIRATIONS",
            "CANCELLATION_CLEANUP",
            "FOREMAN",
            "TRIGGERS",
        )
        environment |= {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in unused}
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        "prefect.server.api.server:create_app",
        "--host",
        HOST,
        "--port",
        str(port),
        "--log-level",
        "warning",
        "--timeout-keep-alive",
        "5",
    ]
    return start_process(command, environment, log_file)


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
    found = running_servers(workspace)
    if "PREFECT_API_URL" in os.environ or found:
        os.environ.setdefault("PREFECT_API_URL", found.prefect_api if found else "")
        url = os.environ["PREFECT_API_URL"]
        if not answers(f"{url}/health", 5.0):
            raise GanpipeError(
                f"The Prefect server at {url} (PREFECT_API_URL) does not answer; start it or unset it."
            )
        say(f"Using the Prefect server at {url}")
        meanwhile()
        yield url
        return
    port = free_port()
    url = f"http://{HOST}:{port}/api"
    started = time.monotonic()
    process = start_prefect(workspace, port, services=False)
    os.environ["PREFECT_API_URL"] = url  # before Prefect is imported: it reads its settings once
    try:
        meanwhile()
        say("Waiting for a temporary Prefect server (`ganpipe up` keeps one running) …")
        wait_until_ready(
            f"{url}/health", process, "Prefect's server", workspace.state / "logs/prefect-server.log"
        )
        say(f"  ready after {time.monotonic() - started:.0f} s")
        yield url
    finally:
        _deliver_logs()
        os.environ.pop("PREFECT_API_URL", None)
        stop_process(process)


def _deliver_logs() -> None:
    """Sends what Prefect has not sent yet: after the server has gone it would complain at exit."""
    if handlers := sys.modules.get("prefect.logging.handlers"):
        handlers.APILogHandler().flush()
