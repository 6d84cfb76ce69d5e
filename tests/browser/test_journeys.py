"""Slow: a person works with `ganpipe up` through the dashboard alone, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from ganpipe.dashboard.links import run_url
from ganpipe.services.prefect_server import SIGN_IN_PATH
from ganpipe.stores.registered_models import CHAMPION, read_registered_models
from ganpipe.stores.run_records import all_records
from ganpipe.stores.secret import workspace_secret
from ganpipe.stores.workspace import Workspace
from tests.browser.conftest import SCREENSHOTS
from tests.conftest import copied, noise_image
from tests.slow.processes import Sets, Up, soon, words_of

pytestmark = pytest.mark.slow
LONG_MS = 240_000  # on a busy machine
SCHEDULE = "name: nightly, cron: 0 2 * * *"
SECONDS_LONG: Sets = {  # a training that the page is still in when the browser looks
    "training.total_images": 16_000,
    "training.log_every_images": 400,
    "training.save_every_images": 4_000,
    "training.grid_every_images": 4_000,
}


@pytest.fixture
def up(workspace: Workspace, added_noise: Path, tmp_path: Path) -> Iterator[Up]:
    words = ["--schedule", SCHEDULE, *words_of(SECONDS_LONG)]
    running = Up(copied(added_noise, workspace), "noise", tmp_path, words=words)
    yield running
    running.process.terminate()
    running.process.wait(90)


@pytest.fixture
def page(chromium: Browser, up: Up) -> Iterator[Page]:
    """The dashboard, signed in."""
    context = chromium.new_context(viewport={"width": 1280, "height": 860})
    opened = context.new_page()
    opened.goto(f"{up.servers.dashboard}{SIGN_IN_PATH}#{workspace_secret(up.workspace)}")
    opened.wait_for_url(f"{up.servers.dashboard}/")
    yield opened
    context.close()


def go(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Pages", exact=True).get_by_role(
        "link", name=name, exact=True
    ).click()
    expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()


def shoot(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"journey-{name}.png", full_page=True)


def champion(workspace: Workspace) -> str | None:
    models = read_registered_models(workspace)
    found = models[0].with_alias(CHAMPION) if models else None
    return found.version if found else None


def test_from_the_first_run_to_a_champion_a_stylized_photo_and_a_paused_schedule(
    up: Up, page: Page, tmp_path: Path
) -> None:
    go(page, "Schedules")
    by_hand = page.locator("section.card", has=page.get_by_role("heading", name="by hand", exact=True))
    by_hand.get_by_role("button", name="Run now").click()
    go(page, "Now")
    expect(page.get_by_role("progressbar").first).to_be_visible(timeout=LONG_MS)
    shoot(page, "training")
    expect(page.get_by_text("ganpipe-noise v1: ").first).to_be_visible(timeout=LONG_MS)

    run = all_records(up.workspace)[0].run_id
    page.goto(up.servers.dashboard + run_url(run))
    expect(page.get_by_role("heading", name="Verdict")).to_be_visible()
    shoot(page, "run")

    go(page, "Models")
    if champion(up.workspace) is None:  # whatever the verdict on so few steps
        page.get_by_role("button", name="Promote", exact=True).first.click()
        page.get_by_label("Why?").fill("a test")
        page.get_by_role("button", name="Promote all the same").click()
        soon(lambda: champion(up.workspace))
        expect(page.get_by_text("a test").first).to_be_visible(timeout=LONG_MS)
    assert champion(up.workspace) == "1"
    shoot(page, "champion")

    go(page, "Gallery")
    noise_image(7, (64, 48)).save(tmp_path / "mine.png")
    page.locator("input[type=file]").first.set_input_files(tmp_path / "mine.png")
    expect(page.locator(".q-field", has_text="photo").first).to_contain_text("mine", timeout=LONG_MS)
    page.get_by_role("button", name="Stylize", exact=True).click()
    expect(page.locator(".gallery").get_by_text("mine in ").first).to_be_visible(timeout=LONG_MS)
    shoot(page, "gallery")

    go(page, "Schedules")
    nightly = page.locator("section.card", has=page.get_by_role("heading", name="nightly", exact=True))
    nightly.get_by_role("button", name="Pause").click()
    expect(nightly.get_by_role("button", name="Resume")).to_be_visible(timeout=LONG_MS)
    shoot(page, "paused")
