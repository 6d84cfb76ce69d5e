"""The frame of every page, and its small parts. All text is text: nothing here takes markup."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from ganpipe.files import escape_control
from ganpipe.stages.status import WorkspaceStatus

NAVIGATION = (
    ("/", "Now"),
    ("/runs", "Runs"),
    ("/models", "Models"),
    ("/datasets", "Datasets"),
    ("/gallery", "Gallery"),
    ("/schedules", "Schedules"),
    ("/trace", "Trace"),
)
SHORT = 16  # characters of a cell that is not broken into lines
Cell = str | Callable[[], object]
TONES = {
    "good": ("finished", "good", "promoted", "Completed", "fair"),
    "warn": (
        "interrupted",
        "pruned",
        "waiting",
        "undecided",
        "inconclusive",
        "cancelled",
        "Cancelled",
        "Late",
        "poor",
    ),
    "bad": ("damaged", "failed", "Failed", "Crashed", "collapsed", "memorized"),
}


def add_style() -> None:
    """The style and the script of every page."""
    files = resources.files("ganpipe.dashboard")
    ui.add_css(files.joinpath("style.css").read_text(), shared=True)
    ui.add_head_html(f"<script>{files.joinpath('page.js').read_text()}</script>", shared=True)


@contextmanager
def frame(here: str, status: WorkspaceStatus) -> Iterator[None]:
    """Navigation, and what is wrong with the workspace, above the page."""
    ui.page_title(f"{next(name for path, name in NAVIGATION if path == here)} – ganpipe")
    with Element("nav").classes("bar").props('aria-label="Pages"'):
        text("ganpipe", "span", "name")
        for path, name in NAVIGATION:
            link(name, path, "here" if path == here else "")
        for server in status.servers:
            is_page = server.url.startswith(("http://", "https://"))  # a file of the workspace says so
            if is_page and server.name != "Dashboard":
                link(f"{server.name} ↗", server.url).props("target=_blank rel=noopener")
        text(status.workspace, "span", "place")
    with Element("div").classes("page"):
        if status.models_problem:
            banner(
                f"MLflow cannot be asked, so champions are as the runs remember them. {status.models_problem}"
            )
        for sentence in status.elsewhere:
            banner(sentence)
        yield


def text(content: str, tag: str = "div", classes: str = "") -> TextElement:
    """An element with a text."""
    return TextElement(tag=tag, text=escape_control(content)).classes(classes)


def heading(content: str, level: int = 2) -> TextElement:
    """A heading."""
    return text(content, f"h{level}")


def link(content: str, target: str, classes: str = "") -> Element:
    """A link; `target`: an address that this program made."""
    element = text(content, "a", classes)
    element.props["href"] = target
    return element


def code(command: str) -> TextElement:
    """A command to type."""
    return text(command, "span", "code")


def banner(sentence: str) -> None:
    """Something that the reader should know, and that keeps nothing else from being shown."""
    text(sentence, classes="banner").props("role=status")


@contextmanager
def card(title: str = "") -> Iterator[Element]:
    """A box with a title."""
    with Element("section").classes("card") as box:
        if title:
            heading(title)
        yield box


def nothing_yet(sentence: str, *commands: str) -> None:
    """An empty state: what is missing, and the commands that change it."""
    with card():
        text(sentence)
        for command in commands:
            with Element("p"):
                code(command)


def time_of(utc: str | None) -> Element:
    """A time, which the browser shows in the reader's zone."""
    if not utc:
        return text("not recorded", "span", "soft")
    element = text(f"{utc[:16].replace('T', ' ')} UTC", "time")
    element.props["datetime"] = utc
    return element


def clock_time(utc: str) -> Element:
    """The hour and the minute of a time, which the browser shows in the reader's zone."""
    element = text(f"{utc[11:16]} UTC", "time", "clock strong")
    element.props["datetime"] = utc
    return element


def time_cell(utc: str | None) -> Cell:
    """A cell with a time."""
    return lambda: time_of(utc)


def word_cell(state: str | None) -> Cell:
    """A cell with a state or a verdict."""
    return lambda: word(state or "")


def number_cell(figure: str) -> Cell:
    """A cell with a figure, which is not broken into lines."""
    return lambda: text(figure, "span", "number")


def link_cell(content: str, target: str) -> Cell:
    """A cell with a link."""
    return lambda: link(content, target)


def word(state: str) -> TextElement:
    """A state or a verdict in the color of its meaning."""
    return text(state, "span", f"strong {tone_of(state)}")


def tone_of(state: str) -> str:
    """The class of a state or verdict; empty if it is neither good nor bad."""
    return next((tone for tone, states in TONES.items() if state in states), "")


def plain_table(names: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """A table without sorting; a cell is a text, or a function that draws it."""
    around = Element("div").classes("scroll").props("tabindex=0 role=region")  # the keyboard scrolls it, too
    around.props["aria-label"] = f"table: {', '.join(name for name in names if name)}"
    with around, Element("table").classes("plain"):
        with Element("thead"), Element("tr"):
            for name in names:
                text(name, "th")
        with Element("tbody"):
            for row in rows:
                with Element("tr"):
                    for cell in row:
                        if isinstance(cell, str):
                            text(cell, "td", "short" if len(cell) <= SHORT else "")
                        else:
                            with Element("td"):
                                cell()


def image(source: str, alt: str, classes: str = "picture") -> Element:
    """A picture from an address that this program made; it is loaded when it comes into view."""
    element = Element("img").classes(classes).props("loading=lazy decoding=async")
    element.props["src"], element.props["alt"] = source, escape_control(alt)
    return element


def film(source: str, label: str) -> Element:
    """A video from an address that this program made; it plays at once, without sound until somebody asks for it."""
    element = Element("video").classes("film").props("autoplay loop muted playsinline controls")
    element.props["src"], element.props["aria-label"] = source, escape_control(label)
    return element


def meter(share: float, label: str) -> Element:
    """A bar of a share between 0 and 1; returns its filled part."""
    outer = Element("div").classes("meter").props("role=progressbar aria-valuemin=0 aria-valuemax=100")
    outer.props["aria-label"], outer.props["aria-valuenow"] = label, round(100 * share)
    with outer:
        return Element("div").style(f"width: {100 * share:.1f}%")
