"""A receiver of notifications on loopback, as a user's webhook is one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent. `answer_s`: how long it takes to answer; `refuses_pictures`: such messages get 413."""

    daemon_threads = True

    def __init__(self, answer_s: float = 0.0, refuses_pictures: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.messages: list[dict[str, Any]] = []
        self.answer_s, self.refuses_pictures = answer_s, refuses_pictures

    def url(self, token: str = "") -> str:
        """Its address as Apprise takes it."""
        return f"json://127.0.0.1:{self.server_address[1]}/{token}"

    def wait(self, count: int = 1, timeout_s: float = 20.0) -> list[dict[str, Any]]:
        """The messages, as soon as there are so many."""
        deadline = time.monotonic() + timeout_s
        while len(self.messages) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.messages


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(self.server.answer_s)
        refused = self.server.refuses_pictures and message["attachments"]
        if not refused:
            self.server.messages.append(message)
        self.send_response(413 if refused else 200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def receiving(answer_s: float = 0.0, refuses_pictures: bool = False) -> Iterator[Receiver]:
    """A receiver at work."""
    receiver = Receiver(answer_s, refuses_pictures)
    thread = threading.Thread(target=receiver.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        receiver.server_close()
