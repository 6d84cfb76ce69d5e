"""Prefect's server as ganpipe runs it: for this machine's own pages, and for who knows the workspace's secret.

`python -m ganpipe.services.prefect_server PORT`; the secret comes in PREFECT_SERVER_API_AUTH_STRING, which makes Prefect
ask for it. Without the checks here any web page in the user's browser could use Prefect: it answers every Host and every
Origin.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ganpipe.stores.addresses import PROOF_PATH
from ganpipe.stores.secret import prove

HOST = "127.0.0.1"
HOSTS = (HOST, "localhost")
SIGN_IN_PATH = "/ganpipe/sign-in"
SECRET_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"  # noqa: S105  (its name)
SHUTDOWN_S = 5  # for requests in progress
KEEP_ALIVE_S = 15  # Prefect's client drops an idle connection after 5: a server that does so at the same time cuts a request off
NOT_OURS = "This server answers its own pages on this machine only."
NO_FRAMES = (b"x-frame-options", b"DENY")
# Prefect's pages send usage data to a company from the browser; with this they reach their own server alone.
OWN_SERVER_ONLY = (b"content-security-policy", b"connect-src 'self'; frame-ancestors 'none'")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# The secret stands behind '#', which a browser sends to nobody. Prefect's pages look for it where this puts it.
SIGN_IN_PAGE = """<!doctype html><meta charset="utf-8"><title>ganpipe</title><p>Signing in …</p><script>
localStorage.setItem('prefect-password', btoa(location.hash.slice(1)));
location.replace('/');
</script>
"""


def origins(port: int) -> list[str]:
    """The pages that may use the server: its own."""
    return [f"http://{host}:{port}" for host in HOSTS]


class OwnPagesOnly:
    """Refuses requests and websockets whose Host or Origin is not this server.

    A foreign Host is a name that a web page made point here (DNS rebinding). Also answers the proof that this server
    knows the workspace's secret, and the page that signs a browser in.
    """

    def __init__(self, app: App, port: int, secret: str, sign_in_page: str = SIGN_IN_PAGE) -> None:
        self.app, self.secret, self.sign_in_page = app, secret, sign_in_page
        self.hosts = {f"{host}:{port}" for host in HOSTS}
        self.origins = set(origins(port))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif not self._is_own(scope):
            await refuse(scope, receive, send)
        elif scope["type"] == "http" and scope["path"].startswith(PROOF_PATH):
            question = scope["path"].removeprefix(PROOF_PATH)
            await answer(send, 200, "text/plain", prove(self.secret, question))
        elif scope["type"] == "http" and (scope["method"], scope["path"]) == ("GET", SIGN_IN_PATH):
            await answer(send, 200, "text/html", self.sign_in_page)
        else:
            await self.app(scope, receive, _confined(send))

    def _is_own(self, scope: Scope) -> bool:
        headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        hosts = [value for name, value in headers if name == b"host"]
        pages = [value for name, value in headers if name == b"origin"]
        return len(hosts) == 1 and set(hosts) <= self.hosts and set(pages) <= self.origins


def _confined(send: Send) -> Send:
    """No other page may show ours inside itself and lead clicks to it; ours reach no other server."""

    async def send_confined(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), NO_FRAMES, OWN_SERVER_ONLY]
        await send(message)

    return send_confined


async def refuse(scope: Scope, receive: Receive, send: Send, status: int = 403, why: str = NOT_OURS) -> None:
    """Answers a request with an error, or closes a websocket."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
    else:
        await answer(send, status, "text/plain", why)


async def answer(
    send: Send, status: int, kind: str, text: str, more: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Sends a whole answer, which nobody keeps."""
    headers = [
        (b"content-type", f"{kind}; charset=utf-8".encode()),
        NO_FRAMES,
        (b"cache-control", b"no-store"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


def main(port: int) -> None:
    """Serves until SIGTERM."""
    import uvicorn
    from prefect.server.api.server import create_app

    app = OwnPagesOnly(create_app(), port, os.environ[SECRET_VARIABLE])
    uvicorn.run(
        app,
        host=HOST,
        port=port,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
