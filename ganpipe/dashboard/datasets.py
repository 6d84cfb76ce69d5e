"""Datasets: all of them, and one with its versions, its contact sheet and what was refused."""

from __future__ import annotations

import asyncio
from functools import partial

from nicegui import ui
from nicegui.element import Element

from ganpipe.dashboard.layout import (
    banner,
    card,
    frame,
    heading,
    image,
    link,
    nothing_yet,
    plain_table,
    text,
    time_cell,
)
from ganpipe.dashboard.links import dataset_url, run_url
from ganpipe.dashboard.now import seen
from ganpipe.dashboard.pictures import picture_url, thumbnail_url
from ganpipe.dashboard.readings import Readings
from ganpipe.errors import GanpipeError
from ganpipe.stages.dataset_details import (
    Addition,
    DatasetDetails,
    NearCopy,
    Profile,
    VersionDetails,
    dataset_details,
)
from ganpipe.stores.workspace import Workspace

SHOWN_RUNS, SHOWN_QUARANTINED, SHOWN_COPIES = 5, 200, 6


async def draw_all(readings: Readings) -> None:
    """The page of all datasets."""
    status = await readings.status()
    with frame("/datasets", status):
        heading("Datasets", 1)
        if not status.datasets:
            nothing_yet(
                "No dataset yet. Add a folder, an archive, or the painted flowers:",
                "ganpipe data add FOLDER --name NAME",
                "ganpipe data add sample:flowers --name flowers",
            )
        with Element("div").classes("cards"):
            for dataset in status.datasets:
                with card():
                    link(dataset.name, dataset_url(dataset.name), "strong")
                    with Element("div").classes("pairs"):
                        text("images")
                        text("not known" if dataset.images is None else f"{dataset.images:,}")
                        text("to train on")
                        text("" if dataset.train is None else f"{dataset.train:,}")
                        text("held out")
                        text("" if dataset.holdout is None else f"{dataset.holdout:,}")
                        text("labels")
                        text("" if dataset.labels is None else f"{dataset.labels:,}")
                        text("version")
                        text(dataset.version or "none yet", classes="mono")
                        text("versions")
                        text(f"{dataset.versions:,}")
                    text(seen(dataset), classes="soft")
                    if dataset.problem:
                        text(dataset.problem, classes="warn")


async def draw_one(readings: Readings, name: str) -> None:
    """The page of one dataset."""
    status = await readings.status()
    with frame("/datasets", status):
        heading(name, 1)
        try:
            found = await asyncio.to_thread(dataset_details, readings.workspace, name)
        except GanpipeError as error:
            banner(str(error))
            link("All datasets", "/datasets")
            return
        problem = next((d.problem for d in status.datasets if d.name == name), None)
        if problem:
            banner(problem)
        with Element("div").classes("cards"):
            _draw_profile(found.profile, found.name)
            if found.sheet and found.sheet.is_file():
                with card("Contact sheet"):
                    image(picture_url(readings.workspace, found.sheet), "64 images spread over the dataset")
        _draw_versions(found)
        if found.near_groups:
            _draw_near_copies(readings.workspace, found.near_groups)
        if found.addition:
            _draw_addition(found.addition)


def _draw_profile(profile: Profile | None, name: str) -> None:
    if profile is None:
        nothing_yet("It has not been looked at yet: a run does so, or", f"ganpipe data show {name}")
        return
    with card("Numbers"):
        with Element("div").classes("pairs"):
            for what, count in (
                ("images", profile.images),
                ("to train on", profile.train),
                ("held out", profile.holdout),
                ("with color", profile.color),
                ("gray", profile.gray),
                ("dark", profile.dark),
                ("very bright", profile.bright),
                ("blurred", profile.blurred),
                ("near copies of another", profile.near_copies),
                ("labels", len(profile.labels)),
            ):
                text(what)
                text(f"{count:,}")
            for what, size in (("width", profile.width_px), ("height", profile.height_px)):
                text(what)
                text(f"{size.low:,.0f} to {size.high:,.0f} px, median {size.median:,.0f}")
        with Element("ul"):
            for sentence in profile.advice:
                text(sentence, "li")
        if profile.labels:
            with ui.expansion("Images of each label").classes("soft"):
                plain_table(("label", "images"), [(k, f"{v:,}") for k, v in profile.labels.items()])


def _draw_versions(found: DatasetDetails) -> None:
    with card("Versions"):
        if not found.versions:
            text("No version yet: ganpipe data verify makes one.")
            return
        rows = [
            (
                v.version[:12],
                time_cell(v.made_at),
                f"{v.images:,}",
                "" if v.change is None else f"{v.change:+,}",
                v.drift,
                partial(_draw_runs, v),
            )
            for v in found.versions
        ]
        plain_table(("version", "made", "images", "change", "drift", "trained on it"), rows)


def _draw_near_copies(workspace: Workspace, groups: list[list[NearCopy]]) -> None:
    """Groups of near copies, which stay on one side of the split."""
    with card("Near copies"):
        text("Each group is trained on, or held out, as a whole.", classes="soft")
        for group in groups:
            with Element("div").classes("strip"):
                for copy in group[:SHOWN_COPIES]:
                    with Element("div"):
                        if copy.file:
                            image(thumbnail_url(workspace, copy.file), copy.name)
                        text(copy.name, classes="soft")
                if len(group) > SHOWN_COPIES:
                    text(f"and {len(group) - SHOWN_COPIES:,} more", classes="soft")


def _draw_runs(version: VersionDetails) -> None:
    if version.champion:
        text("the champion", classes="strong good")
    for run in version.runs[-SHOWN_RUNS:]:
        with Element("div"):
            link(run, run_url(run))
    if len(version.runs) > SHOWN_RUNS:
        text(f"and {len(version.runs) - SHOWN_RUNS:,} more", classes="soft")
    if not version.runs:
        text("no run", classes="soft")


def _draw_addition(addition: Addition) -> None:
    with card("The latest addition"):
        text(
            f"{addition.found:,} files found: {addition.accepted:,} accepted, {len(addition.quarantined):,} quarantined, "
            f"{addition.duplicates:,} duplicates."
        )
        if addition.quarantined:
            rows = [(q.file, q.reason) for q in addition.quarantined[:SHOWN_QUARANTINED]]
            plain_table(("quarantined", "why"), rows)
        if len(addition.quarantined) > SHOWN_QUARANTINED:
            text(f"and {len(addition.quarantined) - SHOWN_QUARANTINED:,} more", classes="soft")
