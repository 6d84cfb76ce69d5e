"""A run as people look at it: bars on the terminal, progress, report and pictures in Prefect."""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

from PIL import Image
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)

from flows.server import MLFLOW_URL
from ganpipe.console import QUIET, Bars
from ganpipe.files import read_json
from ganpipe.progress import Progress, Report

UPDATE_EVERY_S = 5.0


@contextmanager
def reporter(progress_of: str | None = None) -> Iterator[Report]:
    """A report that draws a bar and, where `progress_of` names a stage, moves a Prefect progress artifact."""
    artifact: UUID | None = None
    if progress_of:
        key = f"{progress_of}-progress"
        artifact = create_progress_artifact(progress=0.0, key=key, description=f"{progress_of}: share done")  # type: ignore[assignment]
    updated = time.monotonic()

    alone = threading.current_thread() is threading.main_thread()  # two bars would write over each other
    with Bars(quiet=not alone or os.environ.get(QUIET) == "1") as bars:

        def report(p: Progress) -> None:
            nonlocal updated
            bars(p)
            now = time.monotonic()
            if artifact and p.total and (now - updated > UPDATE_EVERY_S or p.done >= p.total):
                update_progress_artifact(artifact, progress=min(100.0, 100 * p.done / p.total))
                updated = now

        yield report


def publish_survey(page: Path) -> None:
    """What the data look like and what they are enough for, as a Prefect artifact with the contact sheet inside."""
    survey = read_json(page.with_suffix(".json"))
    width, height = survey["width_px"], survey["height_px"]
    lines = [
        f"# Data set {survey['name']}",
        "",
        f"`{survey['version']}`: {survey['images']:,} images, {survey['train']:,} to train on, {survey['holdout']:,} held out; "
        f"{width['low']:g}×{height['low']:g} to {width['high']:g}×{height['high']:g} pixels, median "
        f"{width['median']:g}×{height['median']:g}; {survey['grey']:,} grey, {survey['dark']:,} dark, "
        f"{survey['blurred']:,} blurred; {survey['near_copies']:,} near copies in {survey['near_groups']:,} groups.",
        "",
        *[f"- {sentence}" for sentence in survey["advice"]],
        "",
        f"![64 images spread over the data set]({_data_uri(page.with_name('contact-sheet.png'))})",
        "",
        f"The whole page: `{page}`",
    ]
    create_markdown_artifact("\n".join(lines), key="dataset", description="What the data look like")


def publish_report(result: dict[str, Any]) -> None:
    """The run's report and its pictures as Prefect artifacts."""
    create_markdown_artifact(
        report_markdown(result, embed=True), key="report", description="What this run made"
    )
    server = os.environ.get(MLFLOW_URL)
    if server and result["grid"]:
        url = f"{server}/get-artifact?path=evaluation/samples.png&run_uuid={result['mlflow_run_id']}"
        create_image_artifact(image_url=url, key="sample-grid", description="Generated beside real images")


def report_markdown(result: dict[str, Any], embed: bool = False) -> str:
    """A short report; with `embed` the pictures are inside it, so that it can be looked at anywhere."""
    data = result["dataset"]
    lines = [
        f"# {data['name']}: {result['verdict']}",
        "",
        f"Data set **{data['name']}** `{data['version']}`, {data['images']:,} images. "
        f"Model **{result['model_version']}**{' (champion)' if result['champion'] else ''}, "
        f"MLflow run `{result['mlflow_run_id']}`, fingerprint `{result['fingerprint'][:12]}`.",
        "",
        *[f"- {sentence}" for sentence in [*result["evidence"], *result["notes"]]],
        "",
        "| metric | value | real images score | generated images |",
        "|---|---|---|---|",
        *[
            f"| {name} | {m['value']:.4g} {m['note']} | {_or_empty(m['floor'])} | {m['samples']:,} |"
            for name, m in result["metrics"].items() if m["value"] is not None
        ],
        "",
        *[f"- stylised pictures, mean {name.replace('_', ' ')}: {v:.3g}" for name, v in result["style_quality"].items()],
        "",
        "| stage | seconds |",
        "|---|---|",
        *[f"| {stage} | {seconds:.1f} |" for stage, seconds in result["seconds"].items()],
        "",
    ]  # fmt: skip
    pictures = [("Generated beside real images", result["grid"]), ("Stylised", result["contact_sheet"]),
                ("Style: quality against time", result["quality_chart"])]  # fmt: skip
    for title, path in pictures:
        if path and Path(path).exists():
            lines += [f"## {title}", "", f"![{title}]({_data_uri(Path(path)) if embed else path})", ""]
    return "\n".join(lines)


def _or_empty(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _data_uri(path: Path, long_edge_px: int = 900) -> str:
    """A JPEG of the picture as a data URI, small enough for an artifact."""
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((long_edge_px, long_edge_px), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    small.save(buffer, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
