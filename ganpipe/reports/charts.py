"""Charts, drawn with matplotlib without a display."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO

from PIL import Image

from ganpipe.training.callbacks import Point

PANELS = {
    "losses": ("loss_g", "loss_d"),
    "loss and reconstruction, nats per image": ("loss", "recon"),
    "KL divergence, nats per image": ("kl",),
    "reconstruction error, pixels from -1 to 1": ("sigma",),
    "logits of D: real minus fake": ("d_gap",),
    "sign of D(real) − D(fake), mean": ("d_sign",),
    "validation: energy distance to held-out images": ("validation_energy",),
    "validation: share of repeats and copies": ("validation_near_duplicates", "validation_copied"),
    "overfitting of D, and augmentation": ("overfitting", "augment_p"),
    "spread of a generated batch": ("spread",),
    "gradient norms": ("g_grad", "d_grad"),
}
COLUMNS, PANEL_IN, DPI = 3, (3.7, 2.3), 100


def curves_chart(points: Sequence[Point]) -> Image.Image | None:
    """The losses and learning signals of a training over the images seen; None without any."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    logged = {name for point in points for name in point.values}
    shown = [(title, used) for title, names in PANELS.items() if (used := [n for n in names if n in logged])]
    if not shown:
        return None
    rows = math.ceil(len(shown) / COLUMNS)
    figure = Figure(figsize=(COLUMNS * PANEL_IN[0], rows * PANEL_IN[1]), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for panel, (title, names) in zip(panels, shown, strict=False):
        for name in names:
            drawn = [(p.nimg, p.values[name]) for p in points if name in p.values]
            few = "o" if len(drawn) < 12 else None
            panel.plot(*zip(*drawn, strict=True), label=name, linewidth=1.4, marker=few, markersize=3)
        panel.set_title(title, fontsize=10, loc="left")
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel.tick_params(labelsize=8)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        if len(names) > 1:
            panel.legend(fontsize=8, frameon=False)
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    figure.supxlabel("images seen", fontsize=9)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return Image.open(buffer).convert("RGB")
