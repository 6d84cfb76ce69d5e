"""A run as people see it in Prefect: progress, report and images as artifacts."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)

from flows.runs import call_prefect
from ganpipe.console import Bars
from ganpipe.files import read_json
from ganpipe.progress import Progress, Report
from ganpipe.reports.embedded import small_data_uri
from ganpipe.stages.report import RunReport
from ganpipe.stores.addresses import running_servers
from ganpipe.stores.run_records import RunRecord
from ganpipe.stores.workspace import Workspace

UPDATE_EVERY_S = 5.0


class ProgressArtifact:
    """A progress bar on Prefect's page, brought up to date every UPDATE_EVERY_S while the server answers."""

    def __init__(self, stage: str) -> None:
        self.stage, self.artifact, self.updated = stage, None, time.monotonic()
        self.update(0.0)

    artifact: Any  # UUID; None until the server has it

    def __call__(self, p: Progress) -> None:
        now = time.monotonic()
        if p.total and (now - self.updated > UPDATE_EVERY_S or p.done >= p.total):
            self.updated = now
            self.update(min(100.0, 100 * p.done / p.total))

    def update(self, percent: float) -> None:
        def publish() -> None:
            if self.artifact is None:
                key, about = f"{self.stage}-progress", f"{self.stage}: share done"
                self.artifact = create_progress_artifact(progress=percent, key=key, description=about)
            else:
                update_progress_artifact(self.artifact, progress=percent)

        call_prefect(publish)


@contextmanager
def report_progress(progress_of: str | None = None, quiet: bool = False) -> Iterator[Report]:
    """A report that draws a bar unless `quiet` and, if `progress_of` names a stage, updates a progress artifact."""
    artifact = ProgressArtifact(progress_of) if progress_of else None
    alone = threading.current_thread() is threading.main_thread()  # two bars would write over each other
    with Bars(quiet=quiet or not alone) as bars:

        def report(p: Progress) -> None:
            bars(p)
            if artifact:
                artifact(p)

        yield report


def publish_dataset_page(page: Path) -> None:
    """The profile of a dataset as a Prefect artifact, with the contact sheet inside."""
    profile = read_json(page.with_suffix(".json"))
    width, height = profile["width_px"], profile["height_px"]
    lines = [
        f"# Dataset {profile['name']}",
        "",
        f"`{profile['version']}`: {profile['images']:,} images, {profile['train']:,} to train on, "
        f"{profile['holdout']:,} held out; "
        f"{width['low']:g}×{height['low']:g} to {width['high']:g}×{height['high']:g} pixels, median "
        f"{width['median']:g}×{height['median']:g}; {profile['gray']:,} gray, {profile['dark']:,} dark, "
        f"{profile['blurred']:,} blurred; {profile['near_copies']:,} near copies in {profile['near_groups']:,} groups.",
        "",
        *[f"- {sentence}" for sentence in profile["advice"]],
        "",
        f"![64 images spread over the dataset]({small_data_uri(page.with_name('contact-sheet.png'))})",
        "",
        f"The whole page: `{page}`",
    ]
    text = "\n".join(lines)
    call_prefect(lambda: create_markdown_artifact(text, key="dataset", description="What the data look like"))


def publish_report(workspace: Workspace, record: RunRecord, report: RunReport) -> None:
    """The verdict with the sample grid, and where the report card is, as Prefect artifacts."""
    grid = record.evaluation.grid if record.evaluation else None
    text = _summarize(report, Path(grid) if grid else None)
    call_prefect(lambda: create_markdown_artifact(text, key="report", description="What this run made"))
    servers = running_servers(workspace)  # an image artifact wants an HTTP address
    if servers and grid:
        url = f"{servers.mlflow}/get-artifact?path=evaluation/samples.png&run_uuid={record.mlflow_run_id}"
        about = "Generated beside real images"
        call_prefect(lambda: create_image_artifact(image_url=url, key="sample-grid", description=about))


def _summarize(report: RunReport, grid: Path | None) -> str:
    """The beginning of a report card, in Markdown."""
    card = report.card
    sentences = [*card.evidence, *([f"Next: {card.advice}"] if card.advice else []), *card.gate]
    lines = [
        f"# {card.dataset}: {card.verdict}",
        "",
        *[f"- {escape_markdown(sentence)}" for sentence in sentences],
        "",
        *([f"![Generated beside real images]({small_data_uri(grid)})", ""] if grid else []),
        f"The whole report: `{report.page}`",
        "",
        escape_markdown(card.origin),
    ]
    return "\n".join(lines)


def escape_markdown(text: str) -> str:
    """The text as it stands, whatever marks are in it: names of labels and files are a stranger's."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~-])", r"\\\1", text)
