"""A flow run in Prefect and a run in MLflow name each other, and link their pages."""

from __future__ import annotations

from typing import Any

from prefect import runtime
from prefect.artifacts import create_link_artifact
from prefect.settings import PREFECT_API_URL

from flows.runs import call_prefect, tag_run
from ganpipe.stores.addresses import is_ours, mlflow_run_page, running_servers
from ganpipe.stores.outbox import Outbox
from ganpipe.stores.run_records import RunRecord
from ganpipe.stores.workspace import Workspace

FLOW_RUN_TAG, NOTE_TAG = "prefect.flow_run_id", "mlflow.note.content"  # of a run in MLflow


class MlflowLink:
    """Links the current flow run with the run of a training, once."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self._made = workspace, False

    def make(self, record: RunRecord) -> None:
        """Tags both runs; their pages link each other as far as servers show them."""
        if self._made or not runtime.flow_run.id:
            return
        self._made = True
        tag_run([f"data:{record.version[:12]}", f"mlflow:{record.mlflow_run_id}"])
        if page := mlflow_run_page(self.workspace, str(record.mlflow_run_id), record.mlflow_experiment_id):
            self._publish(page, record.run_id)
        Outbox(self.workspace, record).tags(self._tags())

    def _publish(self, page: str, run: str) -> None:
        arguments: dict[str, Any] = {"link": page, "link_text": f"{run} in MLflow", "key": "mlflow-run"}
        call_prefect(
            lambda: create_link_artifact(**arguments, description="Curves, grids and model of this run")
        )

    def _tags(self) -> dict[str, str]:
        page = _flow_run_page(self.workspace)
        note = {NOTE_TAG: f"[Its flow run in Prefect]({page})"} if page else {}
        return {FLOW_RUN_TAG: str(runtime.flow_run.id)} | note


def _flow_run_page(workspace: Workspace) -> str | None:
    """The page of the current flow run; None on a temporary server, which ends with the run."""
    if servers := running_servers(workspace):
        return servers.flow_run_page(str(runtime.flow_run.id))
    return None if is_ours(workspace, PREFECT_API_URL.value()) else runtime.flow_run.ui_url
