"""The promote stage: registers a model; it becomes champion if it scores better."""

from __future__ import annotations

from dataclasses import replace

from ganpipe.evaluation.verdict import Evaluation
from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.run_records import RunRecord, run_folder, save_record
from ganpipe.stores.workspace import Workspace


def register_model(workspace: Workspace, record: RunRecord, evaluation: Evaluation) -> RunRecord:
    """Registers the run's model; it becomes champion if it is the first or scores better."""
    tracker = Tracker(workspace)
    reference = tracker.register(record, run_folder(workspace, record.run_id) / "model")
    metric = evaluation.metrics.get("kd")
    champion = tracker.consider(reference, metric.value if metric else None)
    return save_record(workspace, replace(record, model_version=str(reference), champion=champion))
