"""Schedules as functions of the images seen."""

from __future__ import annotations

import math


def cosine(start: float, end: float, nimg: int, over_images: int) -> float:
    """From `start` at 0 to `end` at `over_images` along half a cosine, and `end` after that."""
    t = min(1.0, nimg / over_images)
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * t))
