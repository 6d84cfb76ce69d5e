"""The runs that the gallery has asked Prefect for: waiting, at work, and the outcomes of the last ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nicegui import ui
from nicegui.element import Element

from ganpipe.dashboard.acting import attempt, button
from ganpipe.dashboard.layout import card, link, text, time_of, word
from ganpipe.dashboard.readings import Readings
from ganpipe.errors import GanpipeError
from ganpipe.services.prefect_api import OPEN, PrefectApi, Run, find_api
from ganpipe.settings.params import parse_assignments
from ganpipe.settings.schedules import FROM_GALLERY
from ganpipe.stores.uploads import without_hash

REFRESH_S = 5.0
SHOWN = 6


class Queue:
    """The card of these runs; it is not there while there are none, or while Prefect is away."""

    def __init__(self, readings: Readings) -> None:
        self.readings = readings
        self.runs: list[Run] = []
        self.ended: Callable[[], Awaitable[None]] | None = None

    def draw(self) -> None:
        """An empty card, which `keep_fresh` fills."""
        with card("Asked for") as self.box:
            self.place = Element("div").props("aria-live=polite")
        self.box.set_visibility(False)

    async def keep_fresh(self, ended: Callable[[], Awaitable[None]] | None = None) -> None:
        """Shows the runs now and every REFRESH_S; calls `ended` when one has ended meanwhile."""
        self.ended = ended
        await self.refresh()
        ui.timer(REFRESH_S, self.refresh, immediate=False)

    async def refresh(self) -> None:
        """Shows the runs as they are now."""
        try:
            api = await asyncio.to_thread(find_api, self.readings.workspace)
            runs = await api.latest_runs(FROM_GALLERY, SHOWN)
        except GanpipeError:  # the page of schedules says why; here pictures can be looked at all the same
            return
        if runs == self.runs:
            return
        at_work = {run.id for run in self.runs if run.kind in OPEN}
        self.runs = runs
        self.box.set_visibility(bool(runs))
        self.place.clear()
        with self.place:
            for run in runs:
                self._draw_run(api, run)
        if self.ended and any(run.id in at_work and run.kind not in OPEN for run in runs):
            await self.ended()

    def _draw_run(self, api: PrefectApi, run: Run) -> None:
        async def cancel() -> None:
            await attempt(api.cancel(run), "It is cancelled.")
            await self.refresh()

        with Element("div").classes("row open"):
            word(run.state)
            text(describe_run(run), "span", "strong")
            time_of(run.ended_at or run.expected_at)
            link("Prefect ↗", api.page(run)).props("target=_blank rel=noopener")
            if run.kind in OPEN and self.readings.actions is not None:
                button("Cancel", cancel).props("flat dense")
            if run.state != "Completed":
                text(run.message, classes="soft")


def describe_run(run: Run) -> str:
    """Describes what a run stylizes, such as "beach in swirl, strength 0.70"."""
    try:
        asked = parse_assignments(run.overrides)
    except GanpipeError:  # somebody else has asked for it
        return run.name
    names = [str(asked.get(key, "")).rpartition("/")[2] for key in ("style.contents", "style.styles")]
    content, style = (without_hash(name.rpartition(".")[0] or name) for name in names)
    return f"{content} in {style}, strength {asked.get('style.strength', '')}"
