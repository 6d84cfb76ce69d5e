"""The event `ganpipe.dataset.updated`: who sends it, what is in it, and that nobody waits for a server."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ganpipe.settings.schema import Settings
from ganpipe.stores import datasets
from ganpipe.stores.dataset_events import emit_update
from ganpipe.stores.dataset_versions import checkout_dataset, open_version
from ganpipe.stores.workspace import Workspace
from tests.conftest import copied, noise_image


class Receiver:
    """A server that keeps what is posted to it."""

    def __init__(self, status: int = 204) -> None:
        self.got: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.got.append({"path": self.path, "auth": self.headers["Authorization"], "body": body})
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/api"

    def payloads(self) -> list[dict[str, Any]]:
        return [event["payload"] for post in self.got for event in post["body"]]


@pytest.fixture
def receiver(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    found = Receiver()
    monkeypatch.setenv("PREFECT_API_URL", found.api)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ganpipe:secret")
    yield found
    found.server.shutdown()


def test_whatever_changes_a_dataset_tells_it_with_versions_and_counts(
    workspace: Workspace, added_noise: Path, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    copied(added_noise, workspace)
    data = settings.data
    first = open_version(workspace, "noise", data).version
    checkout_dataset(workspace, "noise", first, data)
    assert receiver.got == [], "nothing has changed"
    more = tmp_path / "more"
    more.mkdir()
    for k in range(3):
        noise_image(200 + k).save(more / f"{k}.png")
    second = datasets.add_dataset(workspace, str(more), "noise", data).version
    datasets.add_dataset(workspace, str(more), "noise", data)
    third = datasets.remove_from_dataset(workspace, "noise", ["0.png", "000.png"], data)[1].version
    fourth = datasets.add_dataset(workspace, str(more), "noise", data, replace=True).version
    checkout_dataset(workspace, "noise", first, data)
    assert [tuple(payload.values()) for payload in receiver.payloads()] == [
        ("noise", first, second, 93, 3, 0),
        ("noise", second, third, 91, 0, 2),
        ("noise", third, fourth, 3, 1, 89),
        ("noise", fourth, first, 90, 90, 3),
    ]
    post = receiver.got[0]
    assert (post["path"], post["auth"]) == ("/api/events", "Basic Z2FucGlwZTpzZWNyZXQ=")
    [event] = post["body"]
    assert event["event"] == "ganpipe.dataset.updated"
    assert event["resource"]["prefect.resource.id"] == "ganpipe.dataset.noise"


def test_without_a_server_there_is_no_event(workspace: Workspace, added_noise: Path) -> None:
    copied(added_noise, workspace)
    assert not emit_update(workspace, "noise", None, "v")


def test_a_server_that_does_not_answer_costs_no_seconds(
    workspace: Workspace,
    added_noise: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    copied(added_noise, workspace)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/api")
        started = time.monotonic()
        assert not emit_update(workspace, "noise", None, "v")
        assert time.monotonic() - started < 2
    assert "did not take the event ganpipe.dataset.updated of noise" in caplog.text
