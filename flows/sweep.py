"""A sweep as a flow: one task for each trial, one after another."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows import tasks
from flows.artifacts import report_progress
from flows.runs import begin_run, end_if_cancelled
from flows.stops import STOPS, failed_state, stopped_state, task
from flows.works import PLAIN
from ganpipe.console import say
from ganpipe.stages import sweep as stage
from ganpipe.stages.requests import RunRequest
from ganpipe.stages.room import check_room
from ganpipe.stages.sweep import SweepPlan, SweepResult, TrialResult, next_trial, plan_sweep
from ganpipe.stages.train import check_request
from ganpipe.stores.workspace import Workspace


@task(name="train trial", retries=1, retry_delay_seconds=5, retry_condition_fn=tasks.worth_a_retry)
def train_trial(place: Workspace, plan: SweepPlan, number: int, quiet: bool, wait: bool) -> TrialResult:
    with report_progress("train", quiet) as report:
        return stage.run_trial(place, plan, number, report, wait)


@task(name="finish sweep", retries=2, retry_delay_seconds=5, retry_condition_fn=tasks.worth_a_retry)
def finish_sweep(place: Workspace, plan: SweepPlan) -> SweepResult:
    return stage.finish_sweep(place, plan)


def run_trials(place: Workspace, request: RunRequest, trials: int, quiet: bool, wait: bool) -> SweepResult:
    """Trains trials until so many have ended, and reports. Called in a flow."""
    settings = request.settings()
    check_request(settings)
    version = tasks.version_data(place, request.dataset_name(), settings, None, quiet)
    plan = plan_sweep(version, settings, place.params().space, trials)
    check_room(place, version, settings)
    with place.lock(plan.name, 0.0, holder=f"the sweep {plan.name}"):
        while (number := next_trial(place, plan)) is not None:
            say(train_trial(place, plan, number, quiet, wait).sentence())
        return finish_sweep(place, plan)


@flow(name="ganpipe-sweep", **PLAIN)
def sweep(
    workspace: str,
    dataset: str | None = None,
    preset: str | None = None,
    overrides: list[str] | None = None,
    trials: int = 20,
    quiet: bool = False,
    if_busy: str = "wait",
) -> Any:
    """A search over settings; a sweep that was stopped goes on where it was."""
    request = RunRequest(workspace, dataset, preset, overrides or [])
    place = request.open_workspace()
    begin_run(f"sweep {request.dataset_name()}")
    end_if_cancelled(runner=None)
    try:
        return run_trials(place, request, trials, quiet, if_busy == "wait")
    except STOPS as stop:
        return stopped_state(place, stop)
    except Exception as error:
        return failed_state(place, error)
