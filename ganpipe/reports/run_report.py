"""The report of a run, in Markdown."""

from __future__ import annotations

import base64
import math
import os
from io import BytesIO
from pathlib import Path

from PIL import Image

from ganpipe.stores.run_results import RunResult


def report_markdown(result: RunResult, folder: Path | None = None) -> str:
    """A short report that lies in `folder` and names its images from there; without one the images are inside it."""
    data = result.dataset
    lines = [
        f"# {data['name']}: {result.verdict}",
        "",
        f"Dataset **{data['name']}** `{data['version']}`, {data['images']:,} images. "
        f"Model **{result.model_version}**{' (champion)' if result.champion else ''}, "
        f"MLflow run `{result.mlflow_run_id}`, fingerprint `{result.fingerprint[:12]}`.",
        "",
        *[f"- {sentence}" for sentence in [*result.evidence, *_validation(result), *result.notes]],
        *([f"- Next: {result.advice}"] if result.advice else []),
        *_gate_lines(result),
        "",
        "| metric | value | real images score | generated images |",
        "|---|---|---|---|",
        *[
            f"| {name} | {m.text} | {_or_empty(m.floor)} | {m.samples:,} |"
            for name, m in result.metrics.items()
            if math.isfinite(m.value)
        ],
        "",
        *[
            f"- stylized images, mean {name.replace('_', ' ')}: {v:.3g}"
            for name, v in result.style_quality.items()
        ],
        "",
        "| stage | seconds |",
        "|---|---|",
        *[f"| {stage} | {seconds:.1f} |" for stage, seconds in result.seconds.items()],
        "",
    ]
    pictures = [
        ("Generated beside real images", result.grid),
        ("Champion and challenger from the same latents", result.gate.picture if result.gate else None),
        ("Stylized", result.contact_sheet),
        ("Style: quality against time", result.quality_chart),
    ]
    for title, path in pictures:
        if path and Path(path).exists():
            lines += [
                f"## {title}",
                "",
                f"![{title}]({os.path.relpath(path, folder) if folder else data_uri(Path(path))})",
                "",
            ]
    return "\n".join(lines)


def _validation(result: RunResult) -> list[str]:
    validation = result.train and result.train.validation
    return [validation.sentence()] if validation else []


def _gate_lines(result: RunResult) -> list[str]:
    gate = result.gate
    if gate is None:
        return []
    waits = f" It waits for `ganpipe promote {result.run}`." if gate.waiting else ""
    lines = ["", f"**Gate: {gate.outcome}.** {gate.reason}{waits}"]
    if c := gate.comparison:
        changes = (("energy distance gained", c.energy), ("coverage", c.coverage), ("precision", c.precision))
        lines += ["", f"| {gate.challenger} instead of {gate.champion} | change | z |", "|---|---|---|"]
        lines += [f"| {name} | {change} | {change.z:.1f} |" for name, change in changes]
    return lines


def _or_empty(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def data_uri(path: Path, long_edge_px: int = 900) -> str:
    """A JPEG of the image as a data URI, small enough for an artifact."""
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((long_edge_px, long_edge_px), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    small.save(buffer, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
