"""The pipeline: version the data, prepare it, train, evaluate, register, stylize, report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect import runtime

from flows import tasks
from flows.links import MlflowLink
from flows.stylize import stylize_batch
from flows.turns import Skipped
from ganpipe.evaluation.verdict import Evaluation
from ganpipe.reports.report_card import Additions
from ganpipe.stages.evaluate import check_judgeable
from ganpipe.stages.report import RunReport
from ganpipe.stages.requests import RunRequest
from ganpipe.stages.room import check_room
from ganpipe.stages.run import cancelled_training, fingerprint_of, up_to_date
from ganpipe.stages.stylize import style_job
from ganpipe.stages.train import check_request
from ganpipe.stores.datasets import DatasetVersion
from ganpipe.stores.mlflow_store import require_tracking_server
from ganpipe.stores.run_records import RunRecord
from ganpipe.stores.run_results import RunResult, save_result
from ganpipe.stores.workspace import Workspace
from ganpipe.style.batch.report import StyleReport, mean_quality


class Stopwatch:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - started, 2)


def run_pipeline(
    place: Workspace, request: RunRequest, quiet: bool, wait: bool, resumes: bool = True
) -> RunResult:
    """The result of a whole run; the earlier one, if the images of the request are not new. Called in a flow.

    `wait`: for another trainer of this GPU. `resumes`: also a training that somebody has cancelled.

    Raises:
        Skipped: it was cancelled, and `resumes` is false.
    """
    name, settings = request.dataset_name(), request.settings()
    check_request(settings)
    require_tracking_server()
    timed = Stopwatch()

    with timed("data"):
        version = tasks.version_data(place, name, settings, request.source, quiet)
        check_judgeable(version)
        # A request without images was looked at before this was called; see `find_up_to_date`.
        if request.source and (earlier := up_to_date(place, version.version, settings)):
            return earlier
        if not resumes and (cancelled := cancelled_training(place, version, settings)):
            raise Skipped(f"run {cancelled} was cancelled; `ganpipe run` resumes it")
        check_room(place, version, settings)
        tasks.profile_data(place, version, settings, quiet)
        tasks.prepare_shards(place, version, settings)
    with timed("train"):
        settings = tasks.fix_length(place, version, settings, wait)
        link = MlflowLink(place)
        record = tasks.train(place, version, settings, wait, quiet, link.make)
    link.make(record)  # no training has begun: it was finished before
    with timed("evaluate"):
        judged = tasks.evaluate(place, record, version, settings, quiet)
        record = tasks.register(place, judged, version, settings, quiet)
    with timed("stylize"):
        styled = stylize_batch(style_job(place, settings), spread=False, quiet=quiet)
        tasks.log_stylized(place, record, styled)

    fingerprint = fingerprint_of(place, version.version, settings)
    sheet = Path(styled.sheet) if styled.sheet else None
    report = tasks.report(place, record, version, Additions(timed.seconds, sheet, mean_quality(styled)))
    result = summary(fingerprint, version, record, judged.evaluation, styled, report, timed.seconds)
    if not styled.failed:
        save_result(place, result)
    return result


def summary(
    fingerprint: str,
    version: DatasetVersion,
    record: RunRecord,
    evaluation: Evaluation,
    styled: StyleReport,
    report: RunReport,
    seconds: dict[str, float],
) -> RunResult:
    """The result of a finished run."""
    return RunResult(
        state="finished",
        fingerprint=fingerprint,
        dataset={"name": version.name, "version": version.version, "images": version.images},
        run=record.run_id,
        flow_run_id=runtime.flow_run.id,
        mlflow_run_id=record.mlflow_run_id,
        model_version=record.model_version,
        champion=record.champion,
        train=record.train,
        metrics=evaluation.metrics,
        verdict=evaluation.verdict,
        evidence=evaluation.evidence,
        notes=list(record.train.notes) if record.train else [],
        grid=evaluation.grid,
        stylized=[item.output for item in styled.items if item.state != "failed"],
        style_failures=[f"{i.name}: {i.reason}" for i in styled.items if i.state == "failed"],
        contact_sheet=styled.sheet,
        style_quality=mean_quality(styled),
        report_card=report.picture,
        film=report.film,
        gate=record.gate,
        seconds=seconds,
        advice=evaluation.advice,
        conditions=evaluation.conditions,
    )
