"""One stylized image: compared with its content, where it comes from, and again with another strength."""

from __future__ import annotations

import asyncio

from nicegui.element import Element

from ganpipe.dashboard.acting import button
from ganpipe.dashboard.layout import banner, card, code, film, frame, heading, image, link, text
from ganpipe.dashboard.pictures import picture_url
from ganpipe.dashboard.queue import Queue
from ganpipe.dashboard.readings import Readings
from ganpipe.dashboard.stylizing import COMMAND, queue_run, strength_slider
from ganpipe.dashboard.trace import draw_trace
from ganpipe.dashboard.wipe import wipe
from ganpipe.errors import GanpipeError
from ganpipe.imaging.provenance import read_origin
from ganpipe.imaging.video_reading import is_video_name
from ganpipe.stages.gallery import Stylized, find_stylized, made_of, restyle_command, restyle_overrides
from ganpipe.stages.trace import Trace, trace_origin
from ganpipe.stores.workspace import Workspace


async def draw(readings: Readings, folder: str, name: str) -> None:
    """The page of the image `name` in a folder of stylized images."""
    workspace = readings.workspace
    with frame("/gallery", await readings.status()):
        stylized = await asyncio.to_thread(find_stylized, workspace, folder, name)
        if stylized is None:
            heading("Gallery", 1)
            banner(f"There is no stylized image {name} in {folder}; it was deleted, or never made.")
            link("All images", "/gallery")
            return
        heading(stylized.title, 1)
        await _draw_picture(workspace, stylized)
        try:
            origin = await asyncio.to_thread(read_origin, stylized.path)
        except GanpipeError as error:
            banner(str(error))
            return
        found = await asyncio.to_thread(trace_origin, workspace, stylized.path.name, origin)
        queue = Queue(readings)
        _draw_restyle(readings, queue, found)
        queue.draw()
        draw_trace(found)
    await queue.keep_fresh()


async def _draw_picture(workspace: Workspace, stylized: Stylized) -> None:
    made = await asyncio.to_thread(made_of, workspace, stylized.path)
    address = picture_url(workspace, stylized.path)
    with card():
        with Element("div").classes("large"):
            if is_video_name(stylized.path.name):
                film(address, stylized.title)
            elif made.content and made.content.path:
                wipe((picture_url(workspace, made.content.path), "content"), (address, "stylized"))
            else:
                image(address, stylized.title)
        with Element("div").classes("row"):
            link("Download", address).props["download"] = stylized.path.name
            link("Full size", address)
            link("All images", "/gallery")
            if not (made.content and made.content.path):
                text("Its content is not in the workspace, so it cannot be compared.", "span", "soft")


def _draw_restyle(readings: Readings, queue: Queue, found: Trace) -> None:
    """Asks for the same with another strength; where nothing can be asked for, the command to type stands there."""
    possible = restyle_overrides(readings.workspace, found.origin, 0.5) is not None
    with card("With another strength"):
        if readings.actions is None or not possible:
            if not possible:
                text("Its content or its style is not in the workspace: name their files in the command.")
            with Element("p"):
                code(restyle_command(found.origin) or COMMAND)
            return

        async def ask() -> None:
            if overrides := restyle_overrides(readings.workspace, found.origin, slider.value):
                await queue_run(readings.workspace, overrides, queue.refresh)

        with Element("div").classes("row"):
            slider = strength_slider()
            button("Restyle", ask)
