"""The chain's tasks: each body is one call of a stage. I/O is retried; training only goes on from a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from prefect import task

from flows.reporting import publish_report, publish_survey, reporter
from ganpipe import painting, stages, versioning
from ganpipe.console import IF_BUSY
from ganpipe.evaluation.judge import Evaluation
from ganpipe.lineage import RunRecord
from ganpipe.painting import StyleJob
from ganpipe.settings.schema import Settings
from ganpipe.style.batch import StyleReport
from ganpipe.style.painter import Done
from ganpipe.style.plan import Plan, Work
from ganpipe.versioning import DatasetInfo
from ganpipe.workspace import Workspace


def worth_a_retry(_task: Any, _run: Any, state: Any) -> bool:
    """Input and output may work the second time; what the user must mend, and a signal, will not."""
    try:
        state.result()
    except OSError:
        return True
    except BaseException:
        return False
    return False


@task(name="version data", retries=2, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def version_data(workspace: Workspace, dataset: str, settings: Settings, source: str | None) -> DatasetInfo:
    with reporter() as report:
        if source:
            versioning.add_dataset(workspace, source, dataset, settings.data, report)
        return versioning.ensure_dataset(workspace, dataset, settings.data, report)


@task(name="prepare shards", retries=2, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def prepare_shards(workspace: Workspace, dataset: str, settings: Settings) -> None:
    versioning.prepare_dataset(workspace, dataset, settings.data)


@task(name="survey data", retries=2, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def survey_data(workspace: Workspace, dataset: str, settings: Settings) -> Path:
    with reporter() as report:
        page = versioning.survey_dataset(workspace, dataset, settings.data, report)
    publish_survey(page)
    return page


@task(name="train", retries=1, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def train(workspace: Workspace, dataset: str, settings: Settings) -> RunRecord:
    with reporter("train") as report:
        return stages.train_model(
            workspace, dataset, settings, report, wait=os.environ.get(IF_BUSY) != "leave"
        )


@task(name="evaluate", retries=1, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def evaluate(workspace: Workspace, record: RunRecord, settings: Settings) -> stages.Judged:
    with reporter("evaluate") as report:
        return stages.evaluate_run(workspace, record, settings, report)


@task(name="register", retries=2, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def register(workspace: Workspace, record: RunRecord, evaluation: Evaluation) -> RunRecord:
    return stages.register_model(workspace, record, evaluation)


@task(name="plan pictures")
def plan_pictures(job: StyleJob) -> Plan:
    return painting.plan_job(job)


@task(name="school styles", retries=1, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def school_styles(job: StyleJob, plan: Plan) -> dict[Path, Path]:
    with reporter("student") as report:
        return painting.school_styles(job, plan, report)


@task(name="paint shard", retries=1, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def paint_shard(job: StyleJob, students: dict[Path, Path], works: list[Work]) -> Done:
    with reporter("stylise") as report:
        return painting.paint_works(job, works, students, report)


@task(name="finish pictures")
def finish_pictures(job: StyleJob, plan: Plan, parts: list[Done]) -> StyleReport:
    return painting.finish_job(job, plan, parts)


@task(name="track pictures", retries=2, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def track_pictures(job: StyleJob, report: StyleReport) -> str:
    return painting.track_batch(job, report)


@task(name="keep stylised", retries=2, retry_delay_seconds=5, retry_condition_fn=worth_a_retry)
def keep_stylised(workspace: Workspace, record: RunRecord, report: StyleReport) -> None:
    stages.keep_stylised(workspace, record, report)


@task(name="report")
def report_run(result: dict[str, Any]) -> None:
    publish_report(result)
