"""A flow run's name in Prefect, its links to MLflow and its process; and calls to a server that may be away."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from prefect import get_client, runtime
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)

from ganpipe.compute.process_identity import this_process
from ganpipe.stores.best_effort import BestEffort
from ganpipe.stores.prefect_database import PROCESS_TAG
from ganpipe.stores.run_records import RunRecord

_attempt = BestEffort("Prefect's server", "the run goes on, and its page there is not up to date")


def call_prefect(call: Callable[[], object]) -> bool:
    """Makes a call that the run can do without, with short waits; whether it succeeded."""
    with temporary_settings({PREFECT_API_REQUEST_TIMEOUT: 5.0, PREFECT_CLIENT_MAX_RETRIES: 0}):
        return _attempt(call)


def name_run(prefix: str) -> None:
    """Names the current flow run after its dataset and version, with the time."""
    _update_run(f"{prefix} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}", [])


def link_run(record: RunRecord) -> None:
    """Tags the current flow run with the data version and the MLflow run."""
    _update_run(None, [f"data:{record.version[:12]}", f"mlflow:{record.mlflow_run_id}"])


def tag_process() -> None:
    """Tags the current flow run with its process, so that what a kill leaves can be told from what runs."""
    _update_run(None, [])


def _update_run(name: str | None, tags: list[str]) -> None:
    run_id, tags = runtime.flow_run.id, [*tags, PROCESS_TAG + this_process()]

    def update() -> None:
        with get_client(sync_client=True) as client:
            if name:
                client.update_flow_run(run_id, name=name, tags=tags)
            else:
                client.update_flow_run(run_id, tags=tags)

    if run_id:
        call_prefect(update)
