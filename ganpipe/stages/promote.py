"""The promote stage: registers a model; it becomes champion if it is the first or scores better."""

from __future__ import annotations

import os
from dataclasses import replace

from ganpipe.evaluation.gate import SCORE, is_better
from ganpipe.evaluation.verdict import Evaluation
from ganpipe.stages.evaluate import check_model
from ganpipe.stages.restore import restore_in_mlflow
from ganpipe.stores.model_registry import CHAMPION, ModelRef, ModelRegistry, registered_name
from ganpipe.stores.run_records import (
    RECORD,
    RunRecord,
    all_records,
    load_record,
    run_folder,
    save_record,
)
from ganpipe.stores.workspace import Workspace


def register_model(workspace: Workspace, record: RunRecord, evaluation: Evaluation) -> RunRecord:
    """Registers the run's model, and promotes it if the gate says so."""
    record = restore_in_mlflow(workspace, record)
    registry, folder = ModelRegistry(workspace), run_folder(workspace, record.run_id) / "model"
    check_model(record, folder)
    reference = registry.register(record, folder)
    metric = evaluation.metrics.get(SCORE)
    consider(registry, reference, metric.value if metric else None)
    save_record(workspace, replace(record, model_version=str(reference)))
    record_champion(workspace, registry, record.dataset)
    return load_record(workspace, record.run_id) or record


def promote_run(workspace: Workspace, record: RunRecord) -> ModelRef:
    """Makes the model that a run registered the champion; a version that MLflow has lost is registered again.

    Raises:
        GanpipeError: the run registered none.
    """
    record = restore_in_mlflow(workspace, record)
    registry = ModelRegistry(workspace)
    reference = registry.version_of(record)
    registry.promote(reference)
    record_champion(workspace, registry, record.dataset)
    return reference


def roll_back(workspace: Workspace, dataset: str | None) -> ModelRef:
    """Makes the champion before the present one the champion again; `dataset`: of the model that changed last.

    Raises:
        GanpipeError: there is none.
    """
    registry = ModelRegistry(workspace)
    name = registered_name(dataset) if dataset else registry.find_model(CHAMPION, None).name
    reference = registry.rollback(name)
    record_champion(workspace, registry, name.removeprefix(registered_name("")))
    return reference


def record_champion(workspace: Workspace, registry: ModelRegistry, dataset: str) -> None:
    """Makes the records of a dataset's runs say which of them is champion, as the registry does; their age stays."""
    champion = registry.champion(registered_name(dataset))
    for record in all_records(workspace):
        is_champion = champion is not None and record.mlflow_run_id == champion.run_id
        if record.dataset == dataset and record.champion != is_champion:
            path = run_folder(workspace, record.run_id) / RECORD
            changed = path.stat()
            save_record(workspace, replace(record, champion=is_champion))
            os.utime(path, ns=(changed.st_atime_ns, changed.st_mtime_ns))


def consider(registry: ModelRegistry, challenger: ModelRef, score: float | None) -> bool:
    """Records the challenger's score and promotes it if it is the first or better; returns whether it is champion."""
    registry.set_score(challenger, score)
    champion = registry.champion(challenger.name)
    first = champion is None or champion.version == challenger.version
    promoted = first or is_better(score, registry.score_of(champion) if champion else None)
    if promoted:
        registry.promote(challenger)
    return promoted
