"""The dashboard's server: for this machine's own pages, and for who knows the workspace's secret.

`python -m ganpipe.dashboard.server` is that of `ganpipe up`, whose pages also act.
"""

from __future__ import annotations

import argparse
import hmac
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from ganpipe.dashboard.pages import add_pages
from ganpipe.services.prefect_server import (
    HOST,
    KEEP_ALIVE_S,
    SHUTDOWN_S,
    SIGN_IN_PATH,
    App,
    OwnPagesOnly,
    Receive,
    Scope,
    Send,
    answer,
    refuse,
)
from ganpipe.stores.secret import prove, secret_file, workspace_secret
from ganpipe.stores.uploads import MOST_BYTES
from ganpipe.stores.workspace import Workspace

MOST_SECRET_BYTES = 1000
MOST_BODY_BYTES = MOST_BYTES + 2**16  # the largest upload, and what a browser puts around it
# The secret stands behind '#', which a browser sends to nobody but this page.
SIGN_IN_PAGE = """<!doctype html><meta charset="utf-8"><title>ganpipe</title><p>Signing in …</p><script>
fetch(location.pathname, {method: 'POST', body: location.hash.slice(1)}).then(
  reply => reply.ok ? location.replace('/') : reply.text().then(text => document.querySelector('p').textContent = text));
</script>
"""


class SignedInOnly:
    """Refuses requests and websockets without the cookie that signing in gives."""

    def __init__(self, app: App, port: int, secret: str, how: str) -> None:
        self.app, self.secret, self.how = app, secret, how
        self.name = f"ganpipe-{port}"  # a cookie belongs to a host, whatever the port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif scope["type"] == "http" and (scope["method"], scope["path"]) == ("POST", SIGN_IN_PATH):
            await self._sign_in(receive, send)
        elif not self._is_signed_in(scope):
            await refuse(scope, receive, send, 401, self.how)
        else:
            await self.app(scope, receive, send)

    async def _sign_in(self, receive: Receive, send: Send) -> None:
        given, more = b"", True
        while more and len(given) <= MOST_SECRET_BYTES:
            message = await receive()
            given, more = given + message.get("body", b""), message.get("more_body", False)
        if hmac.compare_digest(given, self.secret.encode()):
            cookie = f"{self.name}={cookie_of(self.secret)}; Path=/; HttpOnly; SameSite=Strict"
            await answer(send, 200, "text/plain", "", ((b"set-cookie", cookie.encode()),))
        else:
            await answer(send, 403, "text/plain", self.how)

    def _is_signed_in(self, scope: Scope) -> bool:
        headers = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"cookie"]
        try:
            cookie = SimpleCookie("; ".join(headers)).get(self.name)
        except CookieError:
            return False
        given = cookie.value if cookie else ""
        return hmac.compare_digest(given.encode(), cookie_of(self.secret).encode())


class SmallBodiesOnly:
    """Refuses a request whose body is larger than any upload, before a byte of it is kept; the length must be told."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value for name, value in scope.get("headers", [])}
        if scope["type"] == "http" and b"transfer-encoding" in headers:
            await answer(send, 411, "text/plain", "The length of what is sent must be told before.")
        elif scope["type"] == "http" and int(headers.get(b"content-length", 0)) > MOST_BODY_BYTES:
            await answer(send, 413, "text/plain", f"At most {MOST_BODY_BYTES:,} bytes are taken.")
        else:
            await self.app(scope, receive, send)


def cookie_of(secret: str) -> str:
    """Derives the cookie value of a browser that has signed in.

    It is made with another key than the secret itself, with which the server answers anybody's questions (PROOF_PATH).
    """
    return prove(f"dashboard {secret}", "signed in")


def guarded_app(workspace: Workspace, port: int, acts: bool) -> App:
    """The dashboard behind its guards; `acts`: whether its pages also change the workspace."""
    from fastapi import FastAPI
    from nicegui import ui

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    add_pages(workspace, acts)
    ui.run_with(app, title="ganpipe", dark=None, tailwind=False, show_welcome_message=False)
    secret = workspace_secret(workspace)
    how = (
        f"Open the address that `ganpipe dashboard` printed, or {sign_in_url(port)}# with the contents of "
        f"{secret_file(workspace)} behind it."
    )
    signed_in = SignedInOnly(SmallBodiesOnly(app), port, secret, how)
    return OwnPagesOnly(signed_in, port, secret, SIGN_IN_PAGE)


def sign_in_url(port: int) -> str:
    """The page that signs a browser in, once it has the secret behind '#'."""
    return f"http://{HOST}:{port}{SIGN_IN_PATH}"


def serve(workspace: Workspace, port: int, acts: bool) -> None:
    """Serves until a signal; see `guarded_app`."""
    import uvicorn

    uvicorn.run(
        guarded_app(workspace, port, acts),
        host=HOST,
        port=port,
        ws_per_message_deflate=False,  # on one machine that costs more than it saves
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Serves a workspace with pages that act."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args(argv)
    serve(Workspace(Path(given.workspace)), given.port, acts=True)


if __name__ == "__main__":
    main()
