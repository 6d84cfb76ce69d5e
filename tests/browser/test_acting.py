"""Slow: the question before a change and the wipe, in a real browser, which alone knows what can be clicked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from ganpipe.services.prefect import free_port

pytestmark = pytest.mark.slow
SERVER = """
import sys
from nicegui import ui
from ganpipe.dashboard.acting import ask_why, button
from ganpipe.dashboard.layout import add_style, text
from ganpipe.dashboard.wipe import wipe

add_style()

@ui.page("/")
def page():
    async def ask():
        text(f"answered {await ask_why('Sure?', 'It changes.', 'Do it')!r}")
    button("Ask", ask)
    wipe(("/a.png", "champion"), ("/b.png", "challenger"))

ui.run(host="127.0.0.1", port=int(sys.argv[1]), show=False, reload=False)
"""


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page with a button that asks, and a wipe."""
    port = free_port()
    environment = {
        k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"
    }  # NiceGUI would simulate
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert server.stdout is not None
    assert any("ready" in line for line in server.stdout)
    opened = chromium.new_page()
    opened.goto(f"http://127.0.0.1:{port}/")
    yield opened
    opened.close()
    server.terminate()
    server.wait(30)


def test_a_reason_is_given_with_the_mouse_and_no_is_no(page: Page) -> None:
    page.get_by_role("button", name="Ask").click()
    page.get_by_label("Why?").fill("it is better")
    page.get_by_role("button", name="Do it").click()
    expect(page.get_by_text("answered 'it is better'")).to_be_visible()
    for leave in (
        lambda: page.get_by_role("button", name="Cancel").click(),
        lambda: page.keyboard.press("Escape"),
    ):
        page.get_by_role("button", name="Ask").click()
        page.get_by_label("Why?").fill("no")
        leave()
    expect(page.get_by_text("answered None")).to_have_count(2)


def test_the_arrow_keys_move_the_wipe(page: Page) -> None:
    page.get_by_role("slider", name="champion or challenger").focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.querySelector('.wipe').style.getPropertyValue('--cut')") == "30%"
