"""The status of a workspace, as a typed object: what `ganpipe status` prints and a dashboard draws."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from typing import Any

from ganpipe.settings.schema import DataSettings
from ganpipe.stores.addresses import Addresses, running_servers
from ganpipe.stores.datasets import DatasetVersion, dataset_names, open_version
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
    """Datasets, runs, champions by registered model, servers (None: not running) and free disk."""

    workspace: str
    datasets: list[DatasetVersion]
    runs: list[RunStatus]
    champions: dict[str, str]
    servers: Addresses | None
    disk_free_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """The fields that `--json` prints."""
        return asdict(self) | {"datasets": [version.as_dict() for version in self.datasets]}


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
    registry = ModelRegistry(workspace) if records else None
    found = [registry.champion(name) for name in registry.models()] if registry else []
    return WorkspaceStatus(
        workspace=str(workspace.root),
        datasets=[open_version(workspace, name, settings) for name in dataset_names(workspace)],
        runs=runs,
        champions={champion.name: str(champion) for champion in found if champion},
        servers=running_servers(workspace),
        disk_free_bytes=shutil.disk_usage(workspace.root).free,
    )
