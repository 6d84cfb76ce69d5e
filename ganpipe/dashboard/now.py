"""Now: what runs and waits, what ran and is planned, and how the workspace is. It keeps itself up to date."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import ui
from nicegui.element import Element

from ganpipe.dashboard.figures import curve, rate_and_left, share, size, took
from ganpipe.dashboard.layout import (
    Cell,
    card,
    clock_time,
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
from ganpipe.dashboard.pictures import picture_url, preview_url
from ganpipe.dashboard.readings import LOSSES, Readings, Training
from ganpipe.stages.last_day import LastDay
from ganpipe.stages.status import DatasetStatus, DiskUse, RunStatus, WorkspaceStatus
from ganpipe.stores.activities import Activity
from ganpipe.stores.prefect_database import FlowRun, PlannedRun

REFRESH_S = 2.0
SHOWN_RUNS, SHOWN_PLANNED = 8, 5
Shown = Callable[[WorkspaceStatus], tuple[Any, ...]]
Row = tuple[Shown, Callable[..., None]]


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
        work = Element("div")
        parts = [Part(*row) for row in BEFORE]
        with Element("div").classes("cards narrow"):
            parts += [Part(*row) for row in BESIDE]
        parts += [Part(*row) for row in AFTER]
    cards: dict[tuple[str, str], ActivityCard] = {}

    async def refresh() -> None:
        status = await readings.status()
        idle.set_visibility(not status.activities)
        _refresh_work(readings, status.activities, work, cards)
        for part in parts:
            part.refresh(status)

    await refresh()
    ui.timer(REFRESH_S, refresh, immediate=False)


class Part:
    """A part of the page, drawn anew only when what it shows has changed: who reads or selects something is not disturbed.

    `shown`: that, of the status: the arguments of `draw_it`.
    """

    def __init__(self, shown: Shown, draw_it: Callable[..., None]) -> None:
        self.shown, self.draw_it = shown, draw_it
        self.drawn: tuple[Any, ...] | None = None
        self.place = Element("div").classes("part")

    def refresh(self, status: WorkspaceStatus) -> None:
        """Draws it if it has changed."""
        now = self.shown(status)
        if now != self.drawn:
            self.drawn = now
            self.place.clear()
            with self.place:
                self.draw_it(*now)


class ActivityCard:
    """One piece of work: a bar with rate and time left, its newest picture, and for a training its losses."""

    def __init__(self, activity: Activity, trains: bool) -> None:
        self.training: Training | None = None
        with card() as self.box:
            with Element("div").classes("row"):
                name = activity.subject.rpartition("/")[2]
                link(name, run_url(name), "strong") if trains else text(name, classes="strong")
                self.stage = text("", "span", "soft")
            self.fill = meter(0.0, f"progress of {name}")
            self.line = text("", classes="soft")
            with Element("div").classes("beside"):
                self.picture = image("", f"the newest picture of {name}", "picture grid-picture")
                self.chart = curve([], LOSSES, zoom=False, classes="chart") if trains else None
        self.picture.set_visibility(False)
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

    def show_picture(self, url: str | None) -> None:
        """Its newest picture."""
        self.picture.set_visibility(url is not None)
        if url is not None and self.picture.props.get("src") != url:
            self.picture.props["src"] = url

    def show_training(self, training: Training) -> None:
        """The losses of a training."""
        if self.chart is not None:
            self.chart.set_visibility(training.chart is not None)
            if training.chart is not None:
                self.chart.options.clear()
                self.chart.options.update(training.chart)
                self.chart.update()
        self.training = training


def _refresh_work(
    readings: Readings,
    activities: list[Activity],
    place: Element,
    cards: dict[tuple[str, str], ActivityCard],
) -> None:
    now = {(a.process, a.subject): a for a in activities}
    for key in [key for key in cards if key not in now]:
        cards.pop(key).box.delete()
    for key, activity in now.items():
        training = readings.training(activity.subject)
        if key not in cards:
            with place:
                cards[key] = ActivityCard(activity, training is not None)
        cards[key].show(activity)
        if training is None:
            cards[key].show_picture(preview_url(readings.workspace, Path(activity.subject)))
        elif training is not cards[key].training and not activity.waits_for:
            cards[key].show_picture(picture_url(readings.workspace, training.grid) if training.grid else None)
            cards[key].show_training(training)


def _draw_last_day(last_day: LastDay) -> None:
    if not last_day.told:
        return
    with card("The last 24 hours"):
        for told in last_day.told:
            with Element("p").classes("told"):
                clock_time(told.began_at)
                text(f" {told.sentence}", "span")
        if last_day.others:
            text(f"and {last_day.others:,} more", classes="soft")


def _draw_flow_runs(flow_runs: list[FlowRun]) -> None:
    if not flow_runs:
        return
    with card("Lately"):
        plain_table(
            ("when", "what", "took", "outcome", "why"),
            [
                (time_cell(f.began_at), f.name, took(f.seconds), word_cell(f.state), f.message)
                for f in flow_runs
            ],
        )


def _draw_runs(runs: list[RunStatus]) -> None:
    if runs:
        with card("Latest trainings"):
            plain_table(
                ("run", "began", "training", "state", "verdict", "why"), [_run_row(run) for run in runs]
            )


def _run_row(run: RunStatus) -> tuple[Cell, ...]:
    return (
        link_cell(run.run, run_url(run.run)),
        time_cell(run.began_at),
        took(run.train_s),
        word_cell(run.state),
        word_cell(run.verdict),
        run.reason,
    )


def _draw_planned(planned: list[PlannedRun], is_up: bool) -> None:
    with card("Next"):
        if planned:
            rows = [(time_cell(p.at), p.deployment, p.timing) for p in planned]
            plain_table(("when", "what", "schedule"), rows)
        elif is_up:
            text("Nothing is planned. A schedule starts runs by itself; see ganpipe up --help.")
        else:
            text("Nothing starts by itself: ganpipe up is not running.")
            with Element("p"):
                code('ganpipe up --cron "0 2 * * *"')


def _draw_models(champions: dict[str, str], challengers: dict[str, str]) -> None:
    with card("Champions"):
        for name in dict.fromkeys([*champions, *challengers]):
            with Element("div").classes("pairs"):
                text("champion")
                text(champions.get(name, "none yet"), classes="strong")
                text("challenger")
                text(challengers.get(name, "none"))
        if not champions and not challengers:
            text("No model yet. A run registers one and makes it the champion if it is good enough.")
        else:
            link("Compare them", "/models")


def _draw_datasets(datasets: list[DatasetStatus]) -> None:
    with card("Datasets"):
        for dataset in datasets:
            with Element("div").classes("row"):
                link(dataset.name, dataset_url(dataset.name), "strong")
                text(f"{dataset.images:,} images" if dataset.images is not None else "", "span")
                text((dataset.version or "")[:8], "span", "mono")
            text(dataset.problem or seen(dataset), classes="warn" if dataset.problem else "soft")
        if not datasets:
            text("No dataset yet.")
            code("ganpipe data add FOLDER --name NAME")


def seen(dataset: DatasetStatus) -> str:
    """Whether the champion has seen the present version."""
    return {
        True: "The champion was trained on this version.",
        False: "The champion was trained on another version.",
        None: "There is no champion of it yet.",
    }[dataset.champion_has_seen]


def _draw_disk(free: str, used: list[tuple[str, str]]) -> None:
    with card("Disk"), Element("div").classes("pairs"):
        text("free")
        text(free, classes="strong")
        for what, amount in used:
            text(what)
            text(amount)


def _used(use: DiskUse) -> tuple[str, str]:
    return use.what, ("" if use.whole else "more than ") + size(use.bytes)


# The parts of the page: what each shows of the status, and the function that draws that.
BEFORE: tuple[Row, ...] = (
    (lambda s: (s.last_day,), _draw_last_day),
    (lambda s: (s.flow_runs,), _draw_flow_runs),
)
BESIDE: tuple[Row, ...] = (
    (lambda s: (s.planned[:SHOWN_PLANNED], bool(s.up_pid)), _draw_planned),
    (lambda s: (s.champions, s.challengers), _draw_models),
    (lambda s: (s.datasets,), _draw_datasets),
    (lambda s: (size(s.disk_free_bytes), [_used(use) for use in s.disk]), _draw_disk),
)
AFTER: tuple[Row, ...] = ((lambda s: (s.runs[::-1][:SHOWN_RUNS],), _draw_runs),)
