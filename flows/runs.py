"""What Prefect shows of a run: its name, and its ties to MLflow. Left out where there is no server to tell."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import get_client, runtime
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import State, StateType
from prefect.states import Crashed

from ganpipe.lineage import RunRecord


def name_run(prefix: str) -> None:
    """Names the current flow run after its data set and version, with the time."""
    if runtime.flow_run.id:
        name = f"{prefix} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
        with get_client(sync_client=True) as client:
            client.update_flow_run(runtime.flow_run.id, name=name)


def link_run(record: RunRecord) -> None:
    """Tags the current flow run with the data version and the MLflow run."""
    if runtime.flow_run.id:
        tags = [f"data:{record.version[:12]}", f"mlflow:{record.mlflow_run_id}"]
        with get_client(sync_client=True) as client:
            client.update_flow_run(runtime.flow_run.id, tags=tags)


def crash_orphans() -> int:
    """Marks flow runs as crashed that say Running though nobody runs them; returns how many.

    Called where this workspace's server has just started, before anything could run on it.
    """
    running = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])))
    with get_client(sync_client=True) as client:
        orphans = client.read_flow_runs(flow_run_filter=running)
        for run in orphans:
            state: State[object] = Crashed(message="The process was gone when ganpipe started again.")
            client.set_flow_run_state(run.id, state, force=True)
    return len(orphans)
