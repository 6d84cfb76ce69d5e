"""Runs: a table to filter and sort."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from nicegui import ui

from ganpipe.dashboard.figures import number, took
from ganpipe.dashboard.layout import frame, heading, nothing_yet, text, tone_of
from ganpipe.dashboard.links import run_url
from ganpipe.dashboard.readings import Readings
from ganpipe.files import escape_control
from ganpipe.stages.status import RunStatus

ROWS = 25  # on one page of the table
COLUMNS = (
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
    """The page."""
    status = await readings.status()
    with frame("/runs", status):
        heading("Runs", 1)
        if not status.runs:
            nothing_yet("No run yet. Start one with:", "ganpipe run")
            return
        find = ui.input(placeholder="filter: a dataset, a verdict, a state, a word of why …")
        find.props('clearable dense outlined aria-label="Filter runs"').style(
            "max-width: 30rem; margin-bottom: .6rem"
        )
        columns = [
            {"name": field, "field": field, "label": label, "align": align, "sortable": True}
            for field, label, align in COLUMNS
        ]
        rows = [_row(run) for run in reversed(status.runs)]
        table = ui.table(rows=rows, columns=columns, row_key="run", pagination=ROWS).props("dense")
        table.bind_filter_from(find, "value")
        for field, cell in CELLS.items():
            table.add_slot(f"body-cell-{field}", cell)
        text(
            "kd and energy: distances to held-out images; lower is better. Compare only runs with the same conditions.",
            classes="soft",
        )


def _row(run: RunStatus) -> dict[str, Any]:
    """The fields by which the table sorts and filters, and what it shows of them."""
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
    fields = [field for field, _, _ in COLUMNS]
    return {field: plain[field] for field in fields} | shown
