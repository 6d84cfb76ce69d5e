"""The status of a workspace, as a typed object: what `ganpipe status` prints and a dashboard draws."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from typing import Any

from ganpipe.errors import GanpipeError, explain_storage_error
from ganpipe.settings.schema import DataSettings
from ganpipe.stores.addresses import Addresses, running_servers
from ganpipe.stores.dataset_summaries import DatasetSummary, summarize_datasets
from ganpipe.stores.model_registry import ModelRegistry
from ganpipe.stores.run_records import all_records
from ganpipe.stores.workspace import Workspace


@dataclass(frozen=True)
class RunStatus:
    """One run."""

    run: str
    state: str
    dataset: str
    version: str
    champion: bool
    mlflow_run_id: str | None
    model_version: str | None
    verdict: str | None


@dataclass(frozen=True)
class WorkspaceStatus:
    """Datasets, runs, champions by registered model, servers (None: not running) and free disk.

    `champions_problem`: why MLflow could not be asked; None if it could.
    """

    workspace: str
    datasets: list[DatasetSummary]
    runs: list[RunStatus]
    champions: dict[str, str]
    champions_problem: str | None
    servers: Addresses | None
    disk_free_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """The fields that `--json` prints."""
        return asdict(self)


def _champions(workspace: Workspace) -> tuple[dict[str, str], str | None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        registry = ModelRegistry(workspace)
        found = [registry.champion(name) for name in registry.models()]
    except (GanpipeError, MlflowException, SQLAlchemyError, OSError) as error:  # hides no dataset and no run
        return {}, explain_storage_error(error) or str(error)
    return {champion.name: str(champion) for champion in found if champion}, None


def workspace_status(workspace: Workspace, settings: DataSettings) -> WorkspaceStatus:
    """The status now; the runs in order of their last change."""
    records = all_records(workspace)
    runs = [
        RunStatus(
            run=r.run_id,
            state=r.state,
            dataset=r.dataset,
            version=r.version,
            champion=r.champion,
            mlflow_run_id=r.mlflow_run_id,
            model_version=r.model_version,
            verdict=r.evaluation.verdict if r.evaluation else None,
        )
        for r in records
    ]
    found, problem = _champions(workspace) if records else ({}, None)
    return WorkspaceStatus(
        workspace=str(workspace.root),
        datasets=summarize_datasets(workspace, settings),
        runs=runs,
        champions=found,
        champions_problem=problem,
        servers=running_servers(workspace),
        disk_free_bytes=shutil.disk_usage(workspace.root).free,
    )
