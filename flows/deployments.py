"""The deployments of `ganpipe up`: for runs by hand, for the gallery, for new data, and one for each schedule.

`python -m flows.deployments` registers them, resumes what was interrupted, and executes their runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from prefect import Flow, schedules
from prefect.events import DeploymentEventTrigger, DeploymentTriggerTypes, TriggerTypes
from prefect.exceptions import TerminationSignal
from prefect.flows import EntrypointType

from flows.killed import resume_killed
from flows.new_data import start_missed
from flows.registration import close_registrations, read_registration, resume_interrupted, skip_overdue
from flows.runner import PatientRunner
from flows.works import evaluate_champion, free_room, retrain, stylize_settings, verify_data
from ganpipe.compute.process_identity import start_time
from ganpipe.compute.processes import exit_with_parent
from ganpipe.services.recovery import close_orphans
from ganpipe.services.timezone import local_timezone
from ganpipe.settings.events import UPDATED, resource_id
from ganpipe.settings.schedules import BY_HAND, FROM_GALLERY, ON_NEW_DATA, Schedule
from ganpipe.settings.schema import Work
from ganpipe.stages.requests import RunRequest
from ganpipe.stages.served import serve_only
from ganpipe.stores.workspace import Workspace

FLOWS: dict[Work, Flow[..., Any]] = {
    "retrain": retrain,
    "stylize": stylize_settings,
    "evaluate-champion": evaluate_champion,
    "verify-data": verify_data,
    "gc": free_room,
}
ANCHOR = (2024, 1, 1)  # intervals are counted from this midnight: a restart of `ganpipe up` shifts none


@dataclass(frozen=True)
class Deployment:
    """A flow, the parameters of its runs, and when it runs: by a schedule, by an event of a dataset, or only by hand."""

    name: str
    flow: Flow[..., Any]
    parameters: dict[str, Any]
    schedule: schedules.Schedule | None = None
    updated_dataset: str | None = None

    @property
    def full_name(self) -> str:
        """As Prefect names it: FLOW/NAME."""
        return f"{self.flow.name}/{self.name}"

    def triggers(self) -> list[DeploymentTriggerTypes | TriggerTypes]:
        """The events that start a run, whoever sends them."""
        if self.updated_dataset is None:
            return []
        name = self.updated_dataset
        return [
            DeploymentEventTrigger(
                name=f"{name} has a new version",
                expect={UPDATED},
                match={"prefect.resource.id": resource_id(name)},
            )
        ]


def deployments_of(
    request: RunRequest, wanted: Sequence[Schedule], on_new_data: bool = False
) -> list[Deployment]:
    """A deployment for each schedule, one for runs by hand, one for what the gallery asks for, and one for runs that new data
    start, if they do."""
    found = [
        Deployment(
            schedule.name,
            FLOWS[schedule.work],
            _parameters(request, schedule),
            prefect_schedule(schedule),
        )
        for schedule in wanted
    ]
    by_hand = Deployment(BY_HAND, retrain, _parameters(request, Schedule(BY_HAND)))
    if on_new_data:
        parameters = by_hand.parameters | {"if_busy": "next", "by_rule": True}
        found.append(Deployment(ON_NEW_DATA, retrain, parameters, updated_dataset=request.dataset_name()))
    for_gallery = _parameters(request, Schedule(FROM_GALLERY, work="stylize")) | {"if_busy": "wait"}
    found.append(Deployment(FROM_GALLERY, stylize_settings, for_gallery))
    return found if by_hand.full_name in [row.full_name for row in found] else [by_hand, *found]


def _parameters(request: RunRequest, schedule: Schedule) -> dict[str, Any]:
    found: dict[str, Any] = {
        "workspace": request.workspace,
        "dataset": schedule.dataset or request.dataset,
        "preset": request.preset,
        "overrides": list(request.with_overrides(schedule.overrides).overrides),
        "if_busy": "skip",
    }
    return found | ({"quiet": True} if schedule.work == "retrain" else {})


def prefect_schedule(schedule: Schedule, active: bool = True) -> schedules.Schedule:
    """A schedule in its time zone, or in local time; Prefect's own default is UTC."""
    zone = schedule.timezone or local_timezone()
    if schedule.cron:
        return schedules.Cron(schedule.cron, timezone=zone, active=active, slug=schedule.name)
    return schedules.Interval(
        timedelta(seconds=schedule.interval_s or 0),
        anchor_date=datetime(*ANCHOR, tzinfo=ZoneInfo(zone)),
        timezone=zone,
        active=active,
        slug=schedule.name,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Serves every deployment until SIGTERM, or until its parent is gone."""
    parser = argparse.ArgumentParser()
    for name in ("workspace", "dataset", "preset"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--schedule", dest="schedules", action="append", default=[], help="as JSON")
    parser.add_argument("--may-read", dest="folders", action="append", default=[])
    parser.add_argument("--on-new-data", action="store_true")
    parser.add_argument("--parent", type=int, required=True, help="the process of `ganpipe up`")
    given = parser.parse_args(argv)
    if os.getppid() != given.parent:
        return  # it has been killed meanwhile
    exit_with_parent(given.parent)
    request = RunRequest(given.workspace, given.dataset or None, given.preset or None, given.overrides)
    wanted = [Schedule(**json.loads(text)) for text in given.schedules]
    own = [*given.overrides, *(override for schedule in wanted for override in schedule.overrides)]
    serve_only(given.workspace, given.folders, own, given.parent)
    close_orphans(Workspace(Path(given.workspace)))
    runner = PatientRunner()
    rows = deployments_of(request, wanted, given.on_new_data)
    registered = [register(runner, row) for row in rows]
    close_registrations([flow.name for flow in FLOWS.values()], registered)
    skip_overdue(registered)
    resume_interrupted(registered)
    resume_killed(Workspace(Path(given.workspace)))
    if given.on_new_data:
        start_missed(f"{given.parent} {start_time(given.parent)}")
    with suppress(KeyboardInterrupt, TerminationSignal):
        asyncio.run(runner.start())


def register(runner: PatientRunner, row: Deployment) -> Any:
    """Registers a deployment and returns its id. What somebody has paused in Prefect stays paused."""
    earlier = read_registration(row.full_name)
    if earlier is not None:
        earlier.prepare(row.schedule)
    schedule = row.schedule
    if schedule and earlier and not earlier.is_active(schedule):
        schedule = schedules.Schedule(**{**vars(schedule), "active": False})
    # The flow itself, not its address: for an address Prefect would look into the current folder first, and take
    # the steps that load it from its database.
    return runner.add_flow(
        row.flow,
        name=row.name,
        schedule=schedule,
        paused=earlier.paused if earlier else None,
        parameters=row.parameters,
        description=row.flow.description,
        entrypoint_type=EntrypointType.MODULE_PATH,
        triggers=row.triggers(),
    )


if __name__ == "__main__":
    main()
