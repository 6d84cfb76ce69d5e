"""Starts a training from the networks of the dataset's champion (`training.start_from=champion`).

The champion is chosen once, when the run begins: its networks are copied into the run folder, and its name is part of the
run's fingerprint. The same request later finds that run, whoever is champion by then.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ganpipe.compute.checkpoints import best_folder, load_checkpoint
from ganpipe.errors import GanpipeError
from ganpipe.stages.continuation import CHECKPOINTS
from ganpipe.stores.model_registry import ModelRegistry, registered_name
from ganpipe.stores.run_records import RunRecord, all_records, run_folder, started_record
from ganpipe.stores.workspace import Workspace
from ganpipe.training.warm_start import start_point, write_start

log = logging.getLogger(__name__)


def begin_warm_start(workspace: Workspace, fresh: RunRecord) -> RunRecord:
    """The record of a run that starts from the champion's networks, which are copied into its folder.

    `fresh` itself if there is no champion, or if its networks are not here; why is said.
    """
    try:
        found = find_champion(workspace, fresh.dataset)
    except GanpipeError as error:
        log.warning(f"training.start_from is champion, but {error} Training starts from scratch.")
        return fresh
    record = started_record(fresh, start_point(found.run, found.saved))
    write_start(run_folder(workspace, record.run_id), found.run, found.saved)
    log.warning(f"Run {record.run_id} starts from run {found.run}, the champion of {fresh.dataset}.")
    return record


@dataclass(frozen=True)
class Champion:
    """The run that made the champion, and the checkpoint that holds its model's average, G and D."""

    run: str
    saved: dict[str, Any]


def find_champion(workspace: Workspace, dataset: str) -> Champion:
    """The dataset's champion with its checkpoint.

    Raises:
        GanpipeError: there is none, or its run or its checkpoint is not in this workspace.
    """
    model = ModelRegistry(workspace).champion(registered_name(dataset))
    if model is None:
        raise GanpipeError(f"{dataset} has no champion yet.")
    record = next((r for r in all_records(workspace) if r.mlflow_run_id == model.run_id), None)
    if record is None:
        raise GanpipeError(f"the run of {model} is not in this workspace.")
    saved = _checkpoint_of_model(run_folder(workspace, record.run_id) / CHECKPOINTS, record)
    if saved is None:
        raise GanpipeError(f"run {record.run_id}, which made {model}, has no checkpoint any more.")
    return Champion(record.run_id, saved)


def _checkpoint_of_model(folder: Path, record: RunRecord) -> dict[str, Any] | None:
    """The last checkpoint, or the best one if its average became the model."""
    cpu, validation = torch.device("cpu"), record.train.validation if record.train else None
    last = load_checkpoint(folder, cpu)
    if validation is None or (last and last["nimg"] == validation.nimg):
        return last
    best = load_checkpoint(best_folder(folder), cpu)
    return best if best and best["nimg"] == validation.nimg else last
