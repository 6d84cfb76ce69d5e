"""A flow run's name in Prefect, and its links to MLflow."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import get_client, runtime

from ganpipe.stores.run_records import RunRecord


def name_run(prefix: str) -> None:
    """Names the current flow run after its dataset and version, with the time."""
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
