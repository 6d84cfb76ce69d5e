"""Leftovers of killed processes are settled by the next command that starts work: of everything that it began and did
not end, nothing stays at work, and nothing that lives is touched.

Looking costs milliseconds and imports neither Prefect nor MLflow; they are imported if there is something to settle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ganpipe.compute.process_identity import is_gone
from ganpipe.console import say
from ganpipe.errors import GanpipeError
from ganpipe.services.notifications import Notification, notify
from ganpipe.stores.addresses import running_servers, up_file
from ganpipe.stores.leftovers import delete_leftover, find_leftovers
from ganpipe.stores.mlflow_database import database_damage, is_elsewhere, open_runs, relocate_artifacts
from ganpipe.stores.prefect_database import (
    INTERRUPTED,
    OrphanedRun,
    RunByHand,
    latest_run_by_hand,
    orphaned_runs,
)
from ganpipe.stores.run_records import (
    DOCTOR,
    PENDING,
    RunRecord,
    RunRecords,
    all_records,
    read_records,
    run_folder,
    save_record,
)
from ganpipe.stores.workspace import Workspace, mlflow_database, tracks_here

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


@dataclass(frozen=True)
class Finding:
    """Something that a killed process or a damage has left: what it is, and what settles it."""

    kind: str
    what: str
    action: str
    settle: Callable[[], object] = field(repr=False, compare=False)
    at_once: bool = True  # False: only by `ganpipe doctor --fix`, or by the command that needs it


def find_unsettled(workspace: Workspace, prefect: bool = True) -> list[Finding]:
    """Everything that is left, in the order in which it is settled. `prefect`: its flow runs, too."""
    if not workspace.state.is_dir():
        return []
    records = read_records(workspace)
    return [
        *_find_database(workspace, records.whole),
        *_find_records(workspace, records),
        *_find_undelivered(workspace, records.whole),
        *_find_mlflow_runs(workspace, records.whole),
        *(_find_flow_runs(workspace) if prefect else []),
        *_find_files(workspace, records.whole),
    ]


def recover(workspace: Workspace, prefect: bool = True) -> None:
    """Settles what is left by processes that have ended, and says so."""
    if not any(finding.at_once for finding in find_unsettled(workspace, prefect)):
        return
    with workspace.lock("recovery", say=say):
        settle([f for f in find_unsettled(workspace, prefect) if f.at_once])


def settle(findings: Sequence[Finding]) -> list[Finding]:
    """Settles each of them and says so; returns those that could not be settled."""
    left = []
    for finding in findings:
        try:
            finding.settle()
        except Exception as error:  # one that cannot be settled must not keep the others, or the command
            say(f"{finding.what}: {finding.action} failed ({' '.join(str(error).split())[:300]}).")
            left.append(finding)
        else:
            say(f"{finding.what}: {finding.action}.")
    return left


def _find_database(workspace: Workspace, records: list[RunRecord]) -> list[Finding]:
    """MLflow's database: damaged, gone, or of an earlier place of the workspace."""
    path = mlflow_database(workspace)
    if not tracks_here(workspace):
        return []
    tracked = [r for r in records if r.mlflow_run_id and r.state == "finished"]
    again = f"begun again with {len(tracked)} finished run(s)"
    if damage := database_damage(path):
        return [
            Finding(
                "mlflow database",
                f"{path} is damaged ({damage})",
                f"set aside, and {again}",
                partial(_begin_again, workspace, tracked),
            )
        ]
    if tracked and not path.exists():
        return [
            Finding("mlflow database", f"{path} is missing", again, lambda: _restore_all(workspace, tracked))
        ]
    if is_elsewhere(workspace):
        return [
            Finding(
                "moved workspace",
                "MLflow's artifacts were in another place",
                "found here",
                partial(relocate_artifacts, workspace),
            )
        ]
    return []


def _begin_again(workspace: Workspace, records: list[RunRecord]) -> None:
    _set_aside(mlflow_database(workspace))
    _restore_all(workspace, records)


def _set_aside(path: Path) -> None:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ("", "-wal", "-shm", "-journal"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(path.with_name(f"{path.name}.damaged-{stamp}{suffix}"))


def _restore_all(workspace: Workspace, records: list[RunRecord]) -> None:
    from ganpipe.stages.restore import restore_in_mlflow

    for record in records:
        restore_in_mlflow(workspace, record)


def _find_records(workspace: Workspace, records: RunRecords) -> list[Finding]:
    """Records that are damaged, and those of trainings whose process has ended."""
    damaged = [
        Finding(
            "run record",
            sentence.removesuffix(DOCTOR).rstrip(" ."),
            "rebuilt from MLflow",
            partial(_rebuild, workspace, run),
            at_once=False,
        )
        for run, sentence in records.damaged.items()
    ]
    ended = [
        Finding(
            "training",
            f"The process of run {record.run_id} has ended",
            "marked as interrupted; the same command resumes it",
            partial(_interrupt, workspace, record),
        )
        for record in records.whole
        if record.state == "running" and is_gone(record.process)
    ]
    return damaged + ended


def _rebuild(workspace: Workspace, run: str) -> None:
    from ganpipe.stages.restore import restore_record

    restore_record(workspace, run)


def _interrupt(workspace: Workspace, record: RunRecord) -> None:
    from ganpipe.stores.outbox import Outbox

    record = save_record(workspace, replace(record, state="interrupted"))
    if record.mlflow_run_id:
        Outbox(workspace, record).training("interrupted")


def _find_undelivered(workspace: Workspace, records: list[RunRecord]) -> list[Finding]:
    return [
        Finding(
            "undelivered",
            f"MLflow has not heard all of run {record.run_id}",
            "delivered",
            partial(_deliver, workspace, record),
        )
        for record in records
        if record.state != "running" and (run_folder(workspace, record.run_id) / PENDING).exists()
    ]


def _deliver(workspace: Workspace, record: RunRecord) -> None:
    from ganpipe.stores.outbox import Outbox

    if not Outbox(workspace, record).deliver():
        raise GanpipeError("MLflow cannot be reached; it waits in the run folder")


def _find_mlflow_runs(workspace: Workspace, records: list[RunRecord]) -> list[Finding]:
    """MLflow's runs that say RUNNING, and whose process has ended."""
    states = {record.mlflow_run_id: record.state for record in records}
    return [
        Finding(
            "mlflow run",
            f"MLflow's run {run.run_id} says RUNNING and its process has ended",
            "closed",
            partial(_close, workspace, run.run_id, states.get(run.run_id, "interrupted")),
        )
        for run in open_runs(workspace)
        if states.get(run.run_id) != "running" and is_gone(run.process)
    ]


def _close(workspace: Workspace, run_id: str, state: str) -> None:
    from ganpipe.stores.mlflow_runs import Tracker

    Tracker(workspace).end(run_id, state)


def _find_flow_runs(workspace: Workspace) -> list[Finding]:
    orphans = orphaned_runs(workspace, up_file(workspace).exists() and running_servers(workspace) is not None)
    flows = sum(not run.is_task for run in orphans)
    if not orphans:
        return []
    return [
        Finding(
            "flow runs",
            f"{flows} flow run(s) and {len(orphans) - flows} task run(s) of Prefect have lost their process",
            "closed",
            lambda: _settle_with_server(workspace, orphans),
        )
    ]


def _settle_with_server(workspace: Workspace, orphans: list[OrphanedRun]) -> None:
    from ganpipe.services.prefect import prefect_api

    with prefect_api(workspace):
        _close_orphans(workspace, orphans)


def close_orphans(workspace: Workspace) -> int:
    """Closes the orphaned runs of this workspace's Prefect; returns how many flow runs these are.

    Called by the runner of `ganpipe up`, where no other is at work.
    """
    orphans = orphaned_runs(workspace, runner_lives=False)
    if orphans:
        _close_orphans(workspace, orphans)
    return sum(not run.is_task for run in orphans)


def _close_orphans(workspace: Workspace, orphans: list[OrphanedRun]) -> None:
    """Runs that `ganpipe up` has started become Interrupted: the next one resumes them. Others have crashed, and that is
    told."""
    from uuid import UUID

    from prefect import get_client

    with get_client(sync_client=True) as client:
        for run in orphans:
            change = client.set_task_run_state if run.is_task else client.set_flow_run_state
            state = _last_state(run)
            change(UUID(run.id), state, force=True)
            if state.is_crashed() and not run.is_task:
                sentence = f"Flow run {run.name} crashed: {state.message}"
                notify(workspace, Notification(("crashed",), run.name, sentence))


def _last_state(run: OrphanedRun) -> State[object]:
    from prefect.states import Cancelled, Crashed

    message = "The process was gone when ganpipe started again."
    if run.state == "CANCELLING":
        return Cancelled(message=message)
    return Cancelled(name=INTERRUPTED, message=message) if run.deployed else Crashed(message=message)


@dataclass(frozen=True)
class KilledTraining:
    """An unfinished training, and the `ganpipe run` whose process was killed or stopped by its machine."""

    run: str
    asked_by: RunByHand


def find_killed_training(workspace: Workspace) -> KilledTraining | None:
    """The training of the last `ganpipe run`, if that was killed and nobody has resumed it.

    One that a person has stopped with Ctrl-C is cancelled, and an older one has been left for other work: None.
    """
    latest = latest_run_by_hand(workspace)
    if latest is None:
        return None
    for record in all_records(workspace):
        if record.state == "interrupted" and record.process in latest.processes:
            return KilledTraining(record.run_id, latest)
    return None


def _find_files(workspace: Workspace, records: list[RunRecord]) -> list[Finding]:
    live = {r.run_id for r in records if r.state == "running" and not is_gone(r.process)}
    return [
        Finding("file", f"{path} was left half done", "deleted", partial(delete_leftover, path))
        for path in find_leftovers(workspace, live)
    ]
