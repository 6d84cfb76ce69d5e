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
from ganpipe.stages.report import RunReport
from ganpipe.stores.addresses import Addresses, running_servers
from ganpipe.stores.run_records import RunRecord
from ganpipe.stores.workspace import Workspace

UPDATE_EVERY_S = 5.0
SAMPLES, CONTACT_SHEET = "evaluation/samples.png", "data/contact-sheet.png"  # MLflow's artifacts of a run


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
    """The profile of a dataset as a Prefect artifact."""
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
        f"The whole page, with a contact sheet: `{page}`",
    ]
    text = "\n".join(lines)
    call_prefect(lambda: create_markdown_artifact(text, key="dataset", description="What the data look like"))


def publish_report(workspace: Workspace, record: RunRecord, report: RunReport) -> None:
    """The verdict, and where the report card is, as Prefect artifacts; pictures by their address in MLflow.

    A picture inside an artifact would fill Prefect's database; without MLflow's server only its path is told.
    """
    servers = running_servers(workspace)
    text = _summarize(report, record, servers)
    call_prefect(lambda: create_markdown_artifact(text, key="report", description="What this run made"))
    if servers and record.evaluation and record.evaluation.grid:
        url = servers.artifact(str(record.mlflow_run_id), SAMPLES)
        about = "Generated beside real images"
        call_prefect(lambda: create_image_artifact(image_url=url, key="sample-grid", description=about))


def _summarize(report: RunReport, record: RunRecord, servers: Addresses | None) -> str:
    """The beginning of a report card, in Markdown."""
    card = report.card
    sentences = [*card.evidence, *([f"Next: {card.advice}"] if card.advice else []), *card.gate]
    return "\n".join(
        [
            f"# {card.dataset}: {card.verdict}",
            "",
            *[f"- {escape_markdown(sentence)}" for sentence in sentences],
            "",
            *_linked_pictures(record, servers),
            f"The whole report: `{report.page}`",
            "",
            escape_markdown(card.origin),
        ]
    )


def _linked_pictures(record: RunRecord, servers: Addresses | None) -> list[str]:
    if servers is None:
        return []
    run_id = str(record.mlflow_run_id)
    return [
        f"![Generated beside real images]({servers.artifact(run_id, SAMPLES)})",
        "",
        f"![Images of the dataset]({servers.artifact(run_id, CONTACT_SHEET)})",
        "",
        f"[This run in MLflow]({servers.mlflow_run_page(run_id, record.mlflow_experiment_id)})",
        "",
    ]


def escape_markdown(text: str) -> str:
    """The text as it stands, whatever marks are in it: names of labels and files are a stranger's."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~-])", r"\\\1", text)
