"""Models: the champion beside its challenger, who decides between them, images of both, and who was champion before."""

from __future__ import annotations

import asyncio
from pathlib import Path

from nicegui.element import Element

from ganpipe.dashboard.acting import perform
from ganpipe.dashboard.drawing import draw_drawing
from ganpipe.dashboard.figures import MEANINGS, number
from ganpipe.dashboard.gate import draw_gate
from ganpipe.dashboard.layout import (
    Cell,
    card,
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
from ganpipe.dashboard.promotion import Change, draw_challenger_choices, draw_promote, draw_rollback
from ganpipe.dashboard.readings import Readings
from ganpipe.models.generator_files import read_labels
from ganpipe.stores.registered_models import CHALLENGER, CHAMPION, RegisteredModel, RegisteredVersion
from ganpipe.stores.run_records import RunRecord, all_records, run_folder

SHOWN_VERSIONS = 50
COMPARED = ("kd", "energy", "precision", "coverage", "vendi", "copied")


async def draw(readings: Readings) -> None:
    """The page."""
    with frame("/models", await readings.status()):
        heading("Models", 1)
        place = Element("div")
    actions = readings.actions

    async def show() -> None:
        status = await readings.status()
        records = await asyncio.to_thread(all_records, readings.workspace)
        if place.is_deleted:  # the reader has left meanwhile
            return
        place.clear()
        with place:
            if not status.models and not status.models_problem:
                nothing_yet("No model yet. A run trains one, evaluates it and registers it:", "ganpipe run")
            for model in status.models:
                ModelView(readings, model, records, change if actions else None).draw()

    async def change(doing: str, *words: str) -> None:
        assert actions is not None
        await perform(actions, doing, *words)
        await readings.forget_status()
        await show()  # also after a failure: another page may have been faster

    await show()


class ModelView:
    """One registered model; `change`: what its buttons do, None where the page only shows."""

    def __init__(
        self, readings: Readings, model: RegisteredModel, records: list[RunRecord], change: Change | None
    ) -> None:
        self.workspace, self.actions = readings.workspace, readings.actions
        self.model, self.change = model, change
        self._records = {record.mlflow_run_id: record for record in records}

    def draw(self) -> None:
        """The whole of it, under its name."""
        heading(self.model.name)
        champion, challenger = map(self.model.with_alias, (CHAMPION, CHALLENGER))
        with Element("div").classes("cards"):
            with card("Champion"):
                self._draw_version(champion)
                with Element("div").classes("row choices"):
                    draw_rollback(self.model, self.change)
            with card("Challenger"):
                self._draw_version(challenger)
                if challenger and (record := self._run_of(challenger)):
                    draw_challenger_choices(self.model, challenger, record, self.change)
        runs = [self._run_of(version) if version else None for version in (champion, challenger)]
        self._draw_gate(runs[1] or runs[0])
        _draw_metrics(runs)
        draw_drawing(self.workspace, self.actions, self.model, self._labels(runs))
        _draw_history(self.model)
        self._draw_versions(champion)

    def _run_of(self, version: RegisteredVersion) -> RunRecord | None:
        return self._records.get(version.mlflow_run_id)

    def _draw_version(self, version: RegisteredVersion | None) -> None:
        if version is None:
            text("None.", classes="soft")
            return
        record = self._run_of(version)
        with Element("div").classes("row"):
            text(f"v{version.version}", "span", "strong")
            if record and record.evaluation:
                word(record.evaluation.verdict)
            if record:
                link(record.run_id, run_url(record.run_id))
        if version.gate_reason:
            text(version.gate_reason)
        if record and record.evaluation and record.evaluation.grid and Path(record.evaluation.grid).is_file():
            image(
                picture_url(self.workspace, Path(record.evaluation.grid)),
                f"images of v{version.version} beside real ones",
            )

    def _draw_gate(self, record: RunRecord | None) -> None:
        """The gate's answer on the challenger, or without one on the champion, if it compared anything."""
        gate = record.gate if record else None
        if gate and gate.comparison:
            with card("Gate"):
                draw_gate(self.workspace, gate)
                if gate.champion != f"{self.model.name} v{self.model.aliases.get(CHAMPION)}":
                    text(f"Compared with {gate.champion}, which was champion then.", classes="soft")

    def _labels(self, runs: list[RunRecord | None]) -> list[str]:
        folders = [run_folder(self.workspace, record.run_id) / "model" for record in runs if record]
        return sorted({label for folder in folders for label in read_labels(folder)})

    def _draw_versions(self, champion: RegisteredVersion | None) -> None:
        shown = self.model.versions[::-1][:SHOWN_VERSIONS]
        with card("Versions"):
            plain_table(
                ("version", "made", "run", "gate", *([""] if self.change else []), "why"),
                [self._version_row(version, version == champion) for version in shown],
            )
            if len(self.model.versions) > SHOWN_VERSIONS:
                text(f"and {len(self.model.versions) - SHOWN_VERSIONS:,} earlier ones", classes="soft")

    def _version_row(self, version: RegisteredVersion, is_champion: bool) -> tuple[Cell, ...]:
        record = self._run_of(version)
        gate = record.gate.word if record and record.gate else version.gate
        choice: list[Cell] = []
        if self.change:
            choice = [self._promote_cell(version, record, self.change) if record and not is_champion else ""]
        return (
            f"v{version.version}",
            time_cell(version.made_at),
            link_cell(record.run_id, run_url(record.run_id)) if record else "its run is not here",
            word_cell(gate),
            *choice,
            version.gate_reason or "",
        )

    def _promote_cell(self, version: RegisteredVersion, record: RunRecord, change: Change) -> Cell:
        return lambda: draw_promote(self.model, version, record, change)


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
