"""Schedules: what `ganpipe up` starts by itself, by hand and on new data, and what came of it; pause, resume, start, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from nicegui import ui
from nicegui.element import Element

from ganpipe.dashboard.acting import attempt, button
from ganpipe.dashboard.layout import (
    banner,
    card,
    code,
    frame,
    heading,
    link,
    meter,
    nothing_yet,
    text,
    time_of,
    word,
)
from ganpipe.dashboard.links import dataset_url, run_url
from ganpipe.dashboard.readings import Readings
from ganpipe.errors import GanpipeError
from ganpipe.services.prefect_api import Deployment, PrefectApi, Run, Timing, find_api
from ganpipe.settings.schedules import BY_HAND, FROM_GALLERY, ON_NEW_DATA, Schedule, describe_timing
from ganpipe.settings.schema import FIELDS
from ganpipe.stages.status import WorkspaceStatus
from ganpipe.stores.addresses import WatchedFolder
from ganpipe.stores.workspace import Workspace

REFRESH_S = 5.0
SHOWN_TIMES = 3
NOT_BY_TIME = {
    BY_HAND: "only by hand",
    FROM_GALLERY: "when somebody asks for it in the gallery",
    ON_NEW_DATA: "when the dataset has a new version that is worth it",
}
EXAMPLES = (
    'ganpipe up --cron "0 2 * * *"',
    'ganpipe up --schedule "name: weekly, cron: 0 4 * * 0, work: evaluate-champion"',
    "ganpipe up --watch FOLDER",
)


@dataclass(frozen=True)
class Plan:
    """Deployments in Prefect; if it cannot be asked, why (`problem`), and the schedules of params.yaml (`written`)."""

    deployments: tuple[Deployment, ...] = ()
    watched: WatchedFolder | None = None
    problem: str = ""
    written: tuple[Schedule, ...] = ()


async def draw(readings: Readings) -> None:
    """The page."""
    status = await readings.status()
    with frame("/schedules", status):
        heading("Schedules", 1)
        place = Element("div")
    drawn: tuple[object, ...] = ()

    async def refresh() -> None:
        nonlocal drawn
        api, plan = await _read_plan(readings.workspace)
        status = await readings.status()
        now = (plan, status.retraining)
        if now != drawn:
            drawn = now
            place.clear()
            with place:
                if api is None:
                    _draw_without_server(plan)
                else:
                    _Drawing(api, readings.actions is not None, status, refresh).draw(plan)

    await refresh()
    ui.timer(REFRESH_S, refresh, immediate=False)


async def _read_plan(workspace: Workspace) -> tuple[PrefectApi | None, Plan]:
    try:
        api = await asyncio.to_thread(find_api, workspace)
        return api, Plan(tuple(await api.deployments()), api.addresses.watched)
    except GanpipeError as error:
        return None, Plan(problem=str(error), written=_written(workspace))


def _written(workspace: Workspace) -> tuple[Schedule, ...]:
    try:
        return workspace.params().schedules
    except GanpipeError:  # `ganpipe up` says why
        return ()


def _draw_without_server(plan: Plan) -> None:
    banner(plan.problem)
    if not plan.written:
        nothing_yet("No schedule is in params.yaml. Any of these starts runs by itself:", *EXAMPLES)
        return
    with card("In params.yaml"):
        for schedule in plan.written:
            text(schedule.describe("local time"))
        with Element("p"):
            code("ganpipe up")


@dataclass(frozen=True)
class _Drawing:
    """Draws what Prefect says. `acts`: with buttons; `refresh`: draws anew after something has changed."""

    api: PrefectApi
    acts: bool
    status: WorkspaceStatus
    refresh: Callable[[], Coroutine[Any, Any, None]]

    def draw(self, plan: Plan) -> None:
        """The cards of the page."""
        if not plan.deployments:
            text("`ganpipe up` has just started and registers its schedules; they are here in some seconds.")
            return
        if not self.acts:
            banner(
                "This dashboard only shows. Open the one that `ganpipe up` printed to pause, start and cancel."
            )
        if not any(deployment.timings for deployment in plan.deployments):
            nothing_yet("No schedule yet. Start `ganpipe up` with one, such as:", *EXAMPLES[:2])
        with Element("div").classes("cards"):
            for deployment in sorted(plan.deployments, key=lambda d: (not d.timings, d.name)):
                self._draw_deployment(deployment)
            self._draw_watch(plan.watched)

    def _draw_deployment(self, deployment: Deployment) -> None:
        with card():
            with Element("div").classes("row"):
                heading(_title(deployment))
                if not deployment.active:
                    text("paused", "span", "strong warn")
            text(deployment.about, classes="soft")
            with Element("div").classes("pairs"):
                self._draw_pairs(deployment)
            _draw_settings(deployment.overrides)
            for run in deployment.open:
                self._draw_open(run)
            if self.acts:
                self._draw_buttons(deployment)

    def _draw_pairs(self, deployment: Deployment) -> None:
        if dataset := deployment.parameters.get("dataset"):
            text("dataset")
            link(str(dataset), dataset_url(str(dataset)))
        text("when")
        text("; ".join(map(_when, deployment.timings)) or NOT_BY_TIME.get(deployment.name, "only by hand"))
        if deployment.planned:
            text("next")
            with Element("div"):
                for run in deployment.planned[:SHOWN_TIMES]:
                    with Element("div"):
                        time_of(run.expected_at)
        text("last")
        with Element("div"):
            self._draw_last(deployment.last)

    def _draw_last(self, run: Run | None) -> None:
        if run is None:
            text("It has not run yet.", classes="soft")
            return
        with Element("div").classes("row"):
            word(run.state)
            time_of(run.ended_at)
            self._draw_links(run)
        text(run.message)

    def _draw_links(self, run: Run) -> None:
        record = next(
            (r for r in self.status.runs if r.mlflow_run_id and r.mlflow_run_id == run.mlflow_run_id), None
        )
        if record:
            link(record.run, run_url(record.run))
        link("Prefect ↗", self.api.page(run)).props("target=_blank rel=noopener")

    def _draw_open(self, run: Run) -> None:
        with Element("div").classes("row open"):
            word(run.state)
            text(run.name, "span")
            self._draw_links(run)
            if self.acts:
                button(
                    "Cancel", self._acting(lambda: self.api.cancel(run), f"{run.name} is cancelled.")
                ).props("flat dense")
            text(run.message, classes="soft")

    def _draw_buttons(self, deployment: Deployment) -> None:
        with Element("div").classes("row acts"):
            if deployment.name == FROM_GALLERY:
                link("Open the gallery", "/gallery")
                return
            name = _title(deployment)
            button("Run now", self._acting(lambda: self.api.start(deployment), f"A run of {name} is queued."))
            if deployment.timings:
                active = not deployment.active
                done = f"{name} starts runs again." if active else f"{name} is paused until you resume it."
                button(
                    "Resume" if active else "Pause",
                    self._acting(lambda: self.api.set_active(deployment, active), done),
                )

    def _acting(
        self, call: Callable[[], Coroutine[Any, Any, object]], done: str
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        async def act() -> None:
            await attempt(call(), done)
            await self.refresh()

        return act

    def _draw_watch(self, watched: WatchedFolder | None) -> None:
        with card("Watched folder"):
            if watched is None:
                text("No folder is watched. New images start a run by themselves with:")
                with Element("p"):
                    code(EXAMPLES[2])
                return
            text(f"{watched.folder}: {watched.what()} goes into the dataset.")
            with Element("div").classes("pairs"):
                text("dataset")
                link(watched.dataset, dataset_url(watched.dataset))
                text("mode")
                text(watched.mode)
                text("a run starts at")
                text(watched.rule() if watched.retrains else "never (watch.retrain is no)")
            decision = next((d for d in self.status.retraining if d.dataset == watched.dataset), None)
            if watched.retrains and decision:
                text(f"{decision.new:,} of {watched.min_new_images:,} new images", classes="strong")
                meter(min(1.0, decision.new / watched.min_new_images), "new images")
                text(decision.reason, classes="soft")


def _title(deployment: Deployment) -> str:
    return "by hand" if deployment.name == BY_HAND and not deployment.timings else deployment.name


def _when(timing: Timing) -> str:
    interval_s = timing.interval.total_seconds() if timing.interval else None
    return describe_timing(timing.cron, interval_s, timing.timezone)


def _draw_settings(overrides: list[str]) -> None:
    if not overrides:
        text("Its settings are those of params.yaml and the preset.", classes="soft")
        return
    with Element("details"):
        text(
            "1 setting of its own" if len(overrides) == 1 else f"{len(overrides)} settings of its own",
            "summary",
        )
        for override in overrides:
            field = FIELDS.get(override.partition("=")[0].strip())
            with Element("div"):
                code(override)
                text(f" {field.description}" if field else "", "span", "soft")
