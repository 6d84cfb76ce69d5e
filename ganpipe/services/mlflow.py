"""MLflow's server, over the same store that runs write to. `python -m ganpipe.services.mlflow` becomes it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from ganpipe.compute.processes import start_process
from ganpipe.services.prefect_server import HOST, HOSTS, origins
from ganpipe.stores.mlflow_store import ensure_database
from ganpipe.stores.recorded_paths import artifacts_root
from ganpipe.stores.workspace import Workspace


def start_mlflow(workspace: Workspace, port: int) -> subprocess.Popen[bytes]:
    """Starts the server's process on loopback; it is not ready yet.

    The process makes the database first if there is none: this one would keep what that imports.
    """
    environment = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Not on the command line, which every user of this machine can read: it may hold a password.
        "MLFLOW_BACKEND_STORE_URI": os.environ["MLFLOW_TRACKING_URI"],
        # Otherwise uvicorn imports from the current folder first.
        "UVICORN_APP_DIR": sysconfig.get_path("stdlib"),
    }
    command = [sys.executable, "-m", "ganpipe.services.mlflow", str(workspace.root), str(port)]
    return start_process(command, environment, workspace.state / "logs" / "mlflow-server.log")


def server_command(workspace: Workspace, port: int) -> list[str]:
    """MLflow's own command: one worker, no job execution."""
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    artifacts = artifacts_root(workspace)
    command += ["--default-artifact-root", artifacts, "--artifacts-destination", artifacts]
    # MLflow's own default also accepts every private address: the names of other machines, and of a web page that
    # made its name point here.
    command += ["--allowed-hosts", ",".join(f"{host}:{port}" for host in HOSTS)]
    return [*command, "--cors-allowed-origins", ",".join(origins(port))]


def main(root: str, port: str) -> None:
    """Makes the database if there is none, and becomes the server."""
    workspace = Workspace(Path(root))
    ensure_database(workspace)
    os.execv(sys.executable, server_command(workspace, int(port)))  # noqa: S606  (words that this module made)


if __name__ == "__main__":
    main(*sys.argv[1:])
