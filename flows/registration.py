"""Earlier deployments of this workspace on Prefect's server, and what becomes of their runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Schedule
from prefect.states import Completed, Scheduled

from flows.works import SKIPPED
from ganpipe.console import say
from ganpipe.stores.prefect_database import INTERRUPTED

LATE_S = 60.0
PAGE = 200


@dataclass(frozen=True)
class Registration:
    """A deployment as the last `ganpipe up` has left it."""

    deployment: DeploymentResponse

    @property
    def paused(self) -> bool:
        """Whether somebody has paused all of it."""
        return bool(self.deployment.paused)

    def is_active(self, schedule: Schedule) -> bool:
        """Whether the schedule of this name was not paused by somebody."""
        return all(known.active for known in self.deployment.schedules if known.slug == schedule.slug)

    def prepare(self, schedule: Schedule | None) -> None:
        """Deletes what belongs to another schedule than this one: the schedules, and the runs that wait for their time."""
        others = [known for known in self.deployment.schedules if _differs(known.schedule, schedule)]
        if not others:
            return
        with get_client(sync_client=True) as client:
            for run in _find_runs([self.deployment.id], types=[StateType.SCHEDULED]):
                if run.auto_scheduled:
                    client.delete_flow_run(run.id)
            for known in others:
                if schedule is None or known.slug != schedule.slug:
                    client.delete_deployment_schedule(self.deployment.id, known.id)


def _differs(known: Any, schedule: Schedule | None) -> bool:
    names = ("cron", "interval", "timezone")
    return schedule is None or any(
        getattr(known, name, None) != getattr(schedule, name, None) for name in names
    )


def read_registration(full_name: str) -> Registration | None:
    """The deployment called FLOW/NAME, if there is one."""
    with get_client(sync_client=True) as client:
        try:
            return Registration(client.read_deployment_by_name(full_name))
        except ObjectNotFound:
            return None


def close_registrations(flows: Sequence[str], kept: Sequence[UUID]) -> None:
    """Deletes the deployments of these flows that nobody asks for any more, with the runs that wait for their time."""
    with get_client(sync_client=True) as client:
        found = client.read_deployments(flow_filter=FlowFilter(name=FlowFilterName(any_=list(flows))))
        for deployment in found:
            if deployment.id not in kept:
                client.delete_deployment(deployment.id)


def skip_overdue(deployments: Sequence[UUID]) -> None:
    """Of the runs whose time has passed while no `ganpipe up` ran, the latest of each deployment catches up."""
    before = datetime.now(UTC) - timedelta(seconds=LATE_S)
    for deployment in deployments:
        late = [
            run
            for run in _find_runs([deployment], types=[StateType.SCHEDULED])
            if run.auto_scheduled and run.expected_start_time and run.expected_start_time < before
        ]
        late.sort(key=lambda run: str(run.expected_start_time))
        if late:
            say(f"{len(late)} run(s) came due while `ganpipe up` did not run; one of them catches up.")
        for run in late[:-1]:
            why = "Skipped: `ganpipe up` did not run; the latest of the runs that it missed catches up."
            _set_state(run, Completed(name=SKIPPED, message=why))


def resume_interrupted(deployments: Sequence[UUID]) -> None:
    """Runs that ended because `ganpipe up` or its machine was stopped are started again, now."""
    for run in _find_runs(deployments, names=[INTERRUPTED]):
        say(f"Run {run.name} was interrupted and is resumed.")
        _set_state(run, Scheduled(name="Resuming", message="`ganpipe up` runs again."))


def _set_state(run: FlowRun, state: Any) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, state, force=True)


def _find_runs(
    deployments: Sequence[UUID],
    types: list[StateType] | None = None,
    names: list[str] | None = None,
) -> list[FlowRun]:
    state = FlowRunFilterState(
        type=FlowRunFilterStateType(any_=types) if types else None,
        name=FlowRunFilterStateName(any_=names) if names else None,
    )
    return list(_pages(FlowRunFilter(state=state), list(deployments)))


def _pages(wanted: FlowRunFilter, deployments: list[UUID]) -> Iterator[FlowRun]:
    with get_client(sync_client=True) as client:
        offset = 0
        while page := client.read_flow_runs(
            flow_run_filter=wanted,
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=deployments)),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=PAGE,
            offset=offset,
        ):
            yield from page
            offset += len(page)
