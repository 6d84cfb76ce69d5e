"""MLflow's server, over the same store that runs write to."""

from __future__ import annotations

import os
import subprocess
import sys

from ganpipe.compute.processes import start_process
from ganpipe.services.prefect import HOST
from ganpipe.stores.recorded_paths import artifacts_root
from ganpipe.stores.workspace import Workspace


def start_mlflow(workspace: Workspace, port: int) -> subprocess.Popen[bytes]:
    """Starts the server's process on loopback: one worker, no job execution. It is not ready yet."""
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
    command += ["--backend-store-uri", os.environ["MLFLOW_TRACKING_URI"]]
    command += ["--default-artifact-root", artifacts_root(workspace)]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return start_process(command, environment, workspace.state / "logs" / "mlflow-server.log")
