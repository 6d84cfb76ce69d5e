"""The chart of a sweep: which settings mattered, and the path of each trial through its settings to its energy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image

from ganpipe.settings.sweep import Dimension

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI, HEIGHT_IN, BARS_IN, AXIS_IN = 100, 4.6, 4.2, 1.5
ON_WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85}  # letters that paths cross
BEST, OTHERS = "#c2410c", "viridis_r"


@dataclass(frozen=True)
class DrawnTrial:
    """A finished trial: its values by setting, and its validation energy."""

    params: Mapping[str, Any]
    energy: float


def sweep_chart(
    space: Sequence[Dimension], trials: Sequence[DrawnTrial], importances: Mapping[str, float]
) -> Image.Image:
    """Importances as bars, beside parallel coordinates: an axis for each setting, the last one for the energy."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    widths = (BARS_IN, AXIS_IN * (len(space) + 1))
    figure = Figure(figsize=(sum(widths), HEIGHT_IN), layout="constrained")
    FigureCanvasAgg(figure)
    bars, paths = figure.subplots(1, 2, width_ratios=widths)
    draw_importances(bars, importances)
    draw_paths(paths, space, trials)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return Image.open(buffer).convert("RGB")


def draw_importances(panel: Axes, importances: Mapping[str, float]) -> None:
    """A bar for each setting, the most important one at the top."""
    names = list(importances)[::-1]
    bars = panel.barh(names, [importances[name] for name in names], color="#0f766e")
    panel.bar_label(bars, fmt="%.2f", fontsize=8, padding=3)
    panel.set_title("share of the energy's variance (fANOVA)", fontsize=10, loc="left")
    panel.set_xlim(0, 1.12)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    if not names:
        panel.text(0.5, 0.5, "too few trials", ha="center", transform=panel.transAxes, fontsize=9)


def draw_paths(panel: Axes, space: Sequence[Dimension], trials: Sequence[DrawnTrial]) -> None:
    """A line for each trial; the best one is thick, the others are darker the better they are."""
    from matplotlib import colormaps

    ranked = sorted(trials, key=lambda trial: trial.energy, reverse=True)
    lowest, highest = ranked[-1].energy, ranked[0].energy
    energy = Dimension("energy", lowest, highest)
    axes = [*space, energy]
    for rank, trial in enumerate(ranked, start=1):
        heights = [height_of(d, trial.params[d.key]) for d in space] + [height_of(energy, trial.energy)]
        best = rank == len(ranked)
        color = BEST if best else colormaps[OTHERS](1 - rank / len(ranked))
        panel.plot(heights, color=color, linewidth=2.6 if best else 1.0, alpha=1.0 if best else 0.7)
    for x, dimension in enumerate(axes):
        _draw_axis(panel, x, dimension)
    panel.set_xticks(range(len(axes)), [d.key.replace(".", ".\n") for d in axes], fontsize=8)
    panel.set_yticks([])
    panel.set_xlim(-0.3, len(axes) - 0.4)
    panel.set_title(f"{len(trials)} finished trials; the best one in red", fontsize=10, loc="left")
    panel.spines[["top", "right", "left", "bottom"]].set_visible(False)


def _draw_axis(panel: Axes, x: int, dimension: Dimension) -> None:
    panel.axvline(x, color="#9ca3af", linewidth=0.8, zorder=0)
    for value in dimension.choices or (dimension.low, dimension.high):
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        height = height_of(dimension, value)
        panel.text(x + 0.04, height, text, fontsize=7.5, va="center", color="#374151", bbox=ON_WHITE)


def height_of(dimension: Dimension, value: Any) -> float:
    """Where a value lies on its axis, from 0 at the bottom to 1."""
    if dimension.choices:
        return dimension.choices.index(value) / (len(dimension.choices) - 1)
    scale = math.log if dimension.log else float
    low, high = scale(dimension.low), scale(dimension.high)
    return (scale(value) - low) / (high - low) if high > low else 0.5
