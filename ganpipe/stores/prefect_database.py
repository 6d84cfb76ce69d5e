"""Prefect's SQLite database in a workspace, looked at without Prefect: what ran, what runs, what is planned."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ganpipe.compute.process_identity import is_gone
from ganpipe.settings.schedules import describe_timing
from ganpipe.stores.workspace import Workspace, prefect_database, prefect_database_uri

PROCESS_TAG = "process:"  # before the name of the process that executes a flow run
INTERRUPTED = "Interrupted"  # the state of a run that the next `ganpipe up` resumes
UNTAGGED_S = 60.0  # a flow run names its process as soon as it begins
# Flow runs that began, without those inside others.
BEGAN = (
    "SELECT f.id, f.name, f.state_name, s.message, f.start_time, f.end_time, w.name FROM flow_run f "
    "JOIN flow w ON w.id = f.flow_id LEFT JOIN flow_run_state s ON s.id = f.state_id "
    "WHERE f.start_time IS NOT NULL AND f.parent_task_run_id IS NULL"
)
OPEN = "('RUNNING', 'PENDING', 'CANCELLING')"


@dataclass(frozen=True)
class OrphanedRun:
    """A flow run or a task run whose process has ended, and its state type. `deployed`: `ganpipe up` has started it."""

    id: str
    name: str
    state: str
    deployed: bool
    is_task: bool = False


@dataclass(frozen=True)
class FlowRun:
    """A flow run that began: `state` as Prefect names it (Completed, Skipped, Failed, …), and why it is in it.

    `flow`: of which flow, as Prefect names it.
    """

    id: str
    name: str
    state: str
    message: str
    began_at: str  # UTC
    seconds: float | None  # None: it has not ended
    flow: str = ""


@dataclass(frozen=True)
class RunByHand:
    """The flow run of a `ganpipe run`: its id, the processes that have executed it, and its parameters."""

    id: str
    processes: list[str]
    parameters: dict[str, Any]


@dataclass(frozen=True)
class PlannedRun:
    """A flow run that a schedule has planned: of which deployment, and when (UTC).

    `cron`, `interval_s`, `timezone`: of the schedule; None: not set, or it has been deleted since.
    """

    deployment: str
    at: str
    cron: str | None = None
    interval_s: float | None = None
    timezone: str | None = None

    @property
    def timing(self) -> str:
        """When the schedule starts runs, in words; empty if it is not known."""
        known = self.cron or self.interval_s
        return describe_timing(self.cron, self.interval_s, self.timezone) if known else ""


def is_here(workspace: Workspace) -> bool:
    """Whether the Prefect server of this workspace has its database here, where it is read."""
    uri = prefect_database_uri(workspace)
    return os.environ.get("PREFECT_SERVER_DATABASE_CONNECTION_URL", uri) == uri


def latest_flow_runs(workspace: Workspace, count: int) -> list[FlowRun]:
    """The flow runs that began last, the latest first; empty if the workspace's Prefect knows of none."""
    (rows,) = _ask(workspace, f"{BEGAN} ORDER BY f.start_time DESC LIMIT {count:d}")
    return [_flow_run(*row) for row in rows]


def ended_flow_runs(workspace: Workspace, since: datetime, count: int) -> tuple[list[FlowRun], int]:
    """`count` of the flow runs that ended after `since`, and how many those are.

    The latest first, and after all others those that did nothing: skipped, or up to date.
    """
    after = (
        f"{since.astimezone(UTC):%Y-%m-%d %H:%M:%S}"  # as Prefect writes times, which are compared as texts
    )
    rows, counted = _ask(
        workspace,
        f"{BEGAN} AND f.end_time > '{after}' "
        f"ORDER BY f.state_name IN ('Skipped', 'Up to date'), f.end_time DESC LIMIT {count:d}",
        f"SELECT count(*) FROM ({BEGAN} AND f.end_time > '{after}')",  # noqa: S608
    )
    return [_flow_run(*row) for row in rows], counted[0][0] if counted else 0


def _flow_run(
    id: str, name: str, state: str, message: str | None, began: str, ended: str | None, flow: str
) -> FlowRun:
    return FlowRun(str(id), name, state, message or "", _utc(began), _seconds(began, ended), flow)


def latest_run_by_hand(workspace: Workspace) -> RunByHand | None:
    """The `ganpipe run` that began last; None if the workspace's Prefect knows of none."""
    (rows,) = _ask(
        workspace,
        "SELECT r.id, r.tags, r.parameters FROM flow_run r JOIN flow f ON f.id = r.flow_id WHERE f.name = 'ganpipe' "
        "AND r.deployment_id IS NULL AND r.start_time IS NOT NULL ORDER BY r.start_time DESC LIMIT 1",
    )
    found = [RunByHand(str(id), _processes(tags), json.loads(given or "{}")) for id, tags, given in rows]
    return found[0] if found else None


def planned_runs(workspace: Workspace, count: int) -> list[PlannedRun]:
    """The next flow runs of schedules, the earliest first."""
    (rows,) = _ask(
        workspace,
        "SELECT d.name, f.next_scheduled_start_time, s.schedule FROM flow_run f "  # noqa: S608
        "JOIN deployment d ON d.id = f.deployment_id "
        "LEFT JOIN deployment_schedule s ON s.id = json_extract(f.created_by, '$.id') "
        "WHERE f.state_type = 'SCHEDULED' AND f.auto_scheduled AND f.next_scheduled_start_time IS NOT NULL "
        f"AND NOT d.paused ORDER BY f.next_scheduled_start_time LIMIT {count:d}",
    )
    return [PlannedRun(name, _utc(at), *_timing(json.loads(schedule or "{}"))) for name, at, schedule in rows]


def _timing(schedule: dict[str, Any]) -> tuple[str | None, float | None, str | None]:
    return schedule.get("cron"), schedule.get("interval"), schedule.get("timezone")


def _ask(workspace: Workspace, *questions: str) -> list[list[tuple[Any, ...]]]:
    """The answer to each question; empty ones if there is no database, or it cannot be read."""
    path = prefect_database(workspace)
    nothing: list[list[tuple[Any, ...]]] = [[] for _ in questions]
    if not is_here(workspace) or not path.exists():
        return nothing
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as database:
            return [database.execute(question).fetchall() for question in questions]
    except sqlite3.DatabaseError:
        return nothing


def _utc(time: str) -> str:
    """A time of Prefect's database as records have it."""
    return datetime.fromisoformat(time).replace(tzinfo=UTC).isoformat(timespec="seconds")


def _seconds(began: str, ended: str | None) -> float | None:
    if not ended:
        return None
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()


def orphaned_runs(workspace: Workspace, runner_lives: bool) -> list[OrphanedRun]:
    """Flow runs whose process has ended, and task runs at work in flow runs that are not.

    `runner_lives`: a `ganpipe up` may be starting the runs of its deployments right now.
    """
    flows, tasks = _ask(
        workspace,
        f"SELECT id, name, state_type, tags, updated, deployment_id FROM flow_run WHERE state_type IN {OPEN}",  # noqa: S608
        "SELECT t.id, t.name, t.state_type, f.id, f.state_type, f.deployment_id FROM task_run t JOIN flow_run f "  # noqa: S608
        f"ON f.id = t.flow_run_id WHERE t.state_type IN {OPEN}",
    )
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


def _processes(tags: str) -> list[str]:
    """The processes that a flow run's tags name."""
    return [tag.removeprefix(PROCESS_TAG) for tag in json.loads(tags or "[]") if tag.startswith(PROCESS_TAG)]


def _is_orphan(tags: str, updated: str, deployed: bool, runner_lives: bool) -> bool:
    if named := _processes(tags):
        return all(map(is_gone, named))
    if deployed:  # by the runner of an `up`, which has not yet started its process
        return not runner_lives
    age = datetime.now(UTC) - datetime.fromisoformat(updated).replace(tzinfo=UTC)
    return age.total_seconds() > UNTAGGED_S
