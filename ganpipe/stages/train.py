"""The train stage: trains, resumes, or finds that the run is finished."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ganpipe.compute.device import training_compute
from ganpipe.compute.locks import Say, gpu_names, lock_gpus
from ganpipe.compute.process_identity import this_process
from ganpipe.data.shards import PreparedData
from ganpipe.errors import GanpipeError, Interrupted, first_line, redact
from ganpipe.imaging.image import ImageShape
from ganpipe.models.io import save_generator
from ganpipe.models.registry import check_shape
from ganpipe.progress import Report, ignore
from ganpipe.reports.film import write_film
from ganpipe.settings.schema import Settings, TrainingSettings
from ganpipe.settings.start_from import SCRATCH
from ganpipe.stages.continuation import begin_continuation, find_attempt, lineage_note
from ganpipe.stages.data import page_files, write_page
from ganpipe.stages.drift import find_drift
from ganpipe.stages.restore import restore_in_mlflow, restore_record
from ganpipe.stages.run import (
    compute_names,
    finished_request,
    finished_training,
    known_length,
    length_file,
)
from ganpipe.stages.warm_start import begin_warm_start
from ganpipe.stores.activities import record_activity
from ganpipe.stores.code import record_code
from ganpipe.stores.dataset_shards import load_dataset, version_shards
from ganpipe.stores.dataset_versions import DatasetVersion, pointer_text
from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.outbox import Outbox
from ganpipe.stores.run_records import (
    DOCTOR,
    RunRecord,
    load_record,
    new_record,
    run_folder,
    save_record,
)
from ganpipe.stores.system_metrics import log_system_metrics
from ganpipe.stores.workspace import Workspace
from ganpipe.training import length
from ganpipe.training.augment import parse_kinds
from ganpipe.training.callbacks import Callbacks, Point
from ganpipe.training.launch import Job, check_processes, train_distributed
from ganpipe.training.summary import TrainSummary
from ganpipe.training.trainer import train

log = logging.getLogger(__name__)


TRAINER_WAIT_S = 24 * 3600.0


class Pruned(Exception):
    """A trial is worse than others at the same point: it ends early, with a checkpoint."""


@dataclass(frozen=True)
class Trial:
    """A training as a trial of the sweep `sweep`. `on_points` gets the new points of the curve at each checkpoint.

    It may raise Pruned.
    """

    sweep: str
    on_points: Callable[[list[Point]], object] = lambda points: None


def check_request(settings: Settings) -> None:
    """Checks the settings before any image is read; raises GanpipeError."""
    channels = settings.data.channels or 3
    check_shape(settings.model, ImageShape(channels, settings.data.height_px, settings.data.width_px))
    compute_names(settings)
    check_processes(settings.training)
    check_start(settings.training)
    parse_kinds(settings.augment.kinds)


def check_start(training: TrainingSettings) -> None:
    """Raises GanpipeError if layers are to be frozen that nobody has trained."""
    if training.freeze_d_layers and training.start_from == SCRATCH:
        raise GanpipeError(
            f"training.freeze_d_layers is {training.freeze_d_layers}, and training.start_from is scratch: fresh layers must "
            "learn. Set training.start_from to champion or a run, or freeze none."
        )


def fix_length(workspace: Workspace, version: DatasetVersion, settings: Settings, wait: bool) -> Settings:
    """The same; measured first if it must be.

    It is kept for these settings, data and code: a training that was killed goes on to the same number of images on a
    faster machine, and the same command finds the finished run.
    """
    if known := known_length(workspace, version.version, settings):
        return known
    with exclusive_training(workspace, settings, wait):
        data = load_dataset(workspace, version, settings.data)
        return length.fix_length(length_file(workspace, version.version, settings), data, settings)


@contextmanager
def exclusive_training(
    workspace: Workspace, settings: Settings, wait: bool, say: Say = log.warning
) -> Iterator[None]:
    """Holds the locks of this workspace's trainer and of the GPUs; waits for another trainer, or fails with its name.

    `say`: gets a sentence that names whom it waits for.
    """
    on_gpu = training_compute(settings.training).device.type == "cuda"
    with (
        workspace.lock("training", TRAINER_WAIT_S if wait else 0.0, say),
        lock_gpus(gpu_names(settings.training.processes) if on_gpu else [], wait, say),
    ):
        yield


def check_free(workspace: Workspace, settings: Settings) -> None:
    """Raises GanpipeError, which names the other trainer, if this workspace or GPU is busy."""
    with exclusive_training(workspace, settings, wait=False):
        pass


def train_model(
    workspace: Workspace,
    version: DatasetVersion,
    settings: Settings,
    report: Report = ignore,
    wait: bool = True,
    on_begin: Callable[[RunRecord], object] = lambda record: None,
    trial: Trial | None = None,
) -> RunRecord:
    """Trains, resumes, continues a shorter run, or finds the finished run: returns its record.

    `wait`: wait for another trainer of this workspace or GPU; otherwise GanpipeError names it.
    `on_begin`: gets the record before the first step of a training, when MLflow has its run.
    `trial`: it is trained as a trial of a sweep.

    Raises:
        Interrupted: a signal; the checkpoint is written and the MLflow run marked.
        Pruned: `trial.on_points` has raised it.
        GanpipeError: the user must change something; the sentence says what.
    """
    check_request(settings)
    settings = fix_length(workspace, version, settings, wait)
    fresh = new_record(version.name, version.version, settings, compute_names(settings))
    fresh = replace(fresh, sweep=trial.sweep if trial else "")
    if done := finished_request(workspace, fresh):
        return restore_in_mlflow(workspace, done)
    with (
        record_activity(workspace, fresh.run_id, report) as activity,
        exclusive_training(workspace, settings, wait, activity.waits_for),
    ):
        if done := finished_request(workspace, fresh):  # by whom we waited for
            return done
        begun = find_attempt(workspace, fresh)
        if begun is fresh and not run_folder(workspace, fresh.run_id).exists():
            begun = begin_continuation(workspace, fresh)
            if begun is fresh and settings.training.start_from != SCRATCH:
                begun = begin_warm_start(workspace, fresh, settings.training.start_from)
        record = earlier_record(workspace, begun)
        if record.state == "finished" and (done := finished_training(workspace, record.run_id)):
            return done  # only its record was damaged
        data = load_dataset(workspace, version, settings.data)
        tracker = Tracker(workspace)
        run_id = tracker.begin(record, pointer_text(workspace, version.name, version.version))
        record, started = _begun(record, run_id, tracker.experiment_of(run_id)), time.monotonic()
        record = replace(record, drift=record.drift or find_drift(workspace, version, settings))
        record = save_record(workspace, record)
        outbox = Outbox(workspace, record, tracker)
        try:
            folder = run_folder(workspace, record.run_id)
            on_begin(record)
            outbox.artifacts(page_files(write_page(workspace, version, settings.data, activity)), "data")
            outbox.artifacts(record_code(folder), "code")

            def take_points(points: list[Point]) -> None:
                outbox.points(points)
                if trial:
                    trial.on_points(points)

            callbacks = Callbacks(points=take_points, picture=outbox.picture, report=activity)
            with log_system_metrics(run_id):
                summary = train_or_launch(workspace, data, settings, folder, callbacks, record)
            film = write_film(folder, record.origin())
        except BaseException as error:
            # Prefect turns a signal into an exception of its own, which is no Exception either.
            stopped = isinstance(error, Interrupted) or not isinstance(error, Exception)
            state = "pruned" if isinstance(error, Pruned) else "interrupted" if stopped else "failed"
            why = redact(first_line(error)) or type(error).__name__
            save_record(workspace, replace(_ended(record, state, started), reason=why))
            outbox.training(state)
            raise
        about_data = (record.drift.sentence(),) if record.drift else ()
        notes = (*lineage_note(workspace, record), *about_data, *summary.notes)
        summary = replace(summary, notes=notes)
        if record.train and record.train.weights_sha256 == summary.weights_sha256:
            summary = record.train  # nothing was trained: the model's files were written again
        record = save_record(workspace, replace(_ended(record, "finished", started), train=summary))
        if film:
            outbox.artifacts([film], "film")
        outbox.training("finished")
        return record


def _begun(record: RunRecord, mlflow_run_id: str, mlflow_experiment_id: str) -> RunRecord:
    """The record of an attempt that begins now, in this process."""
    return replace(
        record,
        state="running",
        mlflow_run_id=mlflow_run_id,
        mlflow_experiment_id=mlflow_experiment_id,
        process=this_process(),
        began_at=record.began_at or _now(),
        ended_at=None,
        reason="",
    )


def _ended(record: RunRecord, state: str, started: float) -> RunRecord:
    """The record of an attempt that ends now; `started`: when it began (time.monotonic)."""
    train_s = round(record.train_s + time.monotonic() - started, 1)
    return replace(record, state=state, ended_at=_now(), train_s=train_s)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def earlier_record(workspace: Workspace, fresh: RunRecord) -> RunRecord:
    """The record of the earlier attempts at a training; the fresh one if there are none.

    A damaged record is rebuilt from MLflow; a training that MLflow does not know resumes from its checkpoints.
    """
    try:
        return load_record(workspace, fresh.run_id) or fresh
    except GanpipeError as error:
        log.warning(str(error).removesuffix(DOCTOR) + "It is written again.")
    try:
        return restore_record(workspace, fresh.run_id)
    except GanpipeError:
        return fresh


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
