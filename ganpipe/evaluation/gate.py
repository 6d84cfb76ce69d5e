"""The promotion gate: whether a challenger replaces the champion."""

from __future__ import annotations

import math

SCORE = "kd"  # the metric that decides; lower is better


def is_better(challenger: float | None, champion: float | None) -> bool:
    """Whether the challenger's score beats the champion's. A missing score or NaN never beats a champion with a score."""
    if challenger is None or math.isnan(challenger):
        return False
    return champion is None or math.isnan(champion) or challenger < champion
