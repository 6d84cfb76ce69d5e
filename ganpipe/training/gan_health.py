"""Whether a GAN's training is healthy, by the points of its loss curve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from ganpipe.training.divergence import Divergence

FAILED_POINTS = 4  # in a row
COLLAPSED_SPREAD = 0.1
EARLY_COLLAPSED_SPREAD, HEALTHY_SPREAD = (
    0.02,
    0.2,
)  # early, only the first is a collapse, and only after the second
DECIDED, LOST_GRADIENT = 0.98, 0.01
EXPLODED = 100.0
FIRST_POINTS, RECENT_POINTS = 5, 50  # that the medians are taken of
LOSSES, GRADIENTS = ("loss_d", "loss_g"), ("d_grad", "g_grad")
NETWORKS = {"d_grad": "D", "g_grad": "G"}


@dataclass
class GanHealth:
    """Detects a failure from the points of the loss curve; part of every checkpoint.

    Each must be seen at FAILED_POINTS points in a row (figures: LOG.md):

    - G has collapsed: the images of its batches differ by less than COLLAPSED_SPREAD of what real ones do. Early
      in a training: by less than EARLY_COLLAPSED_SPREAD, after more than HEALTHY_SPREAD.
    - D has won: it tells all pairs of images apart, and G or D has no gradient, less than LOST_GRADIENT of the median of
      the first points.
    - D has lost: it takes the fake image of all pairs for the real one.
    - A loss or a gradient has exploded: it is more than EXPLODED times as large as the median of the first points, and
      as that of the recent ones. A loss that has a scale is compared with 1, about what it is for untrained networks.
    """

    widest_spread: float = 0.0
    first: dict[str, list[float]] = field(default_factory=dict)
    recent: dict[str, list[float]] = field(default_factory=dict)
    in_a_row: dict[str, int] = field(default_factory=dict)  # points up to now with each failure

    @property
    def is_suspect(self) -> bool:
        """Whether the last point looked like a failure."""
        return bool(self.in_a_row)

    def observe(
        self, means: Mapping[str, float], is_early: bool, loss_has_scale: bool = True
    ) -> Divergence | None:
        """Takes in a point of the curve; returns what has failed, or None."""
        failures = {
            "collapsed": self._collapsed(means["spread"], is_early),
            "one_sided": self._one_sided(means),
            "exploded": self._exploded(means, loss_has_scale),
        }
        self._remember(means)
        self.in_a_row = {kind: self.in_a_row.get(kind, 0) + 1 for kind, why in failures.items() if why}
        for kind, points in self.in_a_row.items():
            if points >= FAILED_POINTS:
                return Divergence(str(failures[kind]), exploded=kind == "exploded")
        return None

    def _remember(self, means: Mapping[str, float]) -> None:
        self.widest_spread = max(self.widest_spread, means["spread"])
        for name in (*LOSSES, *GRADIENTS):
            first, recent = self.first.setdefault(name, []), self.recent.setdefault(name, [])
            if len(first) < FIRST_POINTS:
                first.append(abs(means[name]))
            recent.append(abs(means[name]))
            del recent[:-RECENT_POINTS]

    def _collapsed(self, spread: float, is_early: bool) -> str | None:
        least = COLLAPSED_SPREAD
        if is_early:
            least = EARLY_COLLAPSED_SPREAD if self.widest_spread > HEALTHY_SPREAD else 0.0
        if spread >= least:
            return None
        return (
            f"G has collapsed: its images differ by {spread:.1%} of what real ones do "
            f"(at most so far: {self.widest_spread:.0%})"
        )

    def _one_sided(self, means: Mapping[str, float]) -> str | None:
        if means["d_sign"] < -DECIDED:
            return "D has lost: it takes the fake image of every pair for the real one"
        if means["d_sign"] <= DECIDED:
            return None
        for name, network in NETWORKS.items():
            first = self._first_median(name)
            if means[name] < LOST_GRADIENT * first:
                fall = f"fell from {first:.2g} to {means[name]:.2g}"
                return f"D has won: it tells every pair apart, and the gradient of {network} {fall}"
        return None

    def _exploded(self, means: Mapping[str, float], loss_has_scale: bool) -> str | None:
        for name in (*LOSSES, *GRADIENTS):
            usual = 1.0 if loss_has_scale and name in LOSSES else self._usual(name)
            if abs(means[name]) > EXPLODED * usual:
                return f"{name} has exploded to {means[name]:.2g} (usual: {usual:.2g})"
        return None

    def _usual(self, name: str) -> float:
        """The larger of the medians of the first and of the recent points; infinite as long as there are too few."""
        first = self._first_median(name)
        if not first:
            return math.inf
        least = 1.0 if name in LOSSES else 0.0  # a loss without a scale may pass through 0
        return max(first, median(self.recent[name]), least)

    def _first_median(self, name: str) -> float:
        """The median of the first points; 0 as long as there are too few."""
        first = self.first.get(name, [])
        return median(first) if len(first) == FIRST_POINTS else 0.0
