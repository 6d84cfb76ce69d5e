"""The flows that can be scheduled, one for each kind of work.

The runner holds them at rest, so that each imports its stages, and with them torch and MLflow, when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prefect import State, flow
from prefect.states import Completed, Failed

from flows.killed import require_same
from flows.new_data import require_worth
from flows.notices import tell_crash, tell_evaluation, tell_failure, tell_result
from flows.runs import begin_run, deployment_name, end_if_cancelled, is_resumed, is_scheduled
from flows.stops import STOPS, failed_state, stopped_state
from flows.turns import Skipped, take_turn
from ganpipe.compute.locks import Busy
from ganpipe.errors import GanpipeError
from ganpipe.settings.schedules import FLOW_NAMES
from ganpipe.settings.schema import Work
from ganpipe.stages.requests import RunRequest
from ganpipe.stages.served import runner_process
from ganpipe.stores.run_results import RunResult
from ganpipe.stores.successes import note_success
from ganpipe.stores.workspace import Workspace

UP_TO_DATE, SKIPPED = "Up to date", "Skipped"
PLAIN: dict[str, Any] = {
    "log_prints": False,
    "validate_parameters": False,
    "persist_result": False,
    "on_crashed": [tell_crash],
}


@dataclass(frozen=True)
class Ended:
    """The outcome of a work: its result, and the name and the sentence of the flow run's state."""

    data: Any
    name: str = "Completed"
    message: str = ""


@flow(name=FLOW_NAMES["retrain"], **PLAIN)
def retrain(
    workspace: str,
    dataset: str | None = None,
    preset: str | None = None,
    overrides: list[str] | None = None,
    source: str | None = None,
    quiet: bool = False,
    if_busy: str = "wait",
    by_rule: bool = False,
    killed_run: str = "",
) -> Any:
    """From images to an evaluated, registered model and stylized images; "up to date" if all of it exists.

    `killed_run`: the run that it should resume; it is skipped if it would train another one.
    """
    request = RunRequest(workspace, dataset, preset, overrides or [], source)

    def work(place: Workspace) -> Ended:
        if by_rule:
            require_worth(place, request)
        if killed_run:
            require_same(place, request, killed_run)
        from ganpipe.stages.run import find_up_to_date

        if not source and (result := find_up_to_date(place, request)):
            return up_to_date(result)
        from flows.pipeline import run_pipeline  # and with it MLflow and SciPy

        result = run_pipeline(place, request, quiet, if_busy == "wait", resumes=not is_scheduled())
        if result.state == "up_to_date":
            return up_to_date(result)
        tell_result(place, result)
        return Ended(result, message=result.sentence())

    return run_alone("retrain", request, if_busy, work)


def up_to_date(result: RunResult) -> Ended:
    """There was nothing to do."""
    return Ended(result, UP_TO_DATE, f"Up to date: same data, settings and code as run {result.run}.")


@flow(name=FLOW_NAMES["stylize"], **PLAIN)
def stylize_settings(
    workspace: str,
    dataset: str | None = None,
    preset: str | None = None,
    overrides: list[str] | None = None,
    if_busy: str = "wait",
) -> Any:
    """Stylizes the contents of the settings in their styles; images that exist already are skipped."""
    request = RunRequest(workspace, dataset, preset, overrides or [])

    def work(place: Workspace) -> Ended:
        from flows import tasks
        from flows.stylize import stylize_batch
        from ganpipe.stages.stylize import style_job

        job = style_job(place, request.settings())
        styled = stylize_batch(job, spread=False, quiet=True)
        if not styled.done and not styled.failed:
            return Ended(styled, UP_TO_DATE, f"Up to date: all {styled.skipped} images exist in {job.out}.")
        if styled.done:
            tasks.log_batch_run(job, styled)
        if styled.failed:
            raise GanpipeError(f"{styled.failed} of {len(styled.items)} images could not be stylized.")
        return Ended(styled, message=f"{styled.done} images stylized into {job.out}.")

    return run_alone("stylize", request, if_busy, work)


@flow(name=FLOW_NAMES["evaluate-champion"], **PLAIN)
def evaluate_champion(
    workspace: str,
    dataset: str | None = None,
    preset: str | None = None,
    overrides: list[str] | None = None,
    if_busy: str = "wait",
) -> Any:
    """Judges the dataset's champion again, with the settings and the code of now."""
    request = RunRequest(workspace, dataset, preset, overrides or [])

    def work(place: Workspace) -> Ended:
        from flows import tasks

        judged = tasks.evaluate_champion(place, request.dataset_name(), request.settings())
        tell_evaluation(place, judged.record, judged.evaluation)
        return Ended(judged.evaluation, message=f"Run {judged.record.run_id}: {judged.evaluation.verdict}.")

    return run_alone("evaluate-champion", request, if_busy, work)


@flow(name=FLOW_NAMES["verify-data"], **PLAIN)
def verify_data(
    workspace: str,
    dataset: str | None = None,
    preset: str | None = None,
    overrides: list[str] | None = None,
    if_busy: str = "wait",
) -> Any:
    """Hashes every byte of a dataset, and brings back what is damaged."""
    request = RunRequest(workspace, dataset, preset, overrides or [])

    def work(place: Workspace) -> Ended:
        from flows import tasks

        name = request.dataset_name()
        found = tasks.verify_data(place, name, request.settings())
        if found.lost:
            raise GanpipeError(
                f"{name}: {len(found.lost)} images are damaged or missing, neither in DVC's cache nor in a remote; "
                f"`ganpipe data verify {name}` names them."
            )
        repaired = f"{len(found.repaired)} damaged files were brought back" if found.repaired else ""
        return Ended(found, message=f"{name}: {repaired or 'every byte is as it was added'}.")

    return run_alone("verify-data", request, if_busy, work)


@flow(name=FLOW_NAMES["gc"], **PLAIN)
def free_room(
    workspace: str,
    dataset: str | None = None,
    preset: str | None = None,
    overrides: list[str] | None = None,
    if_busy: str = "wait",
) -> Any:
    """Deletes what the workspace can do without, as `ganpipe gc` does."""
    request = RunRequest(workspace, dataset, preset, overrides or [])

    def work(place: Workspace) -> Ended:
        from flows import tasks

        freed = tasks.collect(place, request.settings())
        return Ended(None, message=f"{freed.bytes / 2**20:,.1f} MiB freed. {' '.join(freed.notes)}".rstrip())

    return run_alone("gc", request, if_busy, work)


def run_alone(work: Work, request: RunRequest, if_busy: str, do: Callable[[Workspace], Ended]) -> State[Any]:
    """Runs `do` when its turn has come; returns the state in which the flow run ends.

    A run that is not needed ends as Skipped, one that is stopped as Cancelled or Interrupted. Neither has failed. One that
    fails says why in its state, in one sentence. One that was interrupted is needed, whatever else works meanwhile.
    """
    if if_busy == "skip" and is_resumed():
        if_busy = "wait"
    try:
        place, dataset = request.open_workspace(), request.dataset_name()
    except GanpipeError as error:  # nobody is told: it may be a stranger's request
        return Failed(message=str(error), data=error)
    name, deployment = begin_run(dataset), deployment_name()
    end_if_cancelled(runner_process())
    try:
        with take_turn(place, work, dataset, name, if_busy):
            ended = do(place)
            if deployment:
                note_success(place, work, deployment)
    except Skipped as skipped:
        return Completed(name=SKIPPED, message=f"Skipped: {skipped}.")
    except STOPS as stop:
        return stopped_state(place, stop)
    except Busy as busy:  # who asked for it to leave is there and reads it
        return failed_state(place, busy)
    except Exception as error:
        state = failed_state(place, error)
        tell_failure(place, work, dataset, str(state.message))
        return state
    return Completed(name=ended.name, message=ended.message or None, data=ended.data)
