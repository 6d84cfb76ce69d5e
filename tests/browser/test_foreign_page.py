"""Slow: a page of another site, in a browser that is signed in to Prefect, while `ganpipe up` runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext

from ganpipe.services.prefect_server import SIGN_IN_PATH
from ganpipe.stores.secret import secret_file
from ganpipe.stores.workspace import Workspace
from tests.browser.conftest import FOREIGN
from tests.conftest import copied
from tests.slow.processes import Up

# Resolves to what the page could read, or to the error's text.
FETCH = """async ([url, options]) => {
    try {
        const reply = await fetch(url, options);
        return reply.type === 'opaque' ? 'opaque' : reply.status + ' ' + await reply.text();
    } catch (error) { return 'blocked: ' + error; }
}"""
SOCKET = """url => new Promise(done => {
    const socket = new WebSocket(url, ['prefect']);
    socket.onopen = () => done('open');
    socket.onerror = () => done('blocked');
})"""


@pytest.fixture
def up(workspace: Workspace, added_noise: Path, tmp_path: Path) -> Iterator[Up]:
    running = Up(copied(added_noise, workspace), "noise", tmp_path)
    yield running
    running.process.terminate()
    running.process.wait(90)


def signed_in(browser: Browser, up: Up, asked: set[str]) -> BrowserContext:
    """A browser window whose user has opened the link that `up` prints. `asked`: the hosts that its pages reach for."""
    context = browser.new_context()
    page = context.new_page()
    page.on("request", lambda request: asked.add(str(urlsplit(request.url).hostname)))
    pages = up.servers.prefect_api.removesuffix("/api")
    page.goto(f"{pages}{SIGN_IN_PATH}#{secret_file(up.workspace).read_text().strip()}")
    page.wait_for_url(lambda url: "/dashboard" in url, timeout=60_000)
    page.get_by_text("Logout").wait_for(timeout=60_000)
    return context


def flow_runs(up: Up) -> int:
    status, count = up.ask("/flow_runs/count", {})
    assert status == 200
    return int(count)


def experiments(up: Up) -> list[str]:
    search = "/api/2.0/mlflow/experiments/search?max_results=100"
    return sorted(e["name"] for e in up.ask(search, url=up.servers.mlflow)[1]["experiments"])


def post(body: str, kind: str, mode: str) -> dict[str, Any]:
    return {
        "method": "POST",
        "body": body,
        "headers": {"Content-Type": kind},
        "mode": mode,
        "credentials": "include",
    }


@pytest.mark.slow
def test_a_page_of_another_site_neither_reads_nor_starts_anything(
    chromium: Browser, up: Up, elsewhere: int
) -> None:
    api, mlflow = up.servers.prefect_api, up.servers.mlflow
    start = f"{api}/deployments/{up.deployment()}/create_flow_run"
    before = flow_runs(up), experiments(up)
    asked: set[str] = set()
    context = signed_in(chromium, up, asked)
    assert asked == {"127.0.0.1"}, "usage data is sent to a company"
    page = context.new_page()
    page.goto(f"http://{FOREIGN}:{elsewhere}/")

    for url in (f"{api}/flow_runs/count", f"{api}/artifacts/filter", start):
        assert page.evaluate(FETCH, [url, post("{}", "application/json", "cors")]).startswith("blocked")
    for url in (
        f"{api}/health",
        f"{api}/admin/settings",
        f"{mlflow}/ajax-api/2.0/mlflow/experiments/get?experiment_id=0",
    ):
        assert page.evaluate(FETCH, [url, {"credentials": "include"}]).startswith("blocked")
    for url, body in (
        (start, "{}"),
        (f"{mlflow}/api/2.0/mlflow/experiments/create", '{"name": "planted"}'),
        (f"{mlflow}/ajax-api/2.0/mlflow/experiments/create", '{"name": "planted"}'),
    ):
        page.evaluate(FETCH, [url, post(body, "text/plain", "no-cors")])
    assert page.evaluate(SOCKET, f"{api.replace('http', 'ws')}/events/out") == "blocked"

    page.set_content(f"<iframe src='{api.removesuffix('/api')}/'></iframe><iframe src='{mlflow}/'></iframe>")
    page.wait_for_timeout(3000)
    assert all("Dashboard" not in frame.content() for frame in page.frames)
    assert all("mlflow" not in frame.content().lower() for frame in page.frames[1:])

    for server in (api.removesuffix("/api"), mlflow):  # a name of the site that points to this machine now
        reply = page.goto(server.replace("127.0.0.1", FOREIGN) + "/")
        assert reply is not None
        assert reply.status == 403
    assert (flow_runs(up), experiments(up)) == before
