"""Runs: a table to sort, and a filter for each column."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from nicegui import ui
from nicegui.element import Element

from ganpipe.dashboard.figures import number, took
from ganpipe.dashboard.layout import banner, card, frame, heading, link, nothing_yet, text, tone_of
from ganpipe.dashboard.links import run_url
from ganpipe.dashboard.readings import Readings
from ganpipe.files import escape_control
from ganpipe.stages.run_filter import ANY, COLUMNS, Column, asked_of, choices_of, filter_runs, not_numbers
from ganpipe.stages.status import RunStatus

RUNS_PATH = "/runs"
ROWS = 25  # on one page of the table
SHOWN_COLUMNS = (
    ("run", "run", "left"),
    ("began_at", "began", "left"),
    ("dataset", "dataset", "left"),
    ("version", "version", "left"),
    ("model", "network", "left"),
    ("state", "state", "left"),
    ("verdict", "verdict", "left"),
    ("gate", "outcome", "left"),
    ("kd", "kd", "right"),
    ("energy", "energy", "right"),
    ("train_s", "training", "right"),
    ("reason", "why", "left"),
    ("model_version", "model", "left"),
    ("conditions", "conditions", "left"),
)
# Vue escapes what stands in {{ }}.
CELLS = {
    "run": '<q-td :props="props"><a :href="props.row.url">{{ props.value }}</a></q-td>',
    "began_at": '<q-td :props="props"><time v-if="props.value" :datetime="props.value">{{ props.value }}</time></q-td>',
    "state": '<q-td :props="props"><span :class="\'strong \' + props.row.state_tone">{{ props.value }}</span></q-td>',
    "verdict": '<q-td :props="props"><span :class="\'strong \' + props.row.verdict_tone">{{ props.value }}</span></q-td>',
    "gate": '<q-td :props="props"><span :class="\'strong \' + props.row.gate_tone">{{ props.value }}</span></q-td>',
    "kd": '<q-td :props="props">{{ props.row.kd_text }}</q-td>',
    "energy": '<q-td :props="props">{{ props.row.energy_text }}</q-td>',
    "train_s": '<q-td :props="props">{{ props.row.train_text }}</q-td>',
    "reason": '<q-td :props="props"><div class="why">{{ props.value }}</div></q-td>',
}


async def draw(readings: Readings) -> None:
    """The page; the filters stand in its address, so that a link shows the same runs."""
    asked = asked_of(ui.context.client.request.query_params)
    status = await readings.status()
    with frame("/runs", status):
        heading("Runs", 1)
        if not status.runs:
            nothing_yet("No run yet. Start one with:", "ganpipe run")
            return
        for sentence in not_numbers(asked):
            banner(sentence)
        found = filter_runs(status.runs, asked)
        _draw_filters(status.runs, asked)
        _draw_count(len(found), len(status.runs), asked)
        if found:
            _draw_table(found)


def _draw_filters(runs: list[RunStatus], asked: dict[str, str]) -> None:
    """A form that the browser sends as the page's address."""
    with Element("form").classes("filters").props(f"method=get action={RUNS_PATH}"):
        with Element("div").classes("row"):
            _draw_field("any column", ANY, asked, classes="grows").props('type=search placeholder="a word"')
            Element("input").props("type=submit value=Filter")
            if asked:
                link("Show all", RUNS_PATH)
        with Element("details") as more:
            more.props["open"] = any(name != ANY for name in asked)
            text("Filter by column", "summary")
            with Element("div").classes("fields"):
                for column in COLUMNS:
                    _draw_column(column, runs, asked)


def _draw_column(column: Column, runs: list[RunStatus], asked: dict[str, str]) -> None:
    if column.kind == "choice":
        _draw_choice(column, choices_of(column, runs), asked.get(column.name, ""))
    elif column.kind == "text":
        _draw_field(f"{column.name} contains", column.name, asked)
    else:
        least, most = column.parameters
        with Element("div").classes("bounds"):
            _draw_field(f"{column.name} from", least, asked).props("type=number step=any")
            _draw_field(f"{column.name} to", most, asked).props("type=number step=any")


def _draw_field(label: str, name: str, asked: dict[str, str], classes: str = "") -> Element:
    with Element("label").classes(classes):
        text(label, "span", "soft")
        field = Element("input")
        field.props["name"], field.props["value"] = name, asked.get(name, "")
    return field


def _draw_choice(column: Column, choices: list[str], chosen: str) -> None:
    with Element("label"):
        text(column.name, "span", "soft")
        with Element("select") as select:
            select.props["name"] = column.name
            for value in dict.fromkeys(["", *choices, chosen]):
                option = text(value or "all", "option")
                option.props["value"], option.props["selected"] = value, value == chosen


def _draw_count(found: int, of_all: int, asked: dict[str, str]) -> None:
    if found:
        runs = "run" if of_all == 1 else "runs"
        text(f"{found:,} of {of_all:,} {runs}" if asked else f"{of_all:,} {runs}", classes="soft")
        return
    with card():
        text("No run fits all of these filters. Change one of them, or clear them:")
        link(f"Show all {of_all:,} runs", RUNS_PATH)


def _draw_table(runs: list[RunStatus]) -> None:
    columns = [
        {"name": field, "field": field, "label": label, "align": align, "sortable": True}
        for field, label, align in SHOWN_COLUMNS
    ]
    rows = [_row(run) for run in reversed(runs)]
    table = ui.table(rows=rows, columns=columns, row_key="run", pagination=ROWS).props("dense")
    for field, cell in CELLS.items():
        table.add_slot(f"body-cell-{field}", cell)
    text(
        "kd and energy: distances to held-out images; lower is better. Compare only runs with the same conditions.",
        classes="soft",
    )


def _row(run: RunStatus) -> dict[str, Any]:
    """The fields by which the table sorts, and what it shows of them."""
    plain = {k: escape_control(v) if isinstance(v, str) else v for k, v in asdict(run).items()}
    shown = {
        "url": run_url(run.run),
        "state_tone": tone_of(run.state),
        "version": escape_control(run.version[:8]),
        "gate_tone": tone_of(run.gate or ""),
        "verdict_tone": tone_of(run.verdict or ""),
        "kd_text": number(run.kd),
        "energy_text": number(run.energy),
        "train_text": took(run.train_s),
        "model_version": escape_control(f"{run.model_version or ''}{', champion' if run.champion else ''}"),
    }
    fields = [field for field, _, _ in SHOWN_COLUMNS]
    return {field: plain[field] for field in fields} | shown
