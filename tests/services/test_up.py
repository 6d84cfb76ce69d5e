"""What `ganpipe up` refuses before it starts anything, and what it tells its runner."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ganpipe.errors import GanpipeError
from ganpipe.services.prefect import free_port
from ganpipe.services.up import UpOptions, _runner_command, check_options
from ganpipe.stages.requests import RunRequest
from ganpipe.stores.secret import workspace_secret
from ganpipe.stores.workspace import Workspace


def options(workspace: Workspace, host: str = "127.0.0.1", watch: Path | None = None) -> UpOptions:
    request = RunRequest(
        str(workspace.root), None, "demo", [f"style.styles={workspace.root.parent / 'styles'}"]
    )
    return UpOptions(request, None, watch, host, free_port(), free_port(), "flows.deployments", "x/y")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "example.org", ""])  # noqa: S104
def test_it_serves_this_machine_only(workspace: Workspace, host: str) -> None:
    with pytest.raises(GanpipeError, match="serves this machine only"):
        check_options(workspace, options(workspace, host))
    assert "PREFECT_API_URL" not in os.environ


def test_its_own_clients_know_the_secret(workspace: Workspace) -> None:
    chosen = options(workspace, "localhost")
    check_options(workspace, chosen)
    assert os.environ["PREFECT_API_URL"] == f"http://127.0.0.1:{chosen.prefect_port}/api"
    assert os.environ["PREFECT_API_AUTH_STRING"] == workspace_secret(workspace)


def test_the_runner_is_told_what_runs_may_read_and_no_secret(workspace: Workspace, tmp_path: Path) -> None:
    command = _runner_command(options(workspace, watch=tmp_path / "watched"))
    named = [command[k + 1] for k, word in enumerate(command) if word == "--may-read"]
    assert named == [str((tmp_path / name).resolve()) for name in ("styles", "watched")]
    assert workspace_secret(workspace) not in " ".join(command)
