"""Trace: where a picture comes from. The picture is held in memory while it is read, and kept nowhere."""

from __future__ import annotations

import asyncio

from nicegui import events
from nicegui.element import Element

from ganpipe.dashboard.layout import card, code, frame, heading, link, text
from ganpipe.dashboard.links import dataset_url, run_url
from ganpipe.dashboard.readings import Readings
from ganpipe.dashboard.uploading import drop_zone, read_upload
from ganpipe.errors import GanpipeError
from ganpipe.imaging.provenance import parse_origin
from ganpipe.stages.trace import Trace, trace_origin


async def draw(readings: Readings) -> None:
    """The page."""
    with frame("/trace", await readings.status()):
        heading("Trace", 1)

        async def trace(event: events.UploadEventArguments) -> None:
            place.clear()
            with place:
                await _draw_upload(readings, event)

        with card():
            with Element("p"):
                text(
                    "Every picture that ganpipe makes carries its origin. Drop one here, or in a terminal: ",
                    "span",
                )
                code("ganpipe trace FILE")
            drop_zone("Choose a picture", trace)
        place = Element("div").props("aria-live=polite")


async def _draw_upload(readings: Readings, event: events.UploadEventArguments) -> None:
    try:
        data = await read_upload(event.file)
        async with readings.decoding:
            origin = await asyncio.to_thread(parse_origin, data, event.file.name)
        found = await asyncio.to_thread(trace_origin, readings.workspace, event.file.name, origin)
    except GanpipeError as error:
        with card("Its origin is not known"):
            text(str(error))
        return
    draw_trace(found)


def draw_trace(found: Trace) -> None:
    """Draws the origin of a picture, with links to what is here."""
    with card(f"Where {found.file} comes from"):
        with Element("div").classes("pairs"):
            for name, value in found.facts():
                if name != "recipe":
                    text(name)
                    _draw_fact(found, name, value)
            if found.record and found.record.model_version:
                text("model version")
                link(found.record.model_version, "/models")
            if "run" in found.origin and found.record is None:
                text("its run")
                text("is not here: the picture was made in another workspace, or the run was deleted")
        _draw_settings(found)
        if found.command:
            text("Make it again:", classes="strong")
            code(found.command)


def _draw_fact(found: Trace, name: str, value: str) -> None:
    record = found.record
    if record and name == "run":
        link(value, run_url(record.run_id))
    elif record and name == "dataset":
        link(f"{record.dataset}@{record.version[:12]}", dataset_url(record.dataset))
    else:
        text(value)


def _draw_settings(found: Trace) -> None:
    """The settings of the run, or of the stylization."""
    recipe = found.origin.get("recipe")
    sections = (
        found.record.settings if found.record else {"style": recipe} if isinstance(recipe, dict) else {}
    )
    if not sections:
        return
    with Element("details"):
        text("Settings", "summary")
        with Element("div").classes("pairs"):
            for section, values in sections.items():
                for key, value in values.items():
                    text(f"{section}.{key}", classes="mono")
                    text(str(value))
