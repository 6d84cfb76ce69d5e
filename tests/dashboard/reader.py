"""A simulated reader of the pages."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable

from nicegui import ui
from nicegui.elements.upload_files import SmallFileUpload
from nicegui.testing.user import User
from nicegui.testing.user_interaction import UserInteraction
from nicegui.testing.user_simulation import user_simulation

from ganpipe.dashboard.pages import add_pages
from ganpipe.stores.run_records import RunRecord, all_records
from ganpipe.stores.workspace import Workspace

Look = Callable[[User], Awaitable[None]]
MARKUP = "<img src=x onerror=alert(1)>"


def visit(workspace: Workspace, path: str, look: Look, acts: bool = False) -> None:
    """Opens a page as a simulated reader, who then looks. `acts`: the page's buttons are there."""

    async def go() -> None:
        async with user_simulation() as user:
            add_pages(workspace, acts)
            await user.open(path)
            await look(user)

    gc.freeze()  # NiceGUI collects garbage before and after: seconds, if it looked at all that other tests have loaded
    try:
        asyncio.run(go())
    finally:
        gc.unfreeze()


def act(workspace: Workspace, path: str, look: Look) -> None:
    """Opens a page that acts, as that of `ganpipe up` does."""
    visit(workspace, path, look, acts=True)


def sees(*words: str, retries: int = 3) -> Look:
    """Looks for each of the words, every 0.1 s as often as `retries` says."""

    async def look(user: User) -> None:
        for text in words:
            await user.should_see(text, retries=retries)

    return look


def sees_soon(*words: str) -> Look:
    """The same where a server has to answer first."""
    return sees(*words, retries=50)


def sources(user: User) -> list[str]:
    """The addresses of the pictures and links that the page shows."""
    with user:
        elements = list(ui.context.client.elements.values())
    return [str(e.props[name]) for e in elements for name in ("src", "href") if name in e.props]


def run_of_seed(workspace: Workspace, seed: int) -> RunRecord:
    """The run of a training with this seed."""
    return next(r for r in all_records(workspace) if r.resolved().training.seed == seed)


async def press(user: User, label: str, number: int = 0) -> None:
    """Presses one of the buttons of this label, counted from the top of the page."""
    await user.should_see(label, retries=50)
    buttons = sorted((b for b in user.find(ui.button).elements if b.text == label), key=lambda b: b.id)
    UserInteraction(user, {buttons[number]}, ui.button).click()


async def drop(user: User, number: int, name: str, data: bytes) -> None:
    """Drops a file on the page's upload field of this number."""
    zones = sorted(user.find(ui.upload).elements, key=lambda element: element.id)
    with user:
        await zones[number].handle_uploads([SmallFileUpload(name, "image/png", data)])
