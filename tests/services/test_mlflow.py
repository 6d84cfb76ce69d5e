"""MLflow's server: for this machine's names only, and with no secret on its command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from ganpipe.services import mlflow
from ganpipe.stores.workspace import Workspace


def test_the_database_is_in_the_environment_and_foreign_hosts_are_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], Mapping[str, str]]] = []

    def note(command: list[str], environment: Mapping[str, str], log_file: Path) -> None:
        started.append((command, environment))

    monkeypatch.setattr(mlflow, "start_process", note)
    monkeypatch.setattr(mlflow, "ensure_database", lambda place: None)  # nobody is there
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://jane:pa55word@db/mlflow")
    mlflow.start_mlflow(workspace, 5000)
    [(command, environment)] = started
    assert "pa55word" not in " ".join(command)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == "postgresql://jane:pa55word@db/mlflow"
    command = mlflow.server_command(workspace, 5000)
    assert command[command.index("--allowed-hosts") + 1] == "127.0.0.1:5000,localhost:5000"
    assert command[command.index("--host") + 1] == "127.0.0.1"
