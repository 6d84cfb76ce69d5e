"""The promote stage: registers a model; it becomes champion if it is the first or scores better."""

from __future__ import annotations

from dataclasses import replace

from ganpipe.evaluation.gate import SCORE, is_better
from ganpipe.evaluation.verdict import Evaluation
from ganpipe.stores.model_registry import ModelRef, ModelRegistry
from ganpipe.stores.run_records import RunRecord, run_folder, save_record
from ganpipe.stores.workspace import Workspace


def register_model(workspace: Workspace, record: RunRecord, evaluation: Evaluation) -> RunRecord:
    """Registers the run's model, and promotes it if the gate says so."""
    registry = ModelRegistry(workspace)
    reference = registry.register(record, run_folder(workspace, record.run_id) / "model")
    metric = evaluation.metrics.get(SCORE)
    promoted = consider(registry, reference, metric.value if metric else None)
    return save_record(workspace, replace(record, model_version=str(reference), champion=promoted))


def consider(registry: ModelRegistry, challenger: ModelRef, score: float | None) -> bool:
    """Records the challenger's score and promotes it if it is the first or better; returns whether it is champion."""
    registry.set_score(challenger, score)
    champion = registry.champion(challenger.name)
    first = champion is None or champion.version == challenger.version
    promoted = first or is_better(score, registry.score_of(champion) if champion else None)
    if promoted:
        registry.promote(challenger)
    return promoted
