"""The dashboard in a real browser: who can read it, on which screen, and what a page of another site can do."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from ganpipe.dashboard.links import run_url
from ganpipe.progress import Progress, ignore
from ganpipe.services.prefect import free_port
from ganpipe.services.prefect_server import SIGN_IN_PATH
from ganpipe.stores.activities import record_activity
from ganpipe.stores.run_records import all_records, run_folder
from ganpipe.stores.secret import workspace_secret
from ganpipe.stores.workspace import Workspace
from tests.browser.conftest import FOREIGN, SCREENSHOTS
from tests.conftest import activated, copied, noise_image

PAGES = ("/", "/runs", "/models", "/datasets", "/datasets/noise", "/gallery", "/schedules", "/trace")
PHONE = {"width": 390, "height": 844}
SERIOUS = ("serious", "critical")
TOO_WIDE = "document.documentElement.scrollWidth > window.innerWidth"


class Dashboard:
    """The server of `ganpipe up`'s dashboard, without the rest of it."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.port = workspace, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.secret = workspace_secret(workspace)
        command = [sys.executable, "-m", "ganpipe.dashboard.server"]
        self.process = subprocess.Popen(
            [*command, "--workspace", str(workspace.root), "--port", str(self.port)]
        )
        for _ in range(300):
            try:
                urlopen(Request(self.url + SIGN_IN_PATH), timeout=5).close()  # noqa: S310
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError("the dashboard has not answered in 30 s")

    def sign_in(self, context: BrowserContext) -> Page:
        """A page of a browser that has opened the link that `up` prints."""
        page = context.new_page()
        page.goto(f"{self.url}{SIGN_IN_PATH}#{self.secret}")
        page.wait_for_url(f"{self.url}/")
        return page


@pytest.fixture(scope="session")
def judged_dashboard(tmp_path_factory: pytest.TempPathFactory, judged: Path) -> Iterator[Dashboard]:
    """The dashboard of a workspace with a champion and a challenger; its tests change nothing."""
    with activated(tmp_path_factory.mktemp("dashboard") / "workspace") as place:
        copied(judged, place)
        for record in all_records(place):
            grids = run_folder(place, record.run_id) / "grids"
            grids.mkdir(exist_ok=True)
            for nimg in (32, 64):
                noise_image(nimg, (64, 64)).save(grids / f"{nimg:012d}.png")
        served = Dashboard(place)
    yield served
    served.process.terminate()
    served.process.wait(30)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_no_page_is_wider_than_a_phone(
    chromium: Browser, judged_dashboard: Dashboard, scheme: str
) -> None:
    context = chromium.new_context(color_scheme=scheme, viewport=PHONE)  # type: ignore[arg-type]
    page = judged_dashboard.sign_in(context)
    run = all_records(judged_dashboard.workspace)[0].run_id
    found, wide = [], []
    for path in (*PAGES, run_url(run)):
        page.goto(judged_dashboard.url + path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        for violation in Axe().run(page).response["violations"]:
            if violation["impact"] in SERIOUS:
                found += [(path, violation["id"], node["html"][:200]) for node in violation["nodes"]]
        wide += [path] if page.evaluate(TOO_WIDE) else []
        name = path.strip("/").replace("/", "-") or "now"
        page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}.png", full_page=True)
    context.close()
    assert (found, wide) == ([], [])


def test_the_arrow_keys_move_through_the_grids_of_a_training(
    chromium: Browser, judged_dashboard: Dashboard
) -> None:
    context = chromium.new_context()
    page = judged_dashboard.sign_in(context)
    run = all_records(judged_dashboard.workspace)[0].run_id
    page.goto(judged_dashboard.url + run_url(run))
    shown = page.get_by_text("the latents are the same in each")
    last = shown.inner_text()
    page.locator(".q-slider [tabindex='0']").focus()
    page.keyboard.press("ArrowLeft")
    expect(shown).not_to_have_text(last)
    context.close()


def test_the_first_visit_says_what_to_do_on_every_page(chromium: Browser, workspace: Workspace) -> None:
    served, context = Dashboard(workspace), chromium.new_context()
    page = served.sign_in(context)
    for path in ("/", "/runs", "/models", "/datasets", "/gallery"):
        page.goto(served.url + path)
        expect(page.locator(".code", has_text="ganpipe ").first).to_be_visible()
    context.close()
    served.process.terminate()
    served.process.wait(30)


FETCH = """async ([url, options]) => {
    try { const reply = await fetch(url, options); return reply.type + ' ' + reply.status; }
    catch (error) { return 'blocked'; }
}"""
SOCKET = """url => new Promise(done => {
    const socket = new WebSocket(url);
    socket.onopen = () => done('open');
    socket.onerror = () => done('blocked');
})"""


def test_a_page_of_another_site_reads_nothing_and_reaches_no_websocket(
    chromium: Browser, judged_dashboard: Dashboard, elsewhere: int
) -> None:
    context = chromium.new_context()
    judged_dashboard.sign_in(context)
    page = context.new_page()
    page.goto(f"http://{FOREIGN}:{elsewhere}/")
    url = judged_dashboard.url
    for path in ("/", "/models", "/_nicegui_ws/socket.io/?EIO=4&transport=polling"):
        assert page.evaluate(FETCH, [url + path, {"credentials": "include"}]) == "blocked"
    socket = f"ws://127.0.0.1:{judged_dashboard.port}/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    assert page.evaluate(SOCKET, socket) == "blocked"
    rebound = page.goto(f"http://{FOREIGN}:{judged_dashboard.port}/")  # a name that was made to point here
    assert rebound is not None
    assert rebound.status == 403
    context.close()


@pytest.mark.slow
def test_now_follows_a_long_training_and_does_not_grow(
    chromium: Browser, judged_dashboard: Dashboard
) -> None:
    """Thirty updates of a piece of work that stays: a page left open holds no more elements than at the start."""
    context = chromium.new_context()
    page = judged_dashboard.sign_in(context)
    counts = []
    with record_activity(judged_dashboard.workspace, "a batch", ignore) as report:
        for k in range(1, 31):
            report(Progress("stylize", k, 100, "images", float(k)))
            expect(page.get_by_text(f"{k} of 100")).to_be_visible(timeout=15_000)
            counts.append(page.evaluate("document.querySelectorAll('*').length"))
    context.close()
    assert max(counts[5:]) <= max(counts[:5])
