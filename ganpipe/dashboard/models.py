"""Models: the champion beside its challenger, the gate's reason, and who was champion before."""

from __future__ import annotations

import asyncio
from pathlib import Path

from nicegui.element import Element

from ganpipe.dashboard.figures import MEANINGS, number
from ganpipe.dashboard.layout import (
    Cell,
    card,
    code,
    frame,
    heading,
    image,
    link,
    link_cell,
    nothing_yet,
    plain_table,
    text,
    time_cell,
    word,
    word_cell,
)
from ganpipe.dashboard.links import run_url
from ganpipe.dashboard.pictures import picture_url
from ganpipe.dashboard.readings import Readings
from ganpipe.stores.registered_models import CHALLENGER, CHAMPION, RegisteredModel, RegisteredVersion
from ganpipe.stores.run_records import RunRecord, all_records
from ganpipe.stores.workspace import Workspace

SHOWN_VERSIONS = 50
COMPARED = ("kd", "energy", "precision", "coverage", "vendi", "copied")


async def draw(readings: Readings) -> None:
    """The page."""
    status = await readings.status()
    with frame("/models", status):
        heading("Models", 1)
        if not status.models and not status.models_problem:
            nothing_yet("No model yet. A run trains one, evaluates it and registers it:", "ganpipe run")
        records = await asyncio.to_thread(all_records, readings.workspace)
        of_run = {record.mlflow_run_id: record for record in records}
        for model in status.models:
            _draw_model(readings.workspace, model, of_run)


def _draw_model(workspace: Workspace, model: RegisteredModel, of_run: dict[str | None, RunRecord]) -> None:
    heading(model.name)
    sides = [(alias, model.with_alias(alias)) for alias in (CHAMPION, CHALLENGER)]
    with Element("div").classes("cards"):
        for alias, version in sides:
            with card(alias.capitalize()):
                _draw_version(workspace, version, of_run.get(version.mlflow_run_id) if version else None)
    runs = [of_run.get(version.mlflow_run_id) if version else None for _, version in sides]
    _draw_metrics(runs)
    _draw_gate_picture(workspace, runs[1])
    _draw_history(model)
    with card("Versions"):
        plain_table(
            ("version", "made", "run", "gate", "why"),
            [
                (
                    f"v{v.version}",
                    time_cell(v.made_at),
                    _run_cell(of_run.get(v.mlflow_run_id)),
                    word_cell(v.gate),
                    v.gate_reason or "",
                )
                for v in model.versions[::-1][:SHOWN_VERSIONS]
            ],
        )
        if len(model.versions) > SHOWN_VERSIONS:
            text(f"and {len(model.versions) - SHOWN_VERSIONS:,} earlier ones", classes="soft")


def _run_cell(record: RunRecord | None) -> Cell:
    return link_cell(record.run_id, run_url(record.run_id)) if record else "its run is not here"


def _draw_version(workspace: Workspace, version: RegisteredVersion | None, record: RunRecord | None) -> None:
    if version is None:
        text("None.", classes="soft")
        return
    with Element("div").classes("row"):
        text(f"v{version.version}", "span", "strong")
        if record and record.evaluation:
            word(record.evaluation.verdict)
        if record:
            link(record.run_id, run_url(record.run_id))
    if version.gate_reason:
        text(version.gate_reason)
    if record and record.gate and record.gate.waiting:
        with Element("p"):
            text("It waits for a person: ", "span")
            code(f"ganpipe promote {record.run_id}")
    if record and record.evaluation and record.evaluation.grid and Path(record.evaluation.grid).is_file():
        image(
            picture_url(workspace, Path(record.evaluation.grid)),
            f"images of v{version.version} beside real ones",
        )


def _draw_metrics(runs: list[RunRecord | None]) -> None:
    champion, challenger = (
        record.evaluation.metrics if record and record.evaluation else {} for record in runs
    )
    names = [name for name in COMPARED if name in champion or name in challenger]
    if names:
        with card("Each on the held-out images of its own version"):
            rows = []
            for name in names:
                a, b = champion.get(name), challenger.get(name)
                floors = [number(metric.floor) for metric in (a, b) if metric]
                rows.append((name, a.text if a else "", b.text if b else "", floors[0], MEANINGS[name]))
            plain_table(("metric", "champion", "challenger", "real images score", "what it says"), rows)


def _draw_gate_picture(workspace: Workspace, challenger: RunRecord | None) -> None:
    picture = challenger.gate.picture if challenger and challenger.gate else None
    if picture and Path(picture).is_file():
        with card("The same latents, as the gate saw them"):
            image(picture_url(workspace, Path(picture)), "champion and challenger from the same latents")


def _draw_history(model: RegisteredModel) -> None:
    if model.history:
        with card("Champions so far"):
            plain_table(
                ("when", "champion", "before", "how", "by", "why"),
                [
                    (
                        time_cell(c.at),
                        f"v{c.version}",
                        f"v{c.before}" if c.before else "",
                        c.action,
                        c.by,
                        c.why,
                    )
                    for c in reversed(model.history)
                ],
            )
