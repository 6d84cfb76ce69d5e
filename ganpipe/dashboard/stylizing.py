"""The form that asks for a stylized image: a photo and a style, uploaded or there already, and the strength."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import get_args

from nicegui import events, ui
from nicegui.element import Element

from ganpipe.dashboard.acting import attempt, button
from ganpipe.dashboard.layout import card, code, image, text
from ganpipe.dashboard.pictures import thumbnail_url
from ganpipe.dashboard.readings import Readings
from ganpipe.dashboard.uploading import drop_zone, read_upload
from ganpipe.services.prefect_api import Run, find_api
from ganpipe.settings.schedules import FROM_GALLERY
from ganpipe.settings.schema import StyleSettings
from ganpipe.stages.gallery import Choice, choices, overrides_of
from ganpipe.stores.uploads import Kind, keep_upload
from ganpipe.stores.workspace import Workspace

PRESETS: tuple[str, ...] = get_args(StyleSettings.model_fields["preset"].annotation)
USUAL_STRENGTH = 0.5
STRENGTH = "strength: 0 is the content alone, 1 the style alone"
COMMAND = "ganpipe stylize --content PHOTO --style STYLE --out .ganpipe/stylized/first"
Refresh = Callable[[], Awaitable[None]]


def draw_form(readings: Readings, refresh: Refresh) -> None:
    """The form, or on pages that only show the command to type; `refresh` is called when a run is queued."""
    workspace = readings.workspace
    with card("Stylize a photo"):
        if readings.actions is None:
            text(
                "This dashboard only shows; `ganpipe up` prints the address of one that takes photos. Or type:"
            )
            with Element("p"):
                code(COMMAND)
            return
        with Element("div").classes("pickers"):
            photo, style = Picker(readings, "photo"), Picker(readings, "style")
        with Element("div").classes("row"):
            strength = strength_slider()
            preset = ui.select(list(PRESETS), value="draft", label="quality")
            preset.props("dense outlined").classes("quality")

            async def ask() -> None:
                overrides = overrides_of(photo.word, style.word, strength.value, preset.value)
                await queue_run(workspace, overrides, refresh)

            button("Stylize", ask)


def strength_slider() -> ui.slider:
    """A slider with its value beside it."""
    with Element("label").classes("strength"):
        slider = ui.slider(min=0, max=1, step=0.05, value=USUAL_STRENGTH).props(
            f'label label-always aria-label="{STRENGTH}"'
        )
        text(STRENGTH, "span", "soft")
    return slider


async def queue_run(workspace: Workspace, overrides: list[str], refresh: Refresh) -> None:
    """Asks Prefect for a run with these settings; the page says what came of it."""

    async def start() -> Run:
        api = await asyncio.to_thread(find_api, workspace)
        return await api.start(await api.deployment(FROM_GALLERY), overrides)

    if await attempt(start(), "It is queued; the picture comes into the gallery when it is made."):
        await refresh()


class Picker:
    """Chooses a photo or a style, and takes new ones."""

    def __init__(self, readings: Readings, kind: Kind) -> None:
        self.readings, self.workspace, self.kind = readings, readings.workspace, kind
        self.choices: dict[str, Choice] = {}
        with Element("div"):
            self.select = ui.select([], label=kind, on_change=self._show).props("outlined").classes("wide")
            self.preview = image("", f"the chosen {kind}")
            drop_zone(f"Add a {kind}", self._receive)
        self._read()

    @property
    def word(self) -> str:
        """The word of the chosen one, for the settings."""
        return str(self.select.value)

    def _read(self, chosen: str | None = None) -> None:
        self.choices = {choice.word: choice for choice in choices(self.workspace, self.kind)}
        names = {word: choice.name for word, choice in self.choices.items()}
        self.select.set_options(names, value=chosen or next(iter(names)))

    def _show(self) -> None:
        choice = self.choices.get(self.word)
        path = choice.path if choice else None
        self.preview.set_visibility(path is not None)
        if path:
            self.preview.props["src"] = thumbnail_url(self.workspace, path)

    async def _receive(self, event: events.UploadEventArguments) -> None:
        async def keep() -> str:
            data = await read_upload(event.file)
            async with self.readings.decoding:
                path = await asyncio.to_thread(keep_upload, self.workspace, self.kind, event.file.name, data)
            return str(path.relative_to(self.workspace.root))

        if word := await attempt(keep()):
            self._read(word)
