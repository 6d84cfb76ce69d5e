"""Now: what runs and waits, what ran and is planned, and how the workspace is. It keeps itself up to date."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from nicegui import ui
from nicegui.element import Element

from ganpipe.dashboard.figures import CURVES, curve, curve_options, present, rate_and_left, share, size, took
from ganpipe.dashboard.layout import (
    Cell,
    card,
    code,
    frame,
    heading,
    image,
    link,
    link_cell,
    meter,
    nothing_yet,
    plain_table,
    text,
    time_cell,
    word_cell,
)
from ganpipe.dashboard.links import dataset_url, run_url
from ganpipe.dashboard.pictures import picture_url
from ganpipe.dashboard.readings import Readings
from ganpipe.stages.run_details import list_grids
from ganpipe.stages.status import DatasetStatus, RunStatus, WorkspaceStatus
from ganpipe.stores.activities import Activity
from ganpipe.training.callbacks import Point

REFRESH_S = 2.0
LOSSES = CURVES[0][2]
SHOWN_RUNS = 8


async def draw(readings: Readings) -> None:
    """The page."""
    status = await readings.status()
    with frame("/", status):
        heading("Now", 1)
        if not status.datasets and not status.runs:
            nothing_yet(
                "Nothing here yet. Train on painted flowers, or add your own images first:",
                "ganpipe run",
                "ganpipe data add FOLDER --name NAME",
            )
        idle = text("Nothing runs at the moment.", classes="soft")
        work, rest = Element("div"), Element("div")
    cards: dict[tuple[str, str], ActivityCard] = {}
    drawn: WorkspaceStatus | None = None

    async def refresh() -> None:
        nonlocal drawn
        status = await readings.status()
        idle.set_visibility(not status.activities)
        await _refresh_work(readings, status.activities, work, cards)
        # The rest is drawn anew only when it has changed: who reads or selects something is not disturbed.
        still = replace(status, activities=[], disk_free_bytes=0)
        if still != drawn:
            drawn = still
            rest.clear()
            with rest:
                _draw_rest(status)

    await refresh()
    ui.timer(REFRESH_S, refresh, immediate=False)


class ActivityCard:
    """One piece of work: a bar with rate and time left, and for a training its newest grid and its losses."""

    def __init__(self, activity: Activity, trains: bool) -> None:
        with card() as self.box:
            with Element("div").classes("row"):
                name = activity.subject.rpartition("/")[2]
                link(name, run_url(name), "strong") if trains else text(name, classes="strong")
                self.stage = text("", "span", "soft")
            self.fill = meter(0.0, f"progress of {name}")
            self.line = text("", classes="soft")
            with Element("div").classes("beside"):
                self.grid = (
                    image("", f"the newest grid of {name}", "picture grid-picture") if trains else None
                )
                self.chart = curve([], LOSSES, zoom=False, classes="chart") if trains else None
        self.show(activity)

    def show(self, activity: Activity) -> None:
        """The progress now."""
        p = activity.progress
        self.stage.text = (
            f"{'waits' if activity.waits_for else p.stage if p else 'begins'}, process {activity.pid}"
        )
        self.line.text = activity.waits_for or (rate_and_left(p) if p else "")
        self.fill.style(f"width: {100 * (share(p) if p else 0):.1f}%")
        if self.fill.parent_slot:
            self.fill.parent_slot.parent.props["aria-valuenow"] = round(100 * (share(p) if p else 0))

    def show_training(self, points: list[Point], newest: str | None) -> None:
        """The losses and the newest grid of a training."""
        if self.grid is not None:
            self.grid.set_visibility(newest is not None)
            if newest is not None and self.grid.props.get("src") != newest:
                self.grid.props["src"] = newest
        if self.chart is not None:
            names = present(points, LOSSES) or present(points, tuple(points[-1].values)[:2] if points else ())
            self.chart.set_visibility(bool(names))
            options = curve_options(points, names, zoom=False)
            if options != self.chart.options:
                self.chart.options.clear()
                self.chart.options.update(options)
                self.chart.update()


async def _refresh_work(
    readings: Readings,
    activities: list[Activity],
    place: Element,
    cards: dict[tuple[str, str], ActivityCard],
) -> None:
    workspace = readings.workspace
    now = {(a.process, a.subject): a for a in activities}
    for key in [key for key in cards if key not in now]:
        cards.pop(key).box.delete()
    for key, activity in now.items():
        trains = (workspace.runs / activity.subject).is_dir() and "/" not in activity.subject
        if key not in cards:
            with place:
                cards[key] = ActivityCard(activity, trains)
        cards[key].show(activity)
        if trains and not activity.waits_for:
            points = await readings.curve(activity.subject)
            grids = await asyncio.to_thread(list_grids, workspace, activity.subject)
            newest = picture_url(workspace, grids[-1].path) if grids else None
            cards[key].show_training(points, newest)


def _draw_rest(status: WorkspaceStatus) -> None:
    if status.flow_runs:
        with card("Lately"):
            plain_table(
                ("when", "what", "took", "outcome", "why"),
                [
                    (time_cell(f.began_at), f.name, took(f.seconds), word_cell(f.state), f.message)
                    for f in status.flow_runs
                ],
            )
    with Element("div").classes("cards narrow"):
        _draw_planned(status)
        _draw_models(status)
        _draw_datasets(status)
        _draw_disk(status)
    if status.runs:
        with card("Latest trainings"):
            rows = [_run_row(run) for run in status.runs[::-1][:SHOWN_RUNS]]
            plain_table(("run", "began", "training", "state", "verdict", "why"), rows)


def _run_row(run: RunStatus) -> tuple[Cell, ...]:
    return (
        link_cell(run.run, run_url(run.run)),
        time_cell(run.began_at),
        took(run.train_s),
        word_cell(run.state),
        word_cell(run.verdict),
        run.reason,
    )


def _draw_planned(status: WorkspaceStatus) -> None:
    with card("Next"):
        if status.planned:
            plain_table(("when", "what"), [(time_cell(p.at), p.deployment) for p in status.planned[:5]])
        elif status.up_pid:
            text("Nothing is planned. A schedule starts runs by itself; see ganpipe up --help.")
        else:
            text("Nothing starts by itself: ganpipe up is not running.")
            with Element("p"):
                code('ganpipe up --cron "0 2 * * *"')


def _draw_models(status: WorkspaceStatus) -> None:
    with card("Champions"):
        for name in dict.fromkeys([*status.champions, *status.challengers]):
            with Element("div").classes("pairs"):
                text("champion")
                text(status.champions.get(name, "none yet"), classes="strong")
                text("challenger")
                text(status.challengers.get(name, "none"))
        if not status.champions and not status.challengers:
            text("No model yet. A run registers one and makes it the champion if it is good enough.")
        else:
            link("Compare them", "/models")


def _draw_datasets(status: WorkspaceStatus) -> None:
    with card("Datasets"):
        for dataset in status.datasets:
            with Element("div").classes("row"):
                link(dataset.name, dataset_url(dataset.name), "strong")
                text(f"{dataset.images:,} images" if dataset.images is not None else "", "span")
                text((dataset.version or "")[:8], "span", "mono")
            text(dataset.problem or seen(dataset), classes="warn" if dataset.problem else "soft")
        if not status.datasets:
            text("No dataset yet.")
            code("ganpipe data add FOLDER --name NAME")


def seen(dataset: DatasetStatus) -> str:
    """Whether the champion has seen the present version."""
    return {
        True: "The champion was trained on this version.",
        False: "The champion was trained on another version.",
        None: "There is no champion of it yet.",
    }[dataset.champion_has_seen]


def _draw_disk(status: WorkspaceStatus) -> None:
    with card("Disk"), Element("div").classes("pairs"):
        text("free")
        text(size(status.disk_free_bytes), classes="strong")
        for use in status.disk:
            text(use.what)
            text(("" if use.whole else "more than ") + size(use.bytes))
