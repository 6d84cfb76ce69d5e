"""A `ganpipe run` whose training was killed: the next `ganpipe up` resumes it, as a run by hand with its settings."""

from __future__ import annotations

from flows.runs import call_prefect
from flows.turns import Skipped
from ganpipe.services.recovery import find_killed_training
from ganpipe.settings.schedules import BY_HAND
from ganpipe.stages.requests import RunRequest
from ganpipe.stores.workspace import Workspace

ASKED = ("dataset", "preset", "overrides")  # parameters of the killed run that are kept


def resume_killed(workspace: Workspace) -> None:
    """Starts a run for the training that was killed, once: a second one with the same key is the same run."""
    from prefect.deployments import run_deployment

    killed = find_killed_training(workspace)
    if killed is None:
        return
    asked = {name: killed.asked_by.parameters.get(name) for name in ASKED}
    parameters = asked | {"if_busy": "wait", "killed_run": killed.run}
    key = f"resume {killed.asked_by.id}"
    call_prefect(
        lambda: run_deployment(
            f"ganpipe/{BY_HAND}", parameters=parameters, timeout=0, as_subflow=False, idempotency_key=key
        )
    )


def require_same(workspace: Workspace, request: RunRequest, run_id: str) -> None:
    """Ends a run that would not resume the training `run_id`, because something has changed since it was killed.

    Raises:
        Skipped: its data, settings or code are others, or it was resumed meanwhile.
    """
    from ganpipe.stages.run import begun_training
    from ganpipe.stores.dataset_versions import open_version

    settings = request.settings()
    version = open_version(workspace, request.dataset_name(), settings.data)
    begun = begun_training(workspace, version, settings)
    if begun is None or (begun.run_id, begun.state) != (run_id, "interrupted"):
        raise Skipped(
            f"run {run_id} was killed, and its data, settings or code have changed since; `ganpipe run` trains anew"
        )
