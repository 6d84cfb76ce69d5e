"""Starts a training from other networks (`training.start_from`): those of the dataset's champion, of a run or of a file.

They are chosen once, when the run begins: they are copied into the run folder, and their name and SHA-256 are part of
the run's fingerprint. The same request later finds that run, whoever is champion by then.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from ganpipe.compute.checkpoints import best_folder, load_checkpoint
from ganpipe.errors import GanpipeError
from ganpipe.settings.start_from import CHAMPION, split_pin
from ganpipe.stages.continuation import CHECKPOINTS
from ganpipe.stores.model_registry import ModelRegistry, registered_name
from ganpipe.stores.run_records import RunRecord, all_records, load_record, run_folder, started_record
from ganpipe.stores.start_weights import find_weights
from ganpipe.stores.workspace import Workspace
from ganpipe.training.warm_start import WarmStart

log = logging.getLogger(__name__)


def begin_warm_start(workspace: Workspace, fresh: RunRecord, start_from: str) -> RunRecord:
    """The record of a run that starts from other networks, which are copied into its folder.

    `fresh` itself if it should start from the champion, and there is none or its networks are not here; why is said.

    Raises:
        GanpipeError: the run or the file that `start_from` names cannot be used.
    """
    try:
        start = find_start(workspace, fresh.dataset, start_from)
    except GanpipeError as error:
        if start_from != CHAMPION:
            raise
        log.warning(f"training.start_from is champion, but {error} Training starts from scratch.")
        return fresh
    record = started_record(fresh, start.point)
    start.write(run_folder(workspace, record.run_id))
    champion = f", the champion of {fresh.dataset}" if start_from == CHAMPION else ""
    log.warning(f"Run {record.run_id} starts from {start.point}{champion}.")
    return record


def find_start(workspace: Workspace, dataset: str, start_from: str) -> WarmStart:
    """The networks that a value of `training.start_from` means.

    Raises:
        GanpipeError: the champion, run or file is not here, or has other contents than those that were pinned.
    """
    if start_from == CHAMPION:
        return find_champion(workspace, dataset)
    if record := load_record(workspace, start_from) if "/" not in start_from else None:
        return _start_of_run(workspace, record, f"run {start_from}, which training.start_from names,")
    path, pinned = split_pin(start_from)
    start = WarmStart.of_file(find_weights(workspace, path))
    if pinned and start.point.weights_sha256 != pinned:
        raise GanpipeError(
            f"training.start_from is {start_from}, and the file has the SHA-256 {start.point.weights_sha256}: it has changed."
        )
    return start


def find_champion(workspace: Workspace, dataset: str) -> WarmStart:
    """The networks of the dataset's champion.

    Raises:
        GanpipeError: there is none, or its run or its checkpoint is not in this workspace.
    """
    model = ModelRegistry(workspace).champion(registered_name(dataset))
    if model is None:
        raise GanpipeError(f"{dataset} has no champion yet.")
    record = next((r for r in all_records(workspace) if r.mlflow_run_id == model.run_id), None)
    if record is None:
        raise GanpipeError(f"the run of {model} is not in this workspace.")
    return _start_of_run(workspace, record, f"run {record.run_id}, which made {model},")


def _start_of_run(workspace: Workspace, record: RunRecord, called: str) -> WarmStart:
    saved = _checkpoint_of_model(run_folder(workspace, record.run_id) / CHECKPOINTS, record)
    if saved is None:
        raise GanpipeError(f"{called} has no checkpoint any more.")
    return WarmStart.of_run(record.run_id, saved)


def _checkpoint_of_model(folder: Path, record: RunRecord) -> dict[str, Any] | None:
    """The last checkpoint, or the best one if its average became the model."""
    cpu, validation = torch.device("cpu"), record.train.validation if record.train else None
    last = load_checkpoint(folder, cpu)
    if validation is None or (last and last["nimg"] == validation.nimg):
        return last
    best = load_checkpoint(best_folder(folder), cpu)
    return best if best and best["nimg"] == validation.nimg else last
