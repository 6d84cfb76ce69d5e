"""Flow runs whose process died: marked as crashed at start-up."""

from __future__ import annotations

from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import State, StateType
from prefect.states import Crashed


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
