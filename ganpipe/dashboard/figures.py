"""Figures as people read them: sizes, durations, metrics with their meaning, and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from ganpipe.progress import Progress, format_duration
from ganpipe.training.callbacks import Point

# What a metric says, and which way is better.
MEANINGS = {
    "fd": "Fréchet distance to held-out images; lower is better",
    "kd": "kernel distance to held-out images; lower is better",
    "energy": "energy distance to held-out images, as a share of the distance between them; lower is better",
    "swd": "sliced Wasserstein distance to held-out images; lower is better",
    "precision": "share of images that could be real; higher is better",
    "recall": "share of real images that the model reaches; higher is better",
    "density": "how many real neighborhoods hold an image; about 1 is real",
    "coverage": "share of real images with a generated one beside them; higher is better",
    "diversity": "variance against that of real images; 1 is real",
    "vendi": "number of clearly different images",
    "vendi_inside": "the same among the images that could be real",
    "inside": "share of images inside the real manifold",
    "near_duplicates": "share of images that nearly repeat another generated one",
    "near_duplicates_thumbnails": "the same, seen on thumbnails",
    "copied": "share of images that are nearly a training image, seen on thumbnails",
    "copied_features": "the same, seen by features",
    "identical": "share of images that are a training image",
    "identical_features": "the same, seen by features",
    "ct": "share of images nearer to training than to held-out images; 0.5 is honest",
    "ct_features": "the same, seen by features",
    "modes_covered": "kinds of images that are generated",
    "modes_missing": "kinds of images that are missing",
    "modes_kl": "how unlike the real shares the kinds are; 0 is alike",
    "smallest_mode": "the rarest kind against its real share; 1 is alike",
    "spectrum_peak": "repeating pattern, in dB above real images; near 0 is none",
    "sharpness": "sharpness against real images; 0 is alike, below is blurred",
}
# Charts of a run: a title, what it says, and the scalars in it. What no row names is not drawn.
CURVES = (
    ("Losses", "the loss of G and of D; neither alone says how good the images are", ("loss_g", "loss_d")),
    ("Loss", "of the training images; the VAE's is reconstruction + β·KL, in nats", ("loss", "recon")),
    ("KL divergence", "nats that the latents say about an image; near 0: posterior collapse", ("kl",)),
    ("Reconstruction error", "standard deviation of the pixels, which are from -1 to 1", ("sigma",)),
    ("Validation", "energy distance to held-out images; lower is better", ("validation_energy",)),
    (
        "Repeats and copies",
        "share of samples that nearly repeat another one, or are as near to a training image as 5% of real images",
        ("validation_near_duplicates", "validation_copied"),
    ),
    (
        "Discriminator",
        "logits of real and of generated images; far apart: D wins",
        ("d_real", "d_fake", "d_gap"),
    ),
    ("Real above fake", "share of pairs in which D ranks the real image higher; 0.5 is chance", ("d_sign",)),
    ("Gradient norms", "of G and of D; a jump is a sign of trouble", ("g_grad", "d_grad")),
    ("Gradient penalties", "R1 on real, R2 on generated images", ("r1", "r2", "gp")),
    ("Spread", "how much generated images differ from each other; near 0: collapsed", ("spread",)),
    ("Learning rates", "over the training", ("lr_g", "lr_d")),
    (
        "Augmentation",
        "overfitting signal and probability of adaptive augmentation",
        ("overfitting", "augment_p"),
    ),
)


def size(count: float) -> str:
    """Bytes, such as 12 MiB."""
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024 or unit == "GiB":
            break
    return f"{count:,.0f} {unit}" if count >= 10 else f"{count:.1f} {unit}"


def number(value: float | None) -> str:
    """A figure with four digits; empty if there is none."""
    return "" if value is None or not math.isfinite(value) else f"{value:.4g}"


def took(seconds: float | None) -> str:
    """A duration; empty if it is not known."""
    return format_duration(seconds) if seconds else ""


def rate_and_left(p: Progress) -> str:
    """Such as "3,200 of 64,000 images, 500/s, 2 min left"."""
    done = f"{p.done:,.0f} of {p.total:,.0f} {p.unit}" if p.total else f"{p.done:,.0f} {p.unit}"
    left = f", {format_duration(p.left_s)} left" if p.left_s is not None else ""
    return f"{done}, {p.per_second:,.4g}/s{left}"


def share(p: Progress) -> float:
    """How much is done, between 0 and 1; 0 if it is not known."""
    return min(1.0, p.done / p.total) if p.total else 0.0


def curve(points: Sequence[Point], names: Sequence[str], zoom: bool, classes: str) -> ui.echart:
    """A chart of scalars over images; `zoom`: by wheel and by a slider."""
    return ui.echart(curve_options(points, names, zoom)).classes(classes)


def curve_options(points: Sequence[Point], names: Sequence[str], zoom: bool) -> dict[str, Any]:
    """The options of the chart, in grays that are read on light and on dark.

    The data is in columns: NiceGUI looks into every list, and a list for each point took most of the time of an open page.
    """
    gray = {"color": "#808694"}
    axis: Mapping[str, Any] = {"axisLabel": gray, "splitLine": {"lineStyle": {"color": "#80869433"}}}
    series = [
        {
            "name": name,
            "type": "line",
            "showSymbol": len(points) < 2,
            "lineStyle": {"width": 1.5},
            "encode": {"x": "nimg", "y": name},
            "connectNulls": True,
        }
        for name in names
    ]
    return {
        "animation": False,
        "grid": {"left": 8, "right": 16, "top": 32, "bottom": 44 if zoom else 8, "containLabel": True},
        "legend": {"textStyle": gray, "top": 0, "icon": "roundRect", "itemHeight": 4},
        "tooltip": {"trigger": "axis"},
        "xAxis": {"type": "value", "max": "dataMax", **axis},
        "yAxis": {"type": "value", "scale": True, **axis},
        "dataset": {
            "source": {"nimg": [p.nimg for p in points]}
            | {name: [p.values.get(name) for p in points] for name in names}
        },
        "dataZoom": [{"type": "inside"}, {"type": "slider", "height": 18, "bottom": 4}] if zoom else [],
        "series": series,
    }


def present(points: Sequence[Point], names: Sequence[str]) -> list[str]:
    """Those of the scalars that any point has."""
    return [name for name in names if any(name in p.values for p in points)]
