"""Trials: trainings that are compared by their validation energy, nested under one run of MLflow."""

from __future__ import annotations

from collections.abc import Callable

from ganpipe.errors import GanpipeError
from ganpipe.models.registry import MODELS
from ganpipe.settings.schema import Settings
from ganpipe.stages.continuation import CHECKPOINTS
from ganpipe.stages.gc import delete_all_checkpoints
from ganpipe.stores.dataset_versions import DatasetVersion
from ganpipe.stores.outbox import Outbox
from ganpipe.stores.run_records import RunRecord, all_records, run_folder
from ganpipe.stores.workspace import Workspace
from ganpipe.training.algorithms import ALGORITHMS
from ganpipe.training.gan import GanAlgorithm
from ganpipe.training.validation import LEAST_HELD_OUT

VALIDATIONS = 4  # of each trial, at equal distances
PARENT_TAG = "mlflow.parentRunId"  # MLflow's pages nest a run below the one that it names


def check_comparable(version: DatasetVersion, settings: Settings) -> None:
    """Raises GanpipeError if trainings of these settings have no validation energy to be compared by."""
    if not settings.training.validation_images:
        raise GanpipeError(
            "training.validation_images is 0, and trials are compared by the validation energy; set it to 256, for example."
        )
    if version.holdout < LEAST_HELD_OUT:
        raise GanpipeError(
            f"{version.name} has {version.holdout} images held out, and trials are compared on at least {LEAST_HELD_OUT}; "
            "add images, or raise data.holdout_fraction."
        )


def has_discriminator(settings: Settings) -> bool:
    """Whether the model is a GAN."""
    return issubclass(ALGORITHMS[MODELS[settings.model.name].algorithm], GanAlgorithm)


def with_validations(settings: Settings) -> Settings:
    """The settings of a trial: validated after each quarter, and saved at shares of its length."""
    options = settings.training
    quarter = max(options.batch_images, options.total_images // VALIDATIONS)
    return settings.with_values({"training.validate_every_images": quarter, "training.save_every_images": 0})


def nest_under(workspace: Workspace, parent: str) -> Callable[[RunRecord], None]:
    """Nests the MLflow run of a record that training has begun."""
    return lambda record: Outbox(workspace, record).tags({PARENT_TAG: parent})


def drop_checkpoints(workspace: Workspace, sweep: str, kept_run: str | None) -> None:
    """Deletes the checkpoints of the sweep's ended trials but those of one run; models, curves and grids stay."""
    for record in all_records(workspace):
        if record.sweep == sweep and record.is_ended_trial and record.run_id != kept_run:
            delete_all_checkpoints(run_folder(workspace, record.run_id) / CHECKPOINTS)


def energy_of(record: RunRecord) -> float:
    """The validation energy of a finished training's model."""
    validation = record.train.validation if record.train else None
    if validation is None or validation.energy is None:
        raise GanpipeError(f"Run {record.run_id} has no validation energy, so that it cannot be compared.")
    return validation.energy
