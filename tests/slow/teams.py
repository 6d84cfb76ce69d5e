"""Servers as a team has them, apart from any workspace: MLflow's and Prefect's, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ganpipe.compute.processes import start_process, stop_process
from ganpipe.services.prefect import free_port
from ganpipe.stores.addresses import answers
from tests.slow.processes import environment, soon


@contextmanager
def running_mlflow(folder: Path, *words: str, **variables: str) -> Iterator[str]:
    """MLflow's server with these options; its address."""
    port = free_port()
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", *address, *words]
    around = environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", **variables)
    process = start_process(command, around, folder / "mlflow.log")
    try:
        soon(lambda: answers(f"http://127.0.0.1:{port}/health"))
        yield f"http://127.0.0.1:{port}"
    finally:
        stop_process(process)


@contextmanager
def running_prefect(folder: Path, database: str) -> Iterator[dict[str, str]]:
    """Prefect's server on this database; the variables that a client of it needs."""
    port = free_port()
    client = {
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    around = environment(**client, PREFECT_SERVER_DATABASE_CONNECTION_URL=database)
    process = start_process(command, around, folder / "prefect.log")
    try:
        soon(lambda: answers(f"{client['PREFECT_API_URL']}/health"))
        yield client
    finally:
        stop_process(process)


def prefect(root: Path, around: dict[str, str], *words: str) -> str:
    """Runs a command of Prefect in a folder, and returns what it prints; it must succeed."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
    done = subprocess.run(
        command, cwd=root, env=around | {"PWD": str(root)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
