"""The promote stage: registers a model; it becomes champion if it is the first or scores better."""

from __future__ import annotations

from dataclasses import replace

from ganpipe.evaluation.gate import SCORE, is_better
from ganpipe.evaluation.verdict import Evaluation
from ganpipe.stores.mlflow_runs import ModelRef, Tracker
from ganpipe.stores.run_records import RunRecord, run_folder, save_record
from ganpipe.stores.workspace import Workspace


def register_model(workspace: Workspace, record: RunRecord, evaluation: Evaluation) -> RunRecord:
    """Registers the run's model, and promotes it if the gate says so."""
    tracker = Tracker(workspace)
    reference = tracker.register(record, run_folder(workspace, record.run_id) / "model")
    metric = evaluation.metrics.get(SCORE)
    promoted = consider(tracker, reference, metric.value if metric else None)
    return save_record(workspace, replace(record, model_version=str(reference), champion=promoted))


def consider(tracker: Tracker, challenger: ModelRef, score: float | None) -> bool:
    """Records the challenger's score and promotes it if it is the first or better; returns whether it is champion."""
    tracker.set_score(challenger, score)
    champion = tracker.champion(challenger.name)
    first = champion is None or champion.version == challenger.version
    promoted = first or is_better(score, tracker.score_of(champion) if champion else None)
    if promoted:
        tracker.promote(challenger)
    return promoted
