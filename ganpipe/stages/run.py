"""Work already done: a finished training, or a whole run. Imports neither MLflow nor SciPy: schedules ask often."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from ganpipe.compute.device import training_compute
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.extractors import choose_extractor
from ganpipe.models.io import generator_damage
from ganpipe.settings.schema import Settings
from ganpipe.stages.continuation import find_attempt
from ganpipe.stages.requests import RunRequest
from ganpipe.stages.style_images import identify_images
from ganpipe.stores.dataset_summaries import dataset_names
from ganpipe.stores.dataset_versions import DatasetVersion, open_version
from ganpipe.stores.fingerprint import run_fingerprint, train_fingerprint
from ganpipe.stores.mlflow_database import lacks_mlflow
from ganpipe.stores.run_records import RunRecord, load_record, new_record, run_folder
from ganpipe.stores.run_results import RunResult, finished_result
from ganpipe.stores.workspace import Workspace
from ganpipe.training import length
from ganpipe.vgg19.weights import style_weights

log = logging.getLogger(__name__)


def compute_names(settings: Settings) -> tuple[str, str]:
    """Device and precision as they enter a fingerprint."""
    compute = training_compute(settings.training)
    return compute.device.type, compute.precision


def known_length(workspace: Workspace, version: str, settings: Settings) -> Settings | None:
    """The settings with the number of images that `training.minutes` were found to be; None: not measured yet."""
    if not settings.training.minutes:
        return settings
    found = length.read_length(length_file(workspace, version, settings))
    return length.with_length(settings, found) if found else None


def length_file(workspace: Workspace, version: str, settings: Settings) -> Path:
    """The file that keeps the number of images that `training.minutes` were found to be."""
    name = train_fingerprint(version, settings, compute_names(settings))[:16]
    return workspace.state / "lengths" / f"{name}.json"


def finished_request(workspace: Workspace, fresh: RunRecord) -> RunRecord | None:
    """The finished run of what `fresh` asks for, also if it continues a shorter one; None if there is none."""
    return finished_training(workspace, find_attempt(workspace, fresh).run_id)


def finished_training(workspace: Workspace, run_id: str) -> RunRecord | None:
    """The record of a finished training whose model files are whole; else None."""
    try:
        record = load_record(workspace, run_id)
    except GanpipeError:  # damaged: `earlier_record` says so, if it comes to that
        return None
    if record is None or record.state != "finished":
        return None
    if damage := generator_damage(run_folder(workspace, run_id) / "model"):
        log.warning(f"{damage} It is written again from the last checkpoint.")
        return None
    return record


def fingerprint_of(workspace: Workspace, version: str, settings: Settings) -> str:
    """The fingerprint of a whole run on this version of the data."""
    training = train_fingerprint(version, settings, compute_names(settings))
    style = settings.style
    pictures = {name: identify_images(workspace, getattr(style, name)) for name in ("contents", "styles")}
    extractor = choose_extractor(settings.evaluation).sha256
    networks = {"extractor": extractor, "style_network": style_weights(style.weights).id}
    return run_fingerprint(training, settings, pictures | networks)


def up_to_date(workspace: Workspace, version: str, settings: Settings) -> RunResult | None:
    """The result of the finished run with the same fingerprint, if all of it still exists, in MLflow too."""
    known = known_length(workspace, version, settings)
    earlier = finished_result(workspace, fingerprint_of(workspace, version, known)) if known else None
    record = finished_training(workspace, earlier.run) if earlier else None
    if earlier is None or record is None or lacks_mlflow(workspace, record):
        return None
    return replace(
        earlier,
        state="up_to_date",
        mlflow_run_id=record.mlflow_run_id,
        model_version=record.model_version,
        champion=record.champion,
    )


def find_up_to_date(workspace: Workspace, request: RunRequest) -> RunResult | None:
    """The same for a request that adds no images: what a schedule finds on most nights. Makes no dataset."""
    name, settings = request.dataset_name(), request.settings()
    if name not in dataset_names(workspace):
        return None
    return up_to_date(workspace, open_version(workspace, name, settings.data).version, settings)


def begun_training(workspace: Workspace, version: DatasetVersion, settings: Settings) -> RunRecord | None:
    """The record of the training that this request began earlier; None if there is none, or if it is damaged."""
    known = known_length(workspace, version.version, settings)
    if known is None:
        return None
    fresh = new_record(version.name, version.version, known, compute_names(known))
    try:
        return load_record(workspace, find_attempt(workspace, fresh).run_id)
    except GanpipeError:  # training says so
        return None


def cancelled_training(workspace: Workspace, version: DatasetVersion, settings: Settings) -> str | None:
    """The unfinished training of this request, if somebody has cancelled it."""
    begun = begun_training(workspace, version, settings)
    return begun.run_id if begun and begun.state == "cancelled" else None
