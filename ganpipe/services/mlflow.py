"""MLflow's server, over the same store that runs write to."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig

from ganpipe.compute.processes import start_process
from ganpipe.services.prefect_server import HOST, HOSTS, origins
from ganpipe.stores.mlflow_store import ensure_database
from ganpipe.stores.recorded_paths import artifacts_root
from ganpipe.stores.workspace import Workspace


def start_mlflow(workspace: Workspace, port: int) -> subprocess.Popen[bytes]:
    """Starts the server's process on loopback: one worker, no job execution. It is not ready yet."""
    ensure_database(workspace)
    artifacts = artifacts_root(workspace)
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
    command += ["--default-artifact-root", artifacts, "--artifacts-destination", artifacts]
    # MLflow's own default also accepts every private address: the names of other machines, and of a web page that
    # made its name point here.
    command += ["--allowed-hosts", ",".join(f"{host}:{port}" for host in HOSTS)]
    command += ["--cors-allowed-origins", ",".join(origins(port))]
    environment = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Not on the command line, which every user of this machine can read: it may hold a password.
        "MLFLOW_BACKEND_STORE_URI": os.environ["MLFLOW_TRACKING_URI"],
        # Otherwise uvicorn imports from the current folder first.
        "UVICORN_APP_DIR": sysconfig.get_path("stdlib"),
    }
    return start_process(command, environment, workspace.state / "logs" / "mlflow-server.log")
