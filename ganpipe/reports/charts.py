"""Charts, drawn with matplotlib without a display."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ganpipe.errors import GanpipeError
from ganpipe.files import json_text, replacing
from ganpipe.imaging.provenance import ORIGIN_KEY, read_origin
from ganpipe.style.batch.manifest import ManifestEntry

KIND = "quality chart"
AXES = {
    "style_distance": "distance from the style (lower is better)",
    "structure": "likeness to the content (higher is better)",
    "gap": "loss above a long run's (lower is better)",
}


def chart_path(folder: Path) -> Path:
    """The file of the quality chart in a folder: `quality.png`, unless that is something else."""
    path = folder / "quality.png"
    try:
        free = not os.path.lexists(path) or read_origin(path).get("kind") == KIND
    except GanpipeError:
        free = False
    return path if free else folder / "quality-chart.png"


def quality_chart(entries: Sequence[ManifestEntry], path: Path, origin: dict[str, Any]) -> Path:
    """Quality against seconds an image, a color for each preset that has stylized here: what a preset buys."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [name for name in AXES if any(name in entry.quality for entry in entries)]
    figure = Figure(figsize=(4.6 * max(1, len(shown)), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, max(1, len(shown)), squeeze=False)[0]
    for panel, name in zip(panels, shown, strict=False):
        for number, preset in enumerate(dict.fromkeys(entry.preset for entry in entries)):
            points = [
                (e.seconds, e.quality[name]) for e in entries if e.preset == preset and name in e.quality
            ]
            seconds, values = [p[0] for p in points], [p[1] for p in points]
            panel.scatter(seconds, values, s=14, alpha=0.45, color=f"C{number}")
            if points:
                mean = sum(seconds) / len(points), sum(values) / len(points)
                panel.scatter(*mean, s=90, marker="D", color=f"C{number}", label=f"{preset} ({len(points)})")
        panel.set(xlabel="seconds an image", ylabel=AXES[name], xlim=(0, None))
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    with replacing(path) as file:
        text = {ORIGIN_KEY: json_text(origin | {"kind": KIND})}
        figure.savefig(file, format="png", dpi=110, metadata=text)
    return path
