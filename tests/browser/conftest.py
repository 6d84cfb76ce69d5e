"""Debian's Chromium, driven by Playwright. `.ci/run` installs it; without it the tests are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.dashboard.conftest import judged  # noqa: F401  (a fixture here, too)

expect.set_options(timeout=30_000)  # a busy machine draws a page in seconds
SCREENSHOTS = Path("build/screenshots")  # kept, to be looked at
FOREIGN = "evil.example"  # resolves to this machine inside the browser, as after DNS rebinding


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser. While Playwright runs, this process has an event loop: tests of other modules need their own."""
    program = shutil.which("chromium")
    if not program:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    arguments = ["--no-sandbox", f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


class Page(BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title><p>elsewhere")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """The port of a web server that serves one page."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
