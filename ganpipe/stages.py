"""The four stages as plain functions: each ties the core to DVC's data, MLflow's records and the run folder.

Prefect's tasks (flows/tasks.py) and the commands (ganpipe/cli.py) both call these.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ganpipe.data.shards import PreparedData
from ganpipe.errors import GanpipeError, Interrupted
from ganpipe.evaluation.judge import (
    LEAST_HELD_OUT,
    Evaluation,
    evaluate,
    fixed_pixels,
    generate_pixels,
    read_folder,
    sample_grid,
)
from ganpipe.files import read_json, sha256_of, sha256_of_json, write_json
from ganpipe.images import ImageShape
from ganpipe.lineage import (
    RunRecord,
    finished_result,
    load_record,
    new_record,
    run_fingerprint,
    run_folder,
    save_record,
    train_fingerprint,
)
from ganpipe.models import check_shape
from ganpipe.models.weights import CONFIG, load_generator, save_generator
from ganpipe.painting import MODEL, StyleJob, picture_paths
from ganpipe.perceptual import style_weights, weights_id
from ganpipe.progress import Report, ignore
from ganpipe.settings.schema import Settings
from ganpipe.style.batch import StyleReport
from ganpipe.tracking import Tracker
from ganpipe.training.augment import parse_kinds
from ganpipe.training.claim import claimed, gpu_names
from ganpipe.training.device import Compute, choose_compute, training_compute
from ganpipe.training.launch import Job, check_processes, train_together
from ganpipe.training.loop import train
from ganpipe.training.plan import PLAN
from ganpipe.training.report import Outbox
from ganpipe.versioning import (
    DatasetInfo,
    dataset_info,
    load_dataset,
    pointer_text,
    prepared_folder,
    survey_dataset,
)
from ganpipe.workspace import Workspace

log = logging.getLogger(__name__)

TRAINER_WAIT_S = 24 * 3600.0


def compute_names(settings: Settings) -> tuple[str, str]:
    """Device and precision as they enter a fingerprint."""
    compute = training_compute(settings.training)
    return compute.device.type, compute.precision


def fingerprint_of(workspace: Workspace, version: str, settings: Settings) -> str:
    """The fingerprint of a whole run on this version of the data."""
    training = train_fingerprint(version, settings, compute_names(settings))
    style = settings.style
    pictures = {name: _pictures_id(workspace, getattr(style, name)) for name in ("contents", "styles")}
    networks = {"network": weights_id(), "style_network": style_weights(style.weights).id}
    return run_fingerprint(training, settings, pictures | networks)


def up_to_date(workspace: Workspace, version: str, settings: Settings) -> dict[str, Any] | None:
    """What the finished run with the same fingerprint made, if it is all still there."""
    return finished_result(workspace, fingerprint_of(workspace, version, settings))


def check_request(settings: Settings) -> None:
    """What can be known to be wrong before any image is read; raises GanpipeError."""
    channels = settings.data.channels or 3
    check_shape(settings.model, ImageShape(channels, settings.data.height_px, settings.data.width_px))
    compute_names(settings)
    check_processes(settings.training)
    parse_kinds(settings.augment.kinds)


def check_judgeable(info: DatasetInfo) -> None:
    """Raises GanpipeError, before anything is trained, where too few images are held out to judge the model."""
    if info.holdout < LEAST_HELD_OUT:
        raise GanpipeError(
            f"{info.name} has {info.images} images, of which {info.holdout} are held out; evaluation needs "
            f"{LEAST_HELD_OUT}. Add images, or raise data.holdout_fraction; `ganpipe train` trains without a verdict."
        )


@contextmanager
def alone(workspace: Workspace, settings: Settings, wait: bool) -> Iterator[None]:
    """Nobody else trains in this workspace or on these GPUs; waits for whoever does, or leaves, saying who it is."""
    on_gpu = training_compute(settings.training).device.type == "cuda"
    with (
        workspace.lock("training", TRAINER_WAIT_S if wait else 0.0, log.warning),
        claimed(gpu_names(settings.training.processes) if on_gpu else [], wait, log.warning),
    ):
        yield


def train_model(
    workspace: Workspace, dataset: str, settings: Settings, report: Report = ignore, wait: bool = True
) -> RunRecord:
    """Trains, or goes on training, or finds that this was done: the record of the finished run.

    `wait`: for another trainer of this workspace or GPU; else GanpipeError says who it is.

    Raises:
        Interrupted: a signal; the checkpoint is written and the MLflow run marked.
        GanpipeError: whatever the user can mend.
    """
    check_request(settings)
    info = dataset_info(workspace, dataset, settings.data)
    fresh = new_record(dataset, info.version, settings, compute_names(settings))
    if done := finished_training(workspace, fresh.run_id):
        return done
    with alone(workspace, settings, wait):
        if done := finished_training(workspace, fresh.run_id):  # by whom we waited for
            return done
        record = load_record(workspace, fresh.run_id) or fresh
        data = load_dataset(workspace, dataset, settings.data)
        if data.version != record.version:
            raise GanpipeError(
                f"{dataset} was changed to version {data.version} while this training waited; run again to train on that."
            )
        tracker = Tracker(workspace)
        run_id = tracker.begin(record, pointer_text(workspace, dataset))
        tracker.log_data(run_id, survey_dataset(workspace, dataset, settings.data, report))
        record = save_record(workspace, replace(record, state="running", mlflow_run_id=run_id))
        folder = run_folder(workspace, record.run_id)
        outbox = Outbox(
            points=tracker.curve(run_id).write,
            picture=lambda path, nimg: tracker.picture(run_id, path, "grids"),
            report=report,
        )
        try:
            result = _trained(workspace, data, settings, folder, outbox, record)
        except (Interrupted, KeyboardInterrupt):
            tracker.end(run_id, "interrupted")
            save_record(workspace, replace(record, state="interrupted"))
            raise
        except BaseException:
            tracker.end(run_id, "failed")
            save_record(workspace, replace(record, state="failed"))
            raise
        summary = {name: result[name] for name in SUMMARY} | {"notes": list(result["notes"])}
        summary["images_per_second"] = round(summary["images_per_second"], 2)
        numbers = {"nimg": float(summary["nimg"]), "images_per_second": summary["images_per_second"]}
        tags = {"ganpipe.weights_sha256": summary["weights_sha256"]}
        if summary["notes"]:
            tags["ganpipe.notes"] = " ".join(summary["notes"])
        tracker.outcome(run_id, numbers, tags)
        tracker.end(run_id, "finished")
        return save_record(workspace, replace(record, state="finished", train=summary))


def finished_training(workspace: Workspace, run_id: str) -> RunRecord | None:
    """The record of a finished training whose model files are there; else None."""
    record = load_record(workspace, run_id)
    intact = record is not None and (run_folder(workspace, run_id) / "model" / CONFIG).exists()
    return record if record and record.state == "finished" and intact else None


SUMMARY = ("nimg", "images_per_second", "device", "precision", "weights_sha256")


def _trained(
    workspace: Workspace, data: PreparedData, settings: Settings, folder: Path, outbox: Outbox, record: RunRecord
) -> dict[str, Any]:  # fmt: skip
    """Trains, in this process or in several, and writes the model's files."""
    if settings.training.processes > 1:
        job = Job(
            prepared_folder(workspace, record.dataset, settings.data),
            record.version,
            settings,
            folder,
            record.origin(),
        )
        return train_together(job, outbox)
    result = train(data, settings, folder, outbox, record.origin())
    save_generator(folder / "model", result.G_ema, settings.model, data.shape, record.origin(), result.labels)
    return vars(result)


@dataclass(frozen=True)
class Judged:
    """A run's evaluation and the sample grid."""

    record: RunRecord
    evaluation: Evaluation


def evaluate_run(
    workspace: Workspace, record: RunRecord, settings: Settings, report: Report = ignore
) -> Judged:
    """Judges the model of a finished run against the held-out images that it never saw."""
    folder = run_folder(workspace, record.run_id)
    G, config = load_generator(folder / "model")
    compute = _evaluation_compute(settings)
    compute.place(G)
    info = dataset_info(workspace, record.dataset, record.resolved().data)
    if info.version != record.version:
        raise GanpipeError(
            f"Run {record.run_id} was trained on version {record.version} of {record.dataset}, which now is at "
            f"{info.version}; train on the new version, or bring the old one back with dvc checkout."
        )
    data = load_dataset(workspace, record.dataset, record.resolved().data)
    options = settings.evaluation
    z_dim, labels = config["model"]["z_dim"], list(config["labels"].values())
    fake = generate_pixels(G, z_dim, labels, options.images, options.seed, compute)
    evaluation = evaluate(fake, data, options, compute, report)
    shown = fixed_pixels(G, z_dim, labels, options.grid_images, record.resolved().training.seed, compute)
    path = sample_grid(shown, data, options, folder / "samples.png", record.origin())
    evaluation.grid = str(path)
    tracker = Tracker(workspace)
    run_id = str(record.mlflow_run_id)
    tracker.picture(run_id, path, "evaluation")
    tracker.client.log_dict(run_id, evaluation.as_dict(), "evaluation/evaluation.json")
    numbers = {name: metric.value for name, metric in evaluation.metrics.items()}
    tracker.outcome(run_id, numbers, {"ganpipe.verdict": evaluation.verdict})
    record = save_record(workspace, replace(record, evaluation=evaluation.as_dict()))
    return Judged(record, evaluation)


def evaluate_folder(
    workspace: Workspace, folder: Path, dataset: str, settings: Settings, report: Report = ignore
) -> Evaluation:
    """Judges a folder of generated pictures, whoever made them."""
    if not folder.is_dir():
        raise GanpipeError(f"There is no folder {folder} of generated images.")
    data = load_dataset(workspace, dataset, settings.data)
    return evaluate(
        read_folder(folder, data.shape), data, settings.evaluation, _evaluation_compute(settings), report
    )


def _evaluation_compute(settings: Settings) -> Compute:
    return choose_compute(settings.training.device, settings.training.precision)


def register_model(workspace: Workspace, record: RunRecord, evaluation: Evaluation) -> RunRecord:
    """Registers the run's model; it becomes champion if it is the first or scores better."""
    tracker = Tracker(workspace)
    reference = tracker.register(record, run_folder(workspace, record.run_id) / "model")
    metric = evaluation.metrics.get("kd_vgg19")
    champion = tracker.consider(reference, metric.value if metric else None)
    return save_record(workspace, replace(record, model_version=str(reference), champion=champion))


def _pictures_id(workspace: Workspace, spec: str) -> str:
    """What identifies the pictures that a setting names, without painting or generating any."""
    if spec.startswith(("sample:", MODEL)):
        return spec
    return sha256_of_json([[p.name, sha256_of(p)] for p in picture_paths(workspace, [spec], workspace.root)])


def style_job(workspace: Workspace, settings: Settings, record: RunRecord) -> StyleJob:
    """A run's contents in the run's styles; results of the same settings are kept and not painted again."""
    style = settings.style
    key = sha256_of_json([style.model_dump(), style_weights(style.weights).id])[:12]
    out = str(workspace.state / "stylized" / key)
    return StyleJob(
        str(workspace.root), (style.contents,), (style.styles,), out, settings, origin=record.origin()
    )


def keep_stylised(workspace: Workspace, record: RunRecord, result: StyleReport) -> None:
    """A run's stylised pictures, sheets and chart as artifacts of its MLflow run."""
    tracker = Tracker(workspace)
    painted = [item.output for item in result.items if item.state != "failed"]
    for path in dict.fromkeys([*painted, *result.sheets, *([result.chart] if result.chart else [])]):
        tracker.picture(str(record.mlflow_run_id), Path(path), "stylized")


def reproduce(workspace: Workspace, record: RunRecord, report: Report = ignore) -> dict[str, Any]:
    """Trains a finished run anew in a folder of its own and compares the weights, bit for bit.

    Raises:
        GanpipeError: the run is not finished, or data, source or packages are no longer those of the run.
    """
    if record.state != "finished" or not record.train:
        raise GanpipeError(f"Run {record.run_id} is {record.state}; only a finished run can be reproduced.")
    settings = record.resolved()
    now = new_record(record.dataset, dataset_info(workspace, record.dataset, settings.data).version, settings,
                     compute_names(settings))  # fmt: skip
    for what, then, today in (
        ("the data", record.version, now.version),
        ("ganpipe's source", record.source_sha256, now.source_sha256),
        ("the installed packages", record.environment, now.environment),
        ("the device", record.compute, now.compute),
    ):
        if then != today:
            raise GanpipeError(
                f"Run {record.run_id} cannot be reproduced here: {what} changed ({then} then, {today} now)."
            )
    data = load_dataset(workspace, record.dataset, settings.data)
    folder = run_folder(workspace, record.run_id) / "reproduction"
    # The same split of each batch: what memory is free today must not decide over the last digits.
    write_json(folder / PLAN, read_json(run_folder(workspace, record.run_id) / PLAN))
    result = _trained(workspace, data, settings, folder, Outbox(report=report), record)
    same = result["weights_sha256"] == record.train["weights_sha256"]
    shutil.rmtree(folder, ignore_errors=True)
    return {"run": record.run_id, "identical": same, "weights_sha256": result["weights_sha256"],
            "expected": record.train["weights_sha256"]}  # fmt: skip
