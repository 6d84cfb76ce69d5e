"""Prefect's server answers its own pages on this machine, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from ganpipe.errors import GanpipeError
from ganpipe.services import prefect as prefect_service
from ganpipe.services.prefect_server import OwnPagesOnly, Receive, Scope, Send
from ganpipe.stores.secret import prove
from ganpipe.stores.workspace import Workspace

PORT, SECRET = 4200, "ganpipe:secret"
OWN = f"127.0.0.1:{PORT}"


async def prefect(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"Prefect"})


def ask(path: str = "/api/flows", kind: str = "http", **headers: str) -> list[MutableMapping[str, Any]]:
    """Sends a request with these headers, and returns the messages that the server sends."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    named = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "method": "GET", "path": path, "headers": named}
    asyncio.run(OwnPagesOnly(prefect, PORT, SECRET)(scope, receive, send))
    return sent


@pytest.mark.parametrize("origin", [None, f"http://{OWN}", f"http://localhost:{PORT}"])
def test_own_pages_and_programs_reach_prefect(origin: str | None) -> None:
    start, body = ask(host=OWN, **({"origin": origin} if origin else {}))
    assert start["status"] == 200
    assert body["body"] == b"Prefect"
    assert (b"x-frame-options", b"DENY") in start["headers"]
    assert b"connect-src 'self';" in dict(start["headers"])[b"content-security-policy"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "evil.example"},
        {"host": f"evil.example:{PORT}"},
        {"host": "10.0.0.1:4200"},
        {"host": "127.0.0.1:4201"},
        {"host": OWN, "origin": "http://evil.example"},
        {"host": OWN, "origin": "null"},
        {"host": OWN, "origin": f"https://{OWN}"},
        {"host": OWN, "origin": "http://127.0.0.1:5000"},
        {"host": OWN, "origin": f"http://{OWN}.evil.example"},
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_foreign_names_and_pages_are_refused(headers: dict[str, str], kind: str) -> None:
    first = ask(kind=kind, **headers)[0]
    assert first.get("status") == 403 or first == {"type": "websocket.close", "code": 1008}


def test_the_server_proves_that_it_knows_the_secret_and_does_not_tell_it() -> None:
    answer = ask("/ganpipe/proof/question", host=OWN)[1]["body"].decode()
    assert answer == prove(SECRET, "question")
    assert SECRET not in answer
    assert answer != prove("ganpipe:another", "question")


def test_a_second_first_start_waits_until_the_first_server_is_ready(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's migrations are not locked; once they are done nobody waits."""
    monkeypatch.setattr(prefect_service, "START_S", 0.1)
    with (
        prefect_service.first_start(workspace),
        pytest.raises(GanpipeError, match="busy with prefect-database"),
    ):
        prefect_service.first_start(workspace).__enter__()
    with prefect_service.first_start(workspace), prefect_service.first_start(workspace):
        pass
