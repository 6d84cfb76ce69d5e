"""A run as people see it in Prefect: progress, report and images as artifacts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)

from ganpipe.console import Bars
from ganpipe.files import read_json
from ganpipe.progress import Progress, Report
from ganpipe.reports.run_report import data_uri, report_markdown
from ganpipe.stores.addresses import running_servers
from ganpipe.stores.run_results import RunResult
from ganpipe.stores.workspace import Workspace

UPDATE_EVERY_S = 5.0


@contextmanager
def report_progress(progress_of: str | None = None, quiet: bool = False) -> Iterator[Report]:
    """A report that draws a bar unless `quiet` and, if `progress_of` names a stage, updates a progress artifact."""
    artifact: UUID | None = None
    if progress_of:
        key = f"{progress_of}-progress"
        artifact = create_progress_artifact(progress=0.0, key=key, description=f"{progress_of}: share done")  # type: ignore[assignment]
    updated = time.monotonic()

    alone = threading.current_thread() is threading.main_thread()  # two bars would write over each other
    with Bars(quiet=quiet or not alone) as bars:

        def report(p: Progress) -> None:
            nonlocal updated
            bars(p)
            now = time.monotonic()
            if artifact and p.total and (now - updated > UPDATE_EVERY_S or p.done >= p.total):
                update_progress_artifact(artifact, progress=min(100.0, 100 * p.done / p.total))
                updated = now

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
        f"![64 images spread over the dataset]({data_uri(page.with_name('contact-sheet.png'))})",
        "",
        f"The whole page: `{page}`",
    ]
    create_markdown_artifact("\n".join(lines), key="dataset", description="What the data look like")


def publish_report(workspace: Workspace, result: RunResult) -> None:
    """The run's report and its images as Prefect artifacts."""
    create_markdown_artifact(report_markdown(result), key="report", description="What this run made")
    servers = running_servers(workspace)  # an image artifact wants an HTTP address
    if servers and result.grid:
        url = f"{servers.mlflow}/get-artifact?path=evaluation/samples.png&run_uuid={result.mlflow_run_id}"
        create_image_artifact(image_url=url, key="sample-grid", description="Generated beside real images")
