"""The parts of a page that change something: buttons, a question before, a word while it happens and after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from nicegui import ui
from nicegui.element import Element

from ganpipe.dashboard.actions import Actions, Outcome
from ganpipe.dashboard.layout import heading, text
from ganpipe.errors import GanpipeError
from ganpipe.files import escape_control

BUTTON = "no-caps unelevated padding='xs md'"
Act = Callable[[], Awaitable[None]]
T = TypeVar("T")


def button(label: str, act: Act) -> ui.button:
    """A button that acts once at a time: it is disabled until `act` has ended."""

    async def press() -> None:
        made.disable()
        try:
            # In the page itself: what `act` says stays also if the button's part of it is drawn anew.
            with ui.context.client:
                await act()
        finally:
            if not made.is_deleted:  # the page may have been drawn anew
                made.enable()

    made = ui.button(label, on_click=press).props(BUTTON)
    return made


async def ask_why(question: str, sentence: str, label: str) -> str | None:
    """Asks before something changes; returns the reason that was given, perhaps empty, or None for no."""
    with ui.dialog() as dialog, Element("div").classes("card asking"):  # a dialog lets only a div be clicked
        heading(question)
        text(sentence)
        reason = ui.input("Why? It is kept with the change.").classes("wide")
        with Element("div").classes("row choices"):
            ui.button(label, on_click=lambda: dialog.submit(reason.value or "")).props(BUTTON)
            ui.button("Cancel", on_click=lambda: dialog.submit(None)).props(BUTTON).props("flat")
    answer = await dialog
    dialog.delete()
    return answer if isinstance(answer, str) else None


async def perform(actions: Actions, doing: str, *words: str) -> Outcome:
    """Runs a command of ganpipe; the page says so until it ends, and why if it fails."""
    word = ui.notification(escape_control(doing), spinner=True, timeout=None)
    outcome = await actions.run(*words)
    word.dismiss()
    if outcome.error:
        tell_problem(outcome.error)
    return outcome


async def attempt(act: Awaitable[T], done: str = "") -> T | None:
    """Waits for something that may fail with a GanpipeError; the page says so, or else `done`. None if it has failed."""
    try:
        result = await act
    except GanpipeError as error:
        tell_problem(str(error))
        return None
    if done:
        ui.notification(escape_control(done), type="positive")
    return result


def tell_problem(sentence: str) -> None:
    """Says what went wrong until the reader closes it."""
    ui.notification(escape_control(sentence), type="negative", timeout=None, close_button="Close")
