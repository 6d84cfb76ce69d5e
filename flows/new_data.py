"""Runs that a new dataset version starts, if the rule of the section `watch` says so."""

from __future__ import annotations

from datetime import datetime

from flows.runs import call_prefect
from flows.turns import Skipped
from ganpipe.settings.schedules import ON_NEW_DATA
from ganpipe.stages.requests import RunRequest
from ganpipe.stores.workspace import Workspace

DEPLOYMENT = f"ganpipe/{ON_NEW_DATA}"


def require_worth(workspace: Workspace, request: RunRequest) -> None:
    """Ends a run that is not worth it yet; one that is only too early is planned for its time, once.

    Raises:
        Skipped: it is not; the message is what `ganpipe status` says.
    """
    from ganpipe.stages.retraining import decide

    dataset = request.dataset_name()
    decision = decide(workspace, dataset, request.watch())
    if decision.worth:
        return
    if decision.not_before:
        plan_run(datetime.fromisoformat(decision.not_before), f"{dataset} after {decision.started}")
    raise Skipped(decision.reason)


def start_missed(up_started: str) -> None:
    """Starts a run for data that came while no `ganpipe up` ran, once for each `up`; it is skipped if there are none."""
    plan_run(None, f"up {up_started}")


def plan_run(at: datetime | None, key: str) -> None:
    """Asks for a run at a time, or now; a second one with the same key is the same run."""
    from prefect.deployments import run_deployment

    call_prefect(
        lambda: run_deployment(
            DEPLOYMENT, scheduled_time=at, timeout=0, as_subflow=False, idempotency_key=key
        )
    )
