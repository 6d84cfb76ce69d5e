"""The last 24 hours in three sentences."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from ganpipe.settings.schedules import FLOW_NAMES
from ganpipe.stages.last_day import LastDay, read_last_day, sentence_of
from ganpipe.stores.prefect_database import FlowRun
from ganpipe.stores.workspace import Workspace
from tests.stages.test_status import prefect_database_with

RETRAIN, STYLIZE = FLOW_NAMES["retrain"], FLOW_NAMES["stylize"]


@pytest.mark.parametrize(
    ("state", "message", "flow", "name", "sentence"),
    [
        (
            "Completed",
            "ganpipe-cats v7: good; promoted (energy distance: z 4.1).",
            RETRAIN,
            "cats 2026-11-29 02:00:05",
            "retrain of cats: ganpipe-cats v7: good; promoted (energy distance: z 4.1).",
        ),
        (
            "Failed",
            "1 of 121 images could not be stylized.",
            STYLIZE,
            "cats 2026-11-29 02:41:00",
            "stylizing failed: 1 of 121 images could not be stylized.",
        ),
        (
            "Up to date",
            "Up to date: same data, settings and code as run cats-1.",
            RETRAIN,
            "cats 2026-11-29 03:00:00",
            "retrain of cats up to date: same data, settings and code as run cats-1.",
        ),
        (
            "Skipped",
            "Skipped: run dogs-2 is training.",
            FLOW_NAMES["verify-data"],
            "dogs 2026-11-29 03:00:00",
            "verification of dogs skipped: run dogs-2 is training.",
        ),
        ("Crashed", "", RETRAIN, "cats 2026-11-29 02:00:05", "retrain of cats crashed."),
        ("Completed", "", "somebody's flow", "lively-fox", "lively-fox completed."),
    ],
)
def test_a_run_is_told_by_its_work_its_outcome_and_why(
    state: str, message: str, flow: str, name: str, sentence: str
) -> None:
    assert sentence_of(FlowRun("1", name, state, message, "2026-11-29T02:00:05+00:00", 1.0, flow)) == sentence


def prefect_database_without_runs(workspace: Workspace) -> None:
    """Prefect's database, as far as it is read."""
    prefect_database_with(workspace)
    with closing(sqlite3.connect(workspace.state / "prefect/prefect.db")) as database, database:
        database.execute("DELETE FROM flow_run")


def ended(workspace: Workspace, hours_ago: float, state: str, name: str) -> None:
    """A flow run that ended so long ago and took half an hour."""
    end = datetime.now(UTC) - timedelta(hours=hours_ago)
    begin = end - timedelta(minutes=30)
    with closing(sqlite3.connect(workspace.state / "prefect/prefect.db")) as database, database:
        database.execute(
            "INSERT INTO flow_run (id, name, state_type, state_name, start_time, end_time) VALUES (?, ?, 'x', ?, ?, ?)",
            [
                name,
                f"{name} 2026-11-29 02:00:00",
                state,
                *(f"{t:%Y-%m-%d %H:%M:%S.%f}" for t in (begin, end)),
            ],
        )


def test_three_runs_of_the_last_24_hours_are_told_those_that_did_something_first(
    workspace: Workspace,
) -> None:
    assert read_last_day(workspace) == LastDay([], 0)
    prefect_database_without_runs(workspace)
    assert read_last_day(workspace) == LastDay([], 0)
    ended(workspace, 25, "Failed", "long-ago")
    ended(workspace, 9, "Completed", "night")
    for hours in range(1, 6):
        ended(workspace, hours, "Up to date", f"hour{hours}")
    ended(workspace, 8, "Failed", "later")
    found = read_last_day(workspace)
    assert [told.sentence for told in found.told] == [
        "retrain of night completed.",
        "retrain of later failed.",
        "retrain of hour1 up to date.",
    ]
    assert found.others == 4
    assert found.told[0].began_at < found.told[1].began_at
