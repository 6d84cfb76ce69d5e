"""Servers are believed to be a workspace's only if they prove it; the secret is for its owner."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ganpipe.compute.process_identity import start_time
from ganpipe.stores.addresses import PROOF_PATH, Addresses, announce, mlflow_run_page, running_servers
from ganpipe.stores.secret import prove, secret_file, workspace_secret
from ganpipe.stores.workspace import Workspace


@contextmanager
def server_of(secret: str) -> Iterator[str]:
    """A server that answers everything, and proves that it knows `secret`. Yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert "Authorization" not in self.headers  # nobody is told the secret
            self.send_response(200)
            self.end_headers()
            self.wfile.write(prove(secret, self.path.removeprefix(PROOF_PATH)).encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_of_this_workspace_is_found(workspace: Workspace) -> None:
    with server_of(workspace_secret(workspace)) as url:
        own = Addresses(os.getpid(), start_time(os.getpid()), f"{url}/api", "http://127.0.0.1:5000")
        announce(workspace, own)
        assert running_servers(workspace) == own
        announce(workspace, replace(own, started="1"))  # its process is gone and the number was given again
        assert running_servers(workspace) is None


def test_another_workspaces_server_on_the_same_port_is_not_ours(workspace: Workspace, tmp_path: Path) -> None:
    workspace_secret(workspace)
    with server_of(workspace_secret(Workspace(tmp_path / "other"))) as url:
        announce(workspace, Addresses(os.getpid(), start_time(os.getpid()), f"{url}/api", ""))
        assert running_servers(workspace) is None


def test_links_to_mlflow_open_its_pages_for_training(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    up = Addresses(1, "", "http://127.0.0.1:4200/api", "http://127.0.0.1:5000")
    view = "?workflowType=machine_learning"
    assert up.mlflow_page(None) == f"http://127.0.0.1:5000/#/experiments{view}"
    assert up.mlflow_page("3") == f"http://127.0.0.1:5000/#/experiments/3/runs{view}"
    assert up.mlflow_run_page("ab12", "3") == f"http://127.0.0.1:5000/#/experiments/3/runs/ab12{view}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example/")
    assert (
        mlflow_run_page(workspace, "ab12", "3") == f"https://mlflow.example/#/experiments/3/runs/ab12{view}"
    )


def test_a_run_of_an_earlier_ganpipe_keeps_the_short_link() -> None:
    up = Addresses(1, "", "http://127.0.0.1:4200/api", "http://127.0.0.1:5000")
    assert up.mlflow_run_page("ab12", None) == "http://127.0.0.1:5000/#/runs/ab12"


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", "{", '{"pid": 1, "prefect_api": "http://127.0.0.1:1/api", "mlflow": ""}']
)
def test_a_damaged_or_older_file_is_no_server(workspace: Workspace, text: str) -> None:
    (workspace.state / "up.json").write_text(text)
    assert running_servers(workspace) is None


def test_the_secret_is_made_once_and_its_owner_alone_can_read_it(workspace: Workspace) -> None:
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(workspace_secret, [workspace] * 32))
    assert len(secrets) == 1
    assert len(secrets.pop()) > 40
    assert secret_file(workspace).stat().st_mode & 0o777 == 0o600
    assert not list(workspace.state.glob(".prefect-secret*"))


def test_two_workspaces_have_two_secrets(workspace: Workspace, tmp_path: Path) -> None:
    assert workspace_secret(workspace) != workspace_secret(Workspace(tmp_path / "other"))
