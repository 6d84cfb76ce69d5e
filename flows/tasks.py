"""The tasks of the pipeline: each body is one call of a stage. I/O is retried; training retries only by resuming."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.artifacts import publish_dataset_page, publish_report, report_progress
from flows.stops import task
from ganpipe.reports.report_card import Additions
from ganpipe.settings.schema import Settings
from ganpipe.stages import data, gc, stylize
from ganpipe.stages import evaluate as evaluate_stage
from ganpipe.stages import train as train_stage
from ganpipe.stages.evaluate import Judged, evaluate_run
from ganpipe.stages.promote import register_model
from ganpipe.stages.report import RunReport, report_run
from ganpipe.stages.stylize import StyleRequest
from ganpipe.stores import datasets
from ganpipe.stores.dataset_shards import prepare_version
from ganpipe.stores.datasets import DatasetVersion
from ganpipe.stores.run_records import RunRecord
from ganpipe.stores.workspace import Workspace
from ganpipe.style.batch.plan import BatchPlan, BatchTask
from ganpipe.style.batch.report import StyleReport
from ganpipe.style.batch.runner import BatchOutcome


def worth_a_retry(_task: Any, _run: Any, state: Any) -> bool:
    """Retries I/O errors only; a user's error or a signal would come again."""
    try:
        state.result()
    except OSError:
        return True
    except BaseException:
        return False
    return False


@task(name="version data", retries=2, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def version_data(
    workspace: Workspace, dataset: str, settings: Settings, source: str | None, quiet: bool
) -> DatasetVersion:
    with report_progress(quiet=quiet) as report:
        if source:
            datasets.add_dataset(workspace, source, dataset, settings.data, report)
        return datasets.ensure_dataset(workspace, dataset, settings.data, report)


@task(name="prepare shards", retries=2, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def prepare_shards(workspace: Workspace, version: DatasetVersion, settings: Settings) -> None:
    prepare_version(workspace, version, settings.data)


@task(name="profile data", retries=2, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def profile_data(workspace: Workspace, version: DatasetVersion, settings: Settings, quiet: bool) -> Path:
    with report_progress(quiet=quiet) as report:
        page = data.write_page(workspace, version, settings.data, report)
    publish_dataset_page(page)
    return page


@task(name="fix length")
def fix_length(
    workspace: Workspace, version: DatasetVersion, settings: Settings, wait_if_busy: bool
) -> Settings:
    return train_stage.fix_length(workspace, version, settings, wait_if_busy)


@task(name="train", retries=1, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def train(
    workspace: Workspace,
    version: DatasetVersion,
    settings: Settings,
    wait_if_busy: bool,
    quiet: bool,
    on_begin: Callable[[RunRecord], object],
) -> RunRecord:
    with report_progress("train", quiet) as report:
        return train_stage.train_model(workspace, version, settings, report, wait_if_busy, on_begin)


@task(name="evaluate", retries=1, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def evaluate(
    workspace: Workspace, record: RunRecord, version: DatasetVersion, settings: Settings, quiet: bool
) -> Judged:
    with report_progress("evaluate", quiet) as report:
        return evaluate_run(workspace, record, version, settings, report)


@task(name="register", retries=2, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def register(
    workspace: Workspace, judged: Judged, version: DatasetVersion, settings: Settings, quiet: bool
) -> RunRecord:
    with report_progress("compare", quiet) as report:
        return register_model(workspace, judged.record, judged.evaluation, version, settings, report)


@task(name="evaluate champion", retries=1, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def evaluate_champion(workspace: Workspace, dataset: str, settings: Settings) -> Judged:
    with report_progress("evaluate", quiet=True) as report:
        return evaluate_stage.evaluate_champion(workspace, dataset, settings, report)


@task(name="verify data", retries=2, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def verify_data(workspace: Workspace, dataset: str, settings: Settings) -> datasets.VerifyResult:
    with report_progress("verify", quiet=True) as report:
        return datasets.verify_dataset(workspace, dataset, settings.data, report)


@task(name="free room")
def collect(workspace: Workspace, settings: Settings) -> gc.Plan:
    return gc.collect(workspace, settings)


@task(name="plan batch")
def plan_batch(job: StyleRequest) -> BatchPlan:
    return stylize.plan_batch_of(job)


@task(name="train feed-forward", retries=1, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def train_feedforward(job: StyleRequest, plan: BatchPlan, quiet: bool) -> dict[Path, Path]:
    with report_progress("feed-forward", quiet) as report:
        return stylize.train_feedforward(job, plan, report)


@task(name="stylize shard", retries=1, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def stylize_shard(
    job: StyleRequest, networks: dict[Path, Path], tasks: list[BatchTask], quiet: bool
) -> BatchOutcome:
    with report_progress("stylize", quiet) as report:
        return stylize.stylize_tasks(job, tasks, networks, report)


@task(name="finish batch")
def finish_batch(job: StyleRequest, plan: BatchPlan, parts: list[BatchOutcome]) -> StyleReport:
    return stylize.finish_batch(job, plan, parts)


@task(name="log batch", retries=2, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def log_batch_run(job: StyleRequest, report: StyleReport) -> str:
    return stylize.log_batch_run(job, report)


@task(name="log stylized", retries=2, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def log_stylized(workspace: Workspace, record: RunRecord, report: StyleReport) -> None:
    stylize.log_stylized(workspace, record, report)


@task(name="report", retries=2, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def report(
    workspace: Workspace, record: RunRecord, version: DatasetVersion, additions: Additions
) -> RunReport:
    made = report_run(workspace, record, version, additions)
    publish_report(workspace, record, made)
    return made
