"""The train stage: trains, resumes, or finds that the run is finished."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ganpipe.compute.device import training_compute
from ganpipe.compute.locks import gpu_names, lock_gpus
from ganpipe.data.shards import PreparedData
from ganpipe.errors import Interrupted
from ganpipe.imaging.image import ImageShape
from ganpipe.models.io import CONFIG, save_generator
from ganpipe.models.registry import check_shape
from ganpipe.progress import Report, ignore
from ganpipe.settings.schema import Settings
from ganpipe.stages.data import write_page
from ganpipe.stores.dataset_shards import load_dataset, version_shards
from ganpipe.stores.dataset_versions import DatasetVersion, pointer_text
from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.run_records import RunRecord, load_record, new_record, run_folder, save_record
from ganpipe.stores.workspace import Workspace
from ganpipe.training.augment import parse_kinds
from ganpipe.training.callbacks import Callbacks
from ganpipe.training.launch import Job, check_processes, train_distributed
from ganpipe.training.summary import TrainSummary
from ganpipe.training.trainer import train

log = logging.getLogger(__name__)


TRAINER_WAIT_S = 24 * 3600.0


def compute_names(settings: Settings) -> tuple[str, str]:
    """Device and precision as they enter a fingerprint."""
    compute = training_compute(settings.training)
    return compute.device.type, compute.precision


def check_request(settings: Settings) -> None:
    """Checks the settings before any image is read; raises GanpipeError."""
    channels = settings.data.channels or 3
    check_shape(settings.model, ImageShape(channels, settings.data.height_px, settings.data.width_px))
    compute_names(settings)
    check_processes(settings.training)
    parse_kinds(settings.augment.kinds)


@contextmanager
def exclusive_training(workspace: Workspace, settings: Settings, wait: bool) -> Iterator[None]:
    """Holds the locks of this workspace's trainer and of the GPUs; waits for another trainer, or fails with its name."""
    on_gpu = training_compute(settings.training).device.type == "cuda"
    with (
        workspace.lock("training", TRAINER_WAIT_S if wait else 0.0, log.warning),
        lock_gpus(gpu_names(settings.training.processes) if on_gpu else [], wait, log.warning),
    ):
        yield


def train_model(
    workspace: Workspace,
    version: DatasetVersion,
    settings: Settings,
    report: Report = ignore,
    wait: bool = True,
) -> RunRecord:
    """Trains, resumes, or finds the finished run: returns its record.

    `wait`: wait for another trainer of this workspace or GPU; otherwise GanpipeError names it.

    Raises:
        Interrupted: a signal; the checkpoint is written and the MLflow run marked.
        GanpipeError: the user must change something; the sentence says what.
    """
    check_request(settings)
    fresh = new_record(version.name, version.version, settings, compute_names(settings))
    if done := finished_training(workspace, fresh.run_id):
        return done
    with exclusive_training(workspace, settings, wait):
        if done := finished_training(workspace, fresh.run_id):  # by whom we waited for
            return done
        record = load_record(workspace, fresh.run_id) or fresh
        data = load_dataset(workspace, version, settings.data)
        tracker = Tracker(workspace)
        run_id = tracker.begin(record, pointer_text(workspace, version.name, version.version))
        tracker.log_data(run_id, write_page(workspace, version, settings.data, report))
        record = save_record(workspace, replace(record, state="running", mlflow_run_id=run_id))
        folder = run_folder(workspace, record.run_id)
        callbacks = Callbacks(
            points=tracker.curve(run_id).write,
            picture=lambda path, nimg: tracker.picture(run_id, path, "grids"),
            report=report,
        )
        try:
            summary = train_or_launch(workspace, data, settings, folder, callbacks, record)
        except (Interrupted, KeyboardInterrupt):
            tracker.end(run_id, "interrupted")
            save_record(workspace, replace(record, state="interrupted"))
            raise
        except BaseException:
            tracker.end(run_id, "failed")
            save_record(workspace, replace(record, state="failed"))
            raise
        numbers = {"nimg": float(summary.nimg), "images_per_second": summary.images_per_second}
        tags = {"ganpipe.weights_sha256": summary.weights_sha256}
        if summary.notes:
            tags["ganpipe.notes"] = " ".join(summary.notes)
        tracker.outcome(run_id, numbers, tags)
        tracker.end(run_id, "finished")
        return save_record(workspace, replace(record, state="finished", train=summary))


def finished_training(workspace: Workspace, run_id: str) -> RunRecord | None:
    """The record of a finished training whose model files are there; else None."""
    record = load_record(workspace, run_id)
    intact = record is not None and (run_folder(workspace, run_id) / "model" / CONFIG).exists()
    return record if record and record.state == "finished" and intact else None


def train_or_launch(
    workspace: Workspace,
    data: PreparedData,
    settings: Settings,
    folder: Path,
    callbacks: Callbacks,
    record: RunRecord,
) -> TrainSummary:
    """Trains, in this process or in several, and writes the model's files."""
    if settings.training.processes > 1:
        job = Job(
            version_shards(workspace, record.dataset, record.version, settings.data),
            record.version,
            settings,
            folder,
            record.origin(),
        )
        return train_distributed(job, callbacks)
    result = train(data, settings, folder, callbacks, record.origin())
    save_generator(folder / "model", result.model, settings.model, data.shape, record.origin(), result.labels)
    return result.summary
