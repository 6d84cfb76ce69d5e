"""The dashboard's server: who may see the pages, and what its process imports."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse

import pytest

from ganpipe.dashboard.server import MOST_SECRET_BYTES, cookie_of
from ganpipe.services.prefect import free_port
from ganpipe.services.prefect_server import SIGN_IN_PATH
from ganpipe.stores.addresses import PROOF_PATH
from ganpipe.stores.secret import secret_file, workspace_secret
from ganpipe.stores.workspace import Workspace
from tests.conftest import activated

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"


class Served:
    """A running `ganpipe dashboard`."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.port = workspace, free_port()
        command = [sys.executable, "-m", "ganpipe", "dashboard", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--workspace", str(workspace.root)], stderr=subprocess.PIPE, text=True
        )
        for _ in range(300):
            try:
                self.ask("/")
            except ConnectionError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError("the dashboard has not answered in 30 s")

    def ask(self, path: str, method: str = "GET", body: str = "", **headers: str) -> HTTPResponse:
        """The reply to a request; `_` in the name of a header is `-`."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        reply = connection.getresponse()
        if reply.status != 101:
            reply.read()
        return reply

    @property
    def cookie(self) -> str:
        """The cookie that a signed-in browser sends."""
        return f"ganpipe-{self.port}={cookie_of(workspace_secret(self.workspace))}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with activated(tmp_path_factory.mktemp("dashboard")) as workspace:
        server = Served(workspace)
        yield server
        server.process.terminate()
        assert server.process.wait(30) in (0, 143, -15)
        assert server.process.stderr is not None
        said = server.process.stderr.read()
        assert workspace_secret(workspace).partition(":")[2] not in said, "the output may be a log"
        assert str(secret_file(workspace)) in said


def test_only_who_knows_the_secret_is_signed_in(served: Served) -> None:
    secret = workspace_secret(served.workspace)
    assert served.ask("/").status == 401
    assert served.ask("/picture/x.png").status == 401
    for wrong in ("", "ganpipe:", secret[:-1], secret + "x", "x" * 10 * MOST_SECRET_BYTES):
        assert served.ask(SIGN_IN_PATH, "POST", wrong).status == 403
    signed = served.ask(SIGN_IN_PATH, "POST", secret)
    given = str(signed.headers["set-cookie"])
    assert given == f"{served.cookie}; Path=/; HttpOnly; SameSite=Strict"
    assert secret.partition(":")[2] not in given
    assert served.ask("/", Cookie=served.cookie).status == 200
    assert served.ask("/", Cookie=f"other=1; {served.cookie}").status == 200
    assert served.ask("/", Cookie=f"ganpipe-{served.port}=wrong").status == 401
    assert served.ask("/", Cookie=f"ganpipe-1={cookie_of(secret)}").status == 401


def test_the_proof_that_anybody_may_ask_for_signs_nobody_in(served: Served) -> None:
    connection = HTTPConnection("127.0.0.1", served.port, timeout=30)
    for question in ("signed%20in", "dashboard", ""):
        connection.request("GET", f"{PROOF_PATH}{question}")
        proof = connection.getresponse().read().decode()
        assert len(proof) == 64
        assert served.ask("/", Cookie=f"ganpipe-{served.port}={proof}").status == 401


@pytest.mark.parametrize("name", ["evil.example", "localhost:1", "192.168.0.7"])
def test_a_foreign_host_or_origin_is_refused_even_with_the_cookie(served: Served, name: str) -> None:
    assert served.ask("/", Cookie=served.cookie, Host=name).status == 403
    assert served.ask("/", Cookie=served.cookie, Origin=f"http://{name}").status == 403
    refused = served.ask(SOCKET, Cookie=served.cookie, Origin=f"http://{name}", **UPGRADE)
    assert refused.status == 403


def test_a_websocket_needs_the_cookie_and_this_servers_origin(served: Served) -> None:
    own = f"http://127.0.0.1:{served.port}"
    assert served.ask(SOCKET, Origin=own, **UPGRADE).status == 403
    assert served.ask(SOCKET, Origin=own, Cookie=served.cookie, **UPGRADE).status == 101


def test_a_body_that_is_larger_than_any_upload_or_of_unknown_length_is_refused_unread(served: Served) -> None:
    assert served.ask("/", "POST", Cookie=served.cookie, Content_Length=str(100 * 2**20)).status == 413
    assert served.ask("/", "POST", Cookie=served.cookie, Transfer_Encoding="chunked").status == 411
    assert served.ask("/", "POST", "x" * 1000, Cookie=served.cookie).status == 405
    assert served.ask("/", "POST", Content_Length=str(100 * 2**20)).status == 401


def test_no_other_page_may_frame_it_and_it_asks_no_other_server(served: Served) -> None:
    reply = served.ask("/", Cookie=served.cookie)
    assert reply.headers["x-frame-options"] == "DENY"
    assert "connect-src 'self'" in reply.headers["content-security-policy"]


def test_the_pages_import_neither_torch_nor_the_three_tools() -> None:
    code = (
        "import sys; import ganpipe.dashboard.server, ganpipe.commands.status; "
        "print(sorted({'torch', 'dvc', 'mlflow', 'prefect', 'scipy', 'sklearn'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_port_in_use_is_said_before_anything_starts(served: Served) -> None:
    command = [sys.executable, "-m", "ganpipe", "dashboard", "--port", str(served.port)]
    done = subprocess.run(
        [*command, "--workspace", str(served.workspace.root)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert (
        f"Port {served.port} for the dashboard is in use; choose another with --dashboard-port" in done.stderr
    )
