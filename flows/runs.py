"""A flow run in Prefect: its name, links, process and state; and calls to a server that may be away."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from prefect import get_client, runtime
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)
from prefect.states import Running

from ganpipe.compute.process_identity import this_process
from ganpipe.stores.best_effort import BestEffort
from ganpipe.stores.prefect_database import PROCESS_TAG

ASK_EVERY_S = 5.0

_attempt = BestEffort("Prefect's server", "the run goes on, and its page there is not up to date")


def call_prefect(call: Callable[[], object]) -> bool:
    """Makes a call that the run can do without, with short waits; whether it succeeded."""
    with temporary_settings({PREFECT_API_REQUEST_TIMEOUT: 5.0, PREFECT_CLIENT_MAX_RETRIES: 0}):
        return _attempt(call)


def begin_run(subject: str) -> str:
    """Names the current flow run after its subject and the time, and tags it with its process; returns the name.

    By the process, what a kill leaves can be told from what runs. A run that is resumed keeps its name.
    """
    name = runtime.flow_run.name if is_resumed() else f"{subject} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
    _update_run(name, [])
    return str(name)


def tag_run(tags: list[str]) -> None:
    """Adds tags to the current flow run."""
    _update_run(None, tags)


def _update_run(name: str | None, tags: list[str]) -> None:
    run_id = runtime.flow_run.id
    kept = [tag for tag in runtime.flow_run.tags or [] if not tag.startswith(PROCESS_TAG)]
    tags = [*dict.fromkeys([*kept, *tags, PROCESS_TAG + this_process()])]

    def update() -> None:
        with get_client(sync_client=True) as client:
            if name:
                client.update_flow_run(run_id, name=name, tags=tags)
            else:
                client.update_flow_run(run_id, tags=tags)

    if run_id:
        call_prefect(update)


def is_resumed() -> bool:
    """Whether the current flow run was interrupted: it has had another process before."""
    return any(tag.startswith(PROCESS_TAG) for tag in runtime.flow_run.tags or [])


def is_scheduled() -> bool:
    """Whether a schedule has started the current flow run, and no person."""
    return "auto-scheduled" in (runtime.flow_run.tags or [])


def deployment_name() -> str | None:
    """The deployment that the current flow run is of; None if a person started it with a command, or if the server is away."""
    found: list[str | None] = []
    call_prefect(lambda: found.append(runtime.deployment.name))
    return found[0] if found else None


def set_running(name: str, message: str) -> None:
    """Says in Prefect what the current flow run does: `Running`, or that it waits."""

    def update() -> None:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(runtime.flow_run.id, Running(name=name, message=message), force=True)

    if runtime.flow_run.id:
        call_prefect(update)


def is_cancelled(run_id: UUID) -> bool:
    """Whether somebody has cancelled a flow run in Prefect; False if the server does not say."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(run_id).state
    except Exception:  # a server that is away has cancelled nothing
        return False
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def end_if_cancelled(runner: int | None) -> None:
    """Sends this process SIGTERM when its flow run is cancelled in Prefect, as the runner does with those it has started.

    `runner`: the process that does so while it is our parent.
    """
    run_id = runtime.flow_run.id
    if run_id is None:
        return

    def watch() -> None:
        while runner == os.getppid() or not is_cancelled(UUID(str(run_id))):
            time.sleep(ASK_EVERY_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
