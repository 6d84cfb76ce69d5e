"""The status of a workspace, as a typed object: what `ganpipe status` prints and a dashboard draws."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from typing import Any

from ganpipe.errors import GanpipeError, explain_storage_error
from ganpipe.settings.schema import DataSettings
from ganpipe.stages.retraining import Decision, read_decisions
from ganpipe.stores.addresses import Addresses, running_servers
from ganpipe.stores.dataset_summaries import DatasetSummary, summarize_datasets
from ganpipe.stores.model_registry import ChampionChange, ModelRef, ModelRegistry
from ganpipe.stores.run_records import RunRecord, read_records
from ganpipe.stores.workspace import Workspace


@dataclass(frozen=True)
class RunStatus:
    """One run. A run with a damaged record has the state `damaged`, and `problem` says why.

    `conditions`: of its evaluation; equal for runs whose verdicts and scores may be compared.
    """

    run: str
    state: str
    dataset: str
    version: str
    champion: bool
    mlflow_run_id: str | None
    model_version: str | None
    verdict: str | None
    gate: str | None = None
    problem: str | None = None
    conditions: str | None = None


@dataclass(frozen=True)
class ModelChange(ChampionChange):
    """A change of the champion of one registered model."""

    model: str


@dataclass(frozen=True)
class WorkspaceStatus:
    """Datasets, runs, champions by registered model and who changed them, servers (None: not running) and free disk.

    `retraining`: whether each dataset has changed enough to be trained on again, where that was asked.

    `champions_problem`: why MLflow could not be asked; None if it could. `changes`: the latest last.
    """

    workspace: str
    datasets: list[DatasetSummary]
    runs: list[RunStatus]
    champions: dict[str, str]
    champions_problem: str | None
    changes: list[ModelChange]
    retraining: list[Decision]
    servers: Addresses | None
    disk_free_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """The fields that `--json` prints."""
        return asdict(self)


@dataclass(frozen=True)
class _Champions:
    found: list[ModelRef]
    changes: list[ModelChange]
    problem: str | None = None


def _champions(workspace: Workspace) -> _Champions:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        registry = ModelRegistry(workspace, reading=True)
        names = registry.models()
        found = [registry.champion(name) for name in names]
        changes = [
            ModelChange(**asdict(change), model=name) for name in names for change in registry.history(name)
        ]
    except (GanpipeError, MlflowException, SQLAlchemyError, OSError) as error:  # hides no dataset and no run
        return _Champions([], [], explain_storage_error(error) or str(error))
    return _Champions([c for c in found if c], sorted(changes, key=lambda change: change.at))


def _run_status(record: RunRecord, champions: list[ModelRef] | None) -> RunStatus:
    """`champions`: of the registry, which knows better than the record; None if it cannot be asked."""
    of_registry = champions is not None and record.mlflow_run_id in [c.run_id for c in champions]
    judged = record.evaluation
    return RunStatus(
        run=record.run_id,
        state=record.state,
        dataset=record.dataset,
        version=record.version,
        champion=record.champion if champions is None else of_registry,
        mlflow_run_id=record.mlflow_run_id,
        model_version=record.model_version,
        verdict=judged.verdict if judged else None,
        gate=_gate_word(record),
        conditions=judged.conditions.id if judged and judged.conditions else None,
    )


def _gate_word(record: RunRecord) -> str | None:
    if record.gate is None:
        return None
    return "waiting" if record.gate.waiting else record.gate.outcome


def _damaged_run(run_id: str, problem: str) -> RunStatus:
    return RunStatus(
        run_id, "damaged", run_id.rpartition("-")[0], "", False, None, None, None, problem=problem
    )


def workspace_status(workspace: Workspace, settings: DataSettings) -> WorkspaceStatus:
    """The status now; the runs in order of their last change, after those with a damaged record."""
    records = read_records(workspace)
    known = _champions(workspace) if records.whole or records.damaged else _Champions([], [])
    runs = [_damaged_run(run_id, sentence) for run_id, sentence in records.damaged.items()]
    runs += [_run_status(record, None if known.problem else known.found) for record in records.whole]
    return WorkspaceStatus(
        workspace=str(workspace.root),
        datasets=summarize_datasets(workspace, settings),
        runs=runs,
        champions={champion.name: str(champion) for champion in known.found},
        champions_problem=known.problem,
        changes=known.changes,
        retraining=read_decisions(workspace),
        servers=running_servers(workspace),
        disk_free_bytes=shutil.disk_usage(workspace.root).free,
    )
