"""One run: its verdict, report card, grids and curves, what its settings changed, and what hangs together with it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from nicegui import ui
from nicegui.element import Element

from ganpipe.dashboard.figures import CURVES, MEANINGS, curve, number, present, took
from ganpipe.dashboard.gate import draw_gate
from ganpipe.dashboard.layout import (
    banner,
    card,
    frame,
    heading,
    image,
    link,
    plain_table,
    text,
    time_of,
    word,
)
from ganpipe.dashboard.lineage import draw_lineage
from ganpipe.dashboard.links import dataset_url, report_url, run_url
from ganpipe.dashboard.pictures import picture_url
from ganpipe.dashboard.readings import Readings
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.verdict import Evaluation
from ganpipe.stages.lineage import trace_lineage
from ganpipe.stages.run_details import Grid, RunDetails, run_details
from ganpipe.stores.run_files import FILM, REPORT_PAGE, REPORT_PICTURE, SUSPECTS_SHEET
from ganpipe.stores.run_records import RunRecord, run_folder
from ganpipe.stores.workspace import Workspace

PLAY_S = 0.25  # between two grids


async def draw(readings: Readings, run: str) -> None:
    """The page."""
    status = await readings.status()
    with frame("/runs", status):
        heading(run, 1)
        try:
            found = await asyncio.to_thread(run_details, readings.workspace, run)
            lineage = await asyncio.to_thread(trace_lineage, readings.workspace, found.record.run_id)
        except GanpipeError as error:
            banner(str(error))
            link("All runs", "/runs")
            return
        _draw_run(readings.workspace, found)
        with card("Lineage"):
            draw_lineage(readings.workspace, lineage, here=found.record.run_id)


def _draw_run(workspace: Workspace, found: RunDetails) -> None:
    record = found.record
    folder = run_folder(workspace, record.run_id)
    with Element("div").classes("cards"):
        with card("Outcome"):
            _draw_outcome(found)
        if record.evaluation:
            with card("Verdict"):
                _draw_verdict(record.evaluation)
        if record.gate:
            with card("Gate"):
                draw_gate(workspace, record.gate)
        if (folder / REPORT_PICTURE).is_file():
            with card("Report card"):
                _draw_report_card(workspace, record)
    if found.grids:
        with card("Grids through training"):
            _draw_grids(workspace, found.grids, "the latents are the same in each")
            if (folder / FILM).is_file():
                with Element("p").classes("choices"):
                    link("As a film", picture_url(workspace, folder / FILM))
    if found.reconstructions:
        with card("Reconstructions through training"):
            _draw_grids(workspace, found.reconstructions, "each held-out image is left of its reconstruction")
    if record.evaluation and record.evaluation.grid and Path(record.evaluation.grid).is_file():
        with card("Generated beside real images"):
            image(picture_url(workspace, Path(record.evaluation.grid)), "generated images beside real ones")
    if (folder / SUSPECTS_SHEET).is_file():
        with card("Nearest training images"):
            text(
                "The ten generated images that are likeliest copies, each left of its nearest training image."
            )
            image(picture_url(workspace, folder / SUSPECTS_SHEET), "generated images and training images")
    _draw_curves(found)
    if record.evaluation:
        with card("Metrics"):
            _draw_metrics(record.evaluation)
    _draw_changes(found)


def _draw_report_card(workspace: Workspace, record: RunRecord) -> None:
    folder = run_folder(workspace, record.run_id)
    with Element("a") as around:
        around.props["href"] = picture_url(workspace, folder / REPORT_PICTURE)
        image(picture_url(workspace, folder / REPORT_PICTURE), "the report card", "picture top-part")
    if (folder / REPORT_PAGE).is_file():
        link("Report card as a page", report_url(record.run_id))


def _draw_outcome(found: RunDetails) -> None:
    record, before = found.record, found.before
    with Element("div").classes("pairs"):
        text("state")
        word(record.state)
        if record.reason:
            text("why")
            text(record.reason)
        text("dataset")
        with Element("div").classes("row"):
            link(record.dataset, dataset_url(record.dataset))
            text(record.version[:12], "span", "mono")
        text("began")
        time_of(record.began_at)
        text("training")
        text(took(record.train_s) or "not recorded")
        if record.train:
            text("images seen")
            text(
                f"{record.train.nimg:,} at {record.train.images_per_second:,.0f} images/s on {record.train.device}"
            )
            for note in record.train.notes:
                text("note")
                text(note)
        text("model")
        text(record.model_version or "none registered")
        if before:
            text("continues" if record.continues else "run before")
            link(before, run_url(before))
        text("MLflow run")
        text(record.mlflow_run_id or "none", classes="mono")
        if found.pages:
            text("pages")
            with Element("div").classes("row"):
                for server, page in found.pages.items():
                    link(f"{server} ↗", page).props("target=_blank rel=noopener")


def _draw_verdict(evaluation: Evaluation) -> None:
    word(evaluation.verdict)
    with Element("ul"):
        for sentence in evaluation.evidence:
            text(sentence, "li")
    if evaluation.advice:
        text(f"Next: {evaluation.advice}")


def _draw_grids(workspace: Workspace, grids: list[Grid], about: str) -> None:
    """The grids under a slider, which a button moves; `about` says what they show."""
    last = len(grids) - 1
    shown = image(picture_url(workspace, grids[last].path), "", "picture grid-picture").style(
        "max-width: 48rem"
    )
    label = text("", classes="soft")

    def show(position: float) -> None:
        grid = grids[round(position)]
        shown.props["src"] = picture_url(workspace, grid.path)
        label.text = f"after {grid.nimg:,} images ({round(position) + 1} of {len(grids)}; {about})"
        shown.props["alt"] = f"generated images {label.text}"

    show(last)
    if not last:
        return
    slider = ui.slider(min=0, max=last, step=1, value=last, on_change=lambda event: show(event.value))
    slider.props('aria-label="Grid"').style("max-width: 48rem")

    def step() -> None:
        if slider.value >= last:
            timer.deactivate()
        else:
            slider.value += 1

    def play() -> None:
        slider.value = 0
        timer.activate()

    timer = ui.timer(PLAY_S, step, active=False)
    with Element("div"):
        ui.button("Play", on_click=play).props("outline dense no-caps padding='xs md'")


def _draw_curves(found: RunDetails) -> None:
    charts = [(title, about, present(found.points, names)) for title, about, names in CURVES]
    if not found.points:
        with card("Curves"):
            text("No point of a curve yet: the first one comes after training.log_every_images images.")
        return
    with Element("div").classes("cards"):
        for title, about, names in charts:
            if names:
                with card(title):
                    text(f"{about}; over images seen", classes="soft")
                    curve(found.points, names, zoom=True, classes="chart")


def _draw_metrics(evaluation: Evaluation) -> None:
    plain_table(
        ("metric", "value", "real images score", "what it says"),
        [(name, m.text, number(m.floor), MEANINGS.get(name, "")) for name, m in evaluation.metrics.items()],
    )
    extractors = dict.fromkeys(m.extractor for m in evaluation.metrics.values())
    text(f"Measured with {'; '.join(extractors)}.", classes="soft")


def _draw_changes(found: RunDetails) -> None:
    with card("Settings"):
        if found.before is None:
            text("This is the first run of this dataset.")
        elif not found.changes:
            text(f"The same settings and data as {found.before}: only the code or the packages differ.")
        else:
            with Element("p"):
                text("What differs from ", "span")
                link(found.before, run_url(found.before))
            rows = [(c.name, c.before or "", c.now or "") for c in found.changes]
            plain_table(("setting", "before", "now"), rows)
        every = ui.expansion("All settings").classes("soft")
        with every:
            values = [
                (f"{section}.{k}", str(v))
                for section, part in found.record.settings.items()
                for k, v in part.items()
            ]
            plain_table(("setting", "value"), values)
