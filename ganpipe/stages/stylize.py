"""Stylization tied to the workspace: which images are meant, who stylizes them, and what MLflow hears of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ganpipe.compute.device import Compute, choose_compute
from ganpipe.files import escape_control, require_room, sha256_of_json
from ganpipe.progress import Report, ignore
from ganpipe.reports.contact_sheets import contact_sheets
from ganpipe.settings.schema import Settings
from ganpipe.stages.style_images import in_folder, resolve_images
from ganpipe.stores.activities import record_activity
from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.model_registry import ModelRegistry
from ganpipe.stores.run_records import RunRecord
from ganpipe.stores.workspace import Workspace
from ganpipe.style.batch.plan import BatchPlan, BatchTask, Variant, bytes_to_write, plan_batch
from ganpipe.style.batch.report import StyleReport, summarize_batch
from ganpipe.style.batch.runner import BatchOutcome, run_batch
from ganpipe.style.feedforward.break_even import train_or_find_networks
from ganpipe.style.motion import require_optical_flow
from ganpipe.vgg19.weights import style_weights

BYTES_BESIDE = 2**20  # manifest and contact sheet of a small batch


@dataclass(frozen=True)
class StyleRequest:
    """A batch as it can be sent to another process or machine: words and settings, no images.

    `variants`: of a sweep (`plan_sweep`); without them, every image is stylized with `settings`.
    """

    workspace: str
    contents: tuple[str, ...]
    styles: tuple[str, ...]
    out: str
    settings: Settings
    masks: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()

    def open_workspace(self) -> Workspace:
        """The workspace, with the tools pointed into it."""
        workspace = Workspace(Path(self.workspace))
        workspace.activate()
        return workspace


def plan_batch_of(job: StyleRequest) -> BatchPlan:
    """Plans the batch: what is left to do, and what exists already.

    Raises:
        GanpipeError: an image is not there, the settings do not fit, `out` cannot hold the results, or videos need OpenCV.
    """
    workspace = job.open_workspace()
    out = Path(job.out)
    contents = resolve_images(workspace, job.contents, workspace.root, [out])
    styles = resolve_images(workspace, job.styles, workspace.root, [out])
    masks = [Path(in_folder(mask, workspace.root)) for mask in job.masks]
    variants = job.variants or (Variant("", job.settings.style),)
    plan = plan_batch(contents.paths, styles.paths, out, variants, masks)
    if any(task.video for task in plan.tasks):
        require_optical_flow()
    if plan.tasks:
        require_room(out, bytes_to_write(plan) + BYTES_BESIDE)
    return replace(plan, left_out=[*contents.left_out, *styles.left_out])


def train_feedforward(job: StyleRequest, plan: BatchPlan, report: Report = ignore) -> dict[Path, Path]:
    """The feed-forward network of each style that has or is worth one, none in a sweep; a new one is registered in MLflow."""
    if job.variants:
        return {}
    workspace = job.open_workspace()
    trained = train_or_find_networks(
        plan, job.settings.style, _compute(job), workspace.state / "feedforward", report
    )
    for feedforward in trained:
        if feedforward.new:
            ModelRegistry(workspace).register_feedforward(
                escape_control(feedforward.style.stem), feedforward.folder, feedforward.seconds
            )
    return {feedforward.style: feedforward.folder for feedforward in trained}


def stylize_tasks(
    job: StyleRequest,
    tasks: Sequence[BatchTask],
    feedforward_networks: Mapping[Path, Path],
    report: Report = ignore,
) -> BatchOutcome:
    """Stylizes part of a plan, here: on whichever machine this is called."""
    with record_activity(Workspace(Path(job.workspace)), job.out, report) as activity:
        return run_batch(tasks, _compute(job), activity, feedforward_networks)


def _compute(job: StyleRequest) -> Compute:
    return choose_compute(job.settings.training.device, job.settings.training.precision)


def finish_batch(job: StyleRequest, plan: BatchPlan, parts: Sequence[BatchOutcome]) -> StyleReport:
    """The report of a batch, and its contact sheets."""
    result = summarize_batch(plan, parts, style_weights(job.settings.style.weights).id)
    shown = [item for item in result.items if item.state != "failed"]
    if shown:
        sheets = contact_sheets(shown, Path(job.out), bool(plan.tasks))
        result.sheets = [str(path) for path in sheets]
    return result


def stylize_here(job: StyleRequest, report: Report = ignore) -> StyleReport:
    """A whole batch in this process."""
    plan = plan_batch_of(job)
    feedforward_networks = train_feedforward(job, plan, report)
    return finish_batch(job, plan, [stylize_tasks(job, plan.tasks, feedforward_networks, report)])


def log_batch_run(job: StyleRequest, result: StyleReport) -> str:
    """An MLflow run for a batch: recipe, means, all items and sheets; returns its id."""
    return Tracker(job.open_workspace()).style_batch(job.settings.style, result)


def style_job(workspace: Workspace, settings: Settings) -> StyleRequest:
    """The settings' contents in their styles; results of the same settings are kept and not stylized again, whichever run
    asks for them: none of them is named in an image that does not depend on it."""
    style = settings.style
    key = sha256_of_json([style.model_dump(), style_weights(style.weights).id])[:12]
    out = str(workspace.state / "stylized" / key)
    return StyleRequest(
        str(workspace.root),
        (style.contents,),
        (style.styles,),
        out,
        settings,
    )


def log_stylized(workspace: Workspace, record: RunRecord, result: StyleReport) -> None:
    """A run's stylized images and sheets as artifacts of its MLflow run."""
    tracker = Tracker(workspace)
    stylized_images = [item.output for item in result.items if item.state != "failed"]
    for path in dict.fromkeys([*stylized_images, *result.sheets]):
        tracker.picture(str(record.mlflow_run_id), Path(path), "stylized")
