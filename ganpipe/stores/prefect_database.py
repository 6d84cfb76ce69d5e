"""Prefect's SQLite database in a workspace, looked at without Prefect: which runs say that they are at work?"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from ganpipe.compute.process_identity import is_gone
from ganpipe.stores.workspace import Workspace

PROCESS_TAG = "process:"  # before the name of the process that executes a flow run
INTERRUPTED = "Interrupted"  # the state of a run that the next `ganpipe up` resumes
UNTAGGED_S = 60.0  # a flow run names its process as soon as it begins
OPEN = "('RUNNING', 'PENDING', 'CANCELLING')"


@dataclass(frozen=True)
class OrphanedRun:
    """A flow run or a task run whose process has ended, and its state type. `deployed`: `ganpipe up` has started it."""

    id: str
    name: str
    state: str
    deployed: bool
    is_task: bool = False


def orphaned_runs(workspace: Workspace, runner_lives: bool) -> list[OrphanedRun]:
    """Flow runs whose process has ended, and task runs at work in flow runs that are not.

    `runner_lives`: a `ganpipe up` may be starting the runs of its deployments right now.
    """
    path = workspace.state / "prefect" / "prefect.db"
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as database:
            flows = database.execute(
                f"SELECT id, name, state_type, tags, updated, deployment_id FROM flow_run WHERE state_type IN {OPEN}"  # noqa: S608
            ).fetchall()
            tasks = database.execute(
                "SELECT t.id, t.name, t.state_type, f.id, f.state_type, f.deployment_id FROM task_run t JOIN flow_run f "  # noqa: S608
                f"ON f.id = t.flow_run_id WHERE t.state_type IN {OPEN}"
            ).fetchall()
    except sqlite3.DatabaseError:
        return []
    gone = [
        OrphanedRun(id, name, state, deployment is not None)
        for id, name, state, tags, updated, deployment in flows
        if _is_orphan(tags, updated, deployment is not None, runner_lives)
    ]
    ended = {run.id for run in gone}
    at_work = ("RUNNING", "PENDING", "CANCELLING", "SCHEDULED", "PAUSED")
    return gone + [
        OrphanedRun(id, name, state, deployment is not None, is_task=True)
        for id, name, state, flow, flow_state, deployment in tasks
        if flow in ended or flow_state not in at_work
    ]


def _is_orphan(tags: str, updated: str, deployed: bool, runner_lives: bool) -> bool:
    named = [tag.removeprefix(PROCESS_TAG) for tag in json.loads(tags or "[]") if tag.startswith(PROCESS_TAG)]
    if named:
        return all(map(is_gone, named))
    if deployed:  # by the runner of an `up`, which has not yet started its process
        return not runner_lives
    age = datetime.now(UTC) - datetime.fromisoformat(updated).replace(tzinfo=UTC)
    return age.total_seconds() > UNTAGGED_S
