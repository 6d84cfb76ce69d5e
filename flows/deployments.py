"""The table of what can be scheduled. `python -m flows.deployments` registers every row and executes its runs.

To schedule another flow: add a row. Runs are executed one at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from prefect import Flow
from prefect.exceptions import TerminationSignal
from prefect.flows import EntrypointType
from prefect.runner import Runner
from prefect.schedules import Cron, Schedule

from flows.pipeline import pipeline
from ganpipe.compute.processes import exit_with_parent
from ganpipe.services.timezone import local_timezone
from ganpipe.stages.requests import RunRequest
from ganpipe.stages.served import serve_only


@dataclass(frozen=True)
class Deployment:
    """A row of the table: a flow, and its parameters from the request of `ganpipe up`.

    `scheduled`: it runs at the times of `--cron`.
    """

    name: str
    flow: Flow[..., Any]
    description: str
    parameters: Callable[[RunRequest], dict[str, Any]]
    scheduled: bool = False

    @property
    def full_name(self) -> str:
        """As Prefect names it: FLOW/NAME."""
        return f"{self.flow.name}/{self.name}"


def _pipeline_parameters(request: RunRequest) -> dict[str, Any]:
    return {
        "workspace": request.workspace,
        "dataset": request.dataset,
        "preset": request.preset,
        "overrides": list(request.overrides),
        "quiet": True,
    }


RETRAIN = Deployment(
    "scheduled",
    pipeline,
    "From images to an evaluated, registered model and stylized images.",
    _pipeline_parameters,
    scheduled=True,
)
DEPLOYMENTS: tuple[Deployment, ...] = (RETRAIN,)


def local_schedule(line: str) -> Schedule:
    """A cron line in local time; Prefect's own default is UTC."""
    return Cron(line, timezone=local_timezone())


def main(argv: Sequence[str] | None = None) -> None:
    """Serves every row until SIGTERM, or until its parent is gone."""
    parser = argparse.ArgumentParser()
    for name in ("workspace", "cron", "dataset", "preset"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--may-read", dest="folders", action="append", default=[])
    parser.add_argument("--parent", type=int, required=True, help="the process of `ganpipe up`")
    given = parser.parse_args(argv)
    if os.getppid() != given.parent:
        return  # it has been killed meanwhile
    exit_with_parent(given.parent)
    serve_only(given.workspace, given.folders, given.overrides)
    request = RunRequest(given.workspace, given.dataset or None, given.preset or None, given.overrides)
    runner = Runner(limit=1)
    for row in DEPLOYMENTS:
        # The flow itself, not its address: for an address Prefect would look into the current folder first, and take
        # the steps that load it from its database.
        runner.add_flow(
            row.flow,
            name=row.name,
            schedule=local_schedule(given.cron) if row.scheduled and given.cron else None,
            parameters=row.parameters(request),
            description=row.description,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
    with suppress(KeyboardInterrupt, TerminationSignal):
        asyncio.run(runner.start())


if __name__ == "__main__":
    main()
