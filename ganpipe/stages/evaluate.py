"""The evaluate stage: judges a run's model, or a folder of images."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from ganpipe.compute.device import Compute, choose_compute
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.conditions import find_difference
from ganpipe.evaluation.evaluate import LEAST_IMAGES, evaluate
from ganpipe.evaluation.extractors import choose_extractor
from ganpipe.evaluation.sampling import generate_pixels, grid_pixels, read_folder, sample_grid
from ganpipe.evaluation.verdict import Evaluation
from ganpipe.imaging.paths import image_paths
from ganpipe.models.io import generator_damage, load_generator
from ganpipe.progress import Report, ignore
from ganpipe.reports.neighbors import save_suspects
from ganpipe.settings.schema import Settings
from ganpipe.stages.restore import restore_in_mlflow
from ganpipe.stores.activities import record_activity
from ganpipe.stores.dataset_shards import load_dataset, open_version_at
from ganpipe.stores.dataset_summaries import DatasetSummary, require_dataset, summarize_dataset
from ganpipe.stores.dataset_versions import DatasetVersion
from ganpipe.stores.model_registry import ModelRegistry
from ganpipe.stores.outbox import Outbox
from ganpipe.stores.run_files import SAMPLES, SUSPECTS_SHEET
from ganpipe.stores.run_records import RunRecord, find_record, run_folder, save_record
from ganpipe.stores.workspace import Workspace

log = logging.getLogger(__name__)


def check_judgeable(info: DatasetVersion | DatasetSummary) -> None:
    """Raises GanpipeError, before anything is trained, where too few images are held out to judge the model."""
    if info.holdout is not None and info.holdout < LEAST_IMAGES:
        raise GanpipeError(
            f"{info.name} has {info.images} images, of which {info.holdout} are held out; evaluation needs "
            f"{LEAST_IMAGES}. Add images, or raise data.holdout_fraction; `ganpipe train` trains without a verdict."
        )


def check_version(record: RunRecord, version: str) -> None:
    """Raises GanpipeError if this is not the version that the run was trained on."""
    if version != record.version:
        raise GanpipeError(
            f"Run {record.run_id} was trained on version {record.version} of {record.dataset}, not on {version}; "
            "a model is evaluated on the version that it was trained on."
        )


def check_data(workspace: Workspace, name: str, settings: Settings) -> None:
    """Refuses what can be refused by looking alone: before a lock is taken or a byte is fetched."""
    choose_extractor(settings.evaluation)
    require_dataset(workspace, name)
    check_judgeable(summarize_dataset(workspace, name, settings.data))


def check_model(record: RunRecord, folder: Path) -> None:
    """Raises GanpipeError if the run's model is damaged; training writes it again."""
    if damage := generator_damage(folder):
        raise GanpipeError(
            f"{damage} Write it again from the last checkpoint with: ganpipe train --dataset {record.dataset}, "
            "and the preset and settings of the run."
        )


@dataclass(frozen=True)
class Judged:
    """A run's evaluation and the sample grid."""

    record: RunRecord
    evaluation: Evaluation


def evaluate_champion(
    workspace: Workspace, dataset: str, settings: Settings, report: Report = ignore
) -> Judged:
    """Evaluates the dataset's champion again, on the dataset version that it was trained on.

    Raises:
        GanpipeError: the dataset has no champion, or its run is not here.
    """
    model = ModelRegistry(workspace).find_model("champion", dataset)
    record = find_record(workspace, str(model.run_id))
    version = open_version_at(workspace, record.dataset, record.version, record.resolved().data)
    check_judgeable(version)
    return evaluate_run(workspace, record, version, settings, report)


def evaluate_run(
    workspace: Workspace,
    record: RunRecord,
    version: DatasetVersion,
    settings: Settings,
    report: Report = ignore,
) -> Judged:
    """Evaluates the model of a finished run against the held-out images of its dataset version."""
    choose_extractor(settings.evaluation)
    record = restore_in_mlflow(workspace, record)
    folder = run_folder(workspace, record.run_id)
    check_model(record, folder / "model")
    G, config = load_generator(folder / "model")
    compute = evaluation_compute(settings)
    compute.place(G)
    check_version(record, version.version)
    data = load_dataset(workspace, version, record.resolved().data)
    options = settings.evaluation
    z_dim, labels = config["model"]["z_dim"], list(config["labels"].values())
    fake = generate_pixels(G, z_dim, labels, options.images, options.seed, compute)
    with record_activity(workspace, record.run_id, report) as activity:
        evaluation = evaluate(fake, data, options, compute, workspace.features, activity)
    shown = grid_pixels(G, z_dim, labels, options.grid_images, record.resolved().training.seed, compute)
    path = sample_grid(shown, data, options, folder / SAMPLES, record.origin())
    evaluation.grid = str(path)
    if record.evaluation and (why := find_difference(record.evaluation.conditions, evaluation.conditions)):
        log.warning(f"The earlier scores of run {record.run_id} are replaced. {why}")
    sheet = save_suspects(evaluation.suspects, fake, data, folder / SUSPECTS_SHEET, record.origin())
    record = save_record(workspace, replace(record, evaluation=evaluation))
    outbox = Outbox(workspace, record)
    outbox.artifacts([sheet], "evaluation")
    outbox.evaluation()
    return Judged(record, evaluation)


def check_generated(folder: Path) -> None:
    """Raises GanpipeError if there is no folder to evaluate, or it has too few images."""
    if not folder.is_dir():
        raise GanpipeError(f"There is no folder {folder} of generated images.")
    if (count := len(image_paths([folder]))) < LEAST_IMAGES:
        raise GanpipeError(
            f"{folder} has {count} image{'s' * (count != 1)}; evaluation needs at least {LEAST_IMAGES} generated images. "
            "Put more images there: ganpipe generate -n COUNT --out DIR draws them from a model."
        )


def evaluate_folder(
    workspace: Workspace,
    folder: Path,
    version: DatasetVersion,
    settings: Settings,
    report: Report = ignore,
) -> Evaluation:
    """Evaluates a folder of generated images, whoever made them."""
    data = load_dataset(workspace, version, settings.data)
    compute, options = evaluation_compute(settings), settings.evaluation
    return evaluate(read_folder(folder, data.shape), data, options, compute, workspace.features, report)


def evaluation_compute(settings: Settings) -> Compute:
    """Where models are evaluated: as they are trained."""
    return choose_compute(settings.training.device, settings.training.precision)
