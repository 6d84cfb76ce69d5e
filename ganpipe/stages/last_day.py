"""The flow runs of the last 24 hours, in three sentences at most."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ganpipe.settings.schedules import FLOW_NAMES
from ganpipe.settings.schema import Work
from ganpipe.stores.prefect_database import FlowRun, ended_flow_runs
from ganpipe.stores.workspace import Workspace

DAY, MOST_SENTENCES = timedelta(hours=24), 3
RUN_NAME = re.compile(r"(\S+) \d{4}-\d\d-\d\d \d\d:\d\d:\d\d")  # the subject and the time, see flows.runs
SUBJECTS: dict[Work, str] = {
    "retrain": "retrain of {}",
    "stylize": "stylizing",
    "evaluate-champion": "evaluation of the champion of {}",
    "verify-data": "verification of {}",
    "gc": "freeing room",
}


@dataclass(frozen=True)
class Told:
    """A flow run in one sentence, and when it began (UTC)."""

    began_at: str
    sentence: str


@dataclass(frozen=True)
class LastDay:
    """Flow runs that ended in the last 24 hours: a sentence for the latest ones, in the order of their beginnings.

    Those that found something to do come first. `others`: how many ended besides.
    """

    told: list[Told]
    others: int


def read_last_day(workspace: Workspace) -> LastDay:
    """The last 24 hours; empty if the workspace's Prefect knows of no flow run."""
    runs, count = ended_flow_runs(workspace, datetime.now(UTC) - DAY, MOST_SENTENCES)
    told = sorted((Told(run.began_at, sentence_of(run)) for run in runs), key=lambda told: told.began_at)
    return LastDay(told, count - len(told))


def sentence_of(run: FlowRun) -> str:
    """Such as "retrain of cats: ganpipe-cats v7: good; promoted." or "retrain of cats failed: The disk is full."."""
    outcome = "" if run.state == "Completed" else f" {run.state.lower()}"
    why = run.message.removeprefix(f"{run.state}: ").rstrip()
    return f"{_subject(run)}{outcome}: {why}" if why else f"{_subject(run)} {run.state.lower()}."


def _subject(run: FlowRun) -> str:
    work = next((work for work, name in FLOW_NAMES.items() if name == run.flow), None)
    named = RUN_NAME.fullmatch(run.name)
    return SUBJECTS[work].format(named[1]) if work and named else run.name
