"""Whether a whole run has been done already: its fingerprint and its result."""

from __future__ import annotations

from dataclasses import replace

from ganpipe.errors import GanpipeError
from ganpipe.evaluation.extractors import choose_extractor
from ganpipe.settings.schema import Settings
from ganpipe.stages.continuation import find_attempt
from ganpipe.stages.restore import lacks_mlflow
from ganpipe.stages.stylize import identify_images
from ganpipe.stages.train import compute_names, finished_training, known_length
from ganpipe.stores.dataset_versions import DatasetVersion
from ganpipe.stores.fingerprint import run_fingerprint, train_fingerprint
from ganpipe.stores.run_records import load_record, new_record
from ganpipe.stores.run_results import RunResult, finished_result
from ganpipe.stores.workspace import Workspace
from ganpipe.vgg19.weights import style_weights


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


def cancelled_training(workspace: Workspace, version: DatasetVersion, settings: Settings) -> str | None:
    """The unfinished training of this request, if somebody has cancelled it."""
    known = known_length(workspace, version.version, settings)
    if known is None:
        return None
    fresh = new_record(version.name, version.version, known, compute_names(known))
    try:
        begun = load_record(workspace, find_attempt(workspace, fresh).run_id)
    except GanpipeError:  # damaged: training says so
        return None
    return begun.run_id if begun and begun.state == "cancelled" else None
