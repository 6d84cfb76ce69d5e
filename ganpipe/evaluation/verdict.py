"""The verdict on a set of generated images, with its evidence in sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator

from ganpipe.files import plain

# JSON has no NaN: what is not finite is stored as null.
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]


@dataclass(frozen=True)
class Metric:
    """A metric's value, its extractor and sample count; `floor` is the score of real images."""

    value: Number
    extractor: str
    samples: int
    floor: Number | None = None
    note: str = ""


@dataclass
class Evaluation:
    """All metrics, the verdict (`good`, `fair`, `poor`, `collapsed` or `memorized`) and why."""

    metrics: dict[str, Metric] = field(default_factory=dict)
    verdict: str = ""
    evidence: list[str] = field(default_factory=list)
    grid: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values; NaN and infinity become None, as JSON has neither."""
        values: dict[str, Any] = plain(self)
        return values


# Thresholds are relative to the scores of real images, and were set by eye: at 3% the demo's grid was speckled and
# blurred, at 14% its flowers were recognizable (LOG.md).
def decide_verdict(result: Evaluation) -> str:
    """Returns the first verdict whose condition holds, and puts its sentence first in the evidence."""
    value = {name: metric.value for name, metric in result.metrics.items()}
    floor = {name: metric.floor or 0.0 for name, metric in result.metrics.items()}
    covered = value["coverage"] / max(floor["coverage"], 1e-9)
    precise = value["precision"] / max(floor["precision"], 1e-9)
    modes = value.get("modes_covered", math.nan) / floor.get("modes_covered", math.nan)
    rows: list[tuple[str, bool, str]] = [
        (
            "memorized",
            value["copied"] > 0.25,
            f"{value['copied']:.0%} of the images are nearer to a training image than held-out images are (1% is usual).",
        ),
        (
            "collapsed",
            value["diversity"] < 0.25 or modes < 0.34,
            f"Diversity is {value['diversity']:.0%} of the real images'.",
        ),
        (
            "good",
            covered >= 0.7 and precise >= 0.7 and not modes < 0.9,
            f"Coverage reaches {covered:.0%} and precision {precise:.0%} of what real images score.",
        ),
        (
            "fair",
            covered >= 0.1 and precise >= 0.1,
            f"Coverage reaches {covered:.0%} and precision {precise:.0%} of what real images score (good: 70%).",
        ),
        (
            "poor",
            True,
            f"Coverage reaches only {covered:.0%} and precision {precise:.0%} of what real images score (fair: 10%).",
        ),
    ]
    verdict, _, why = next(row for row in rows if row[1])
    result.evidence.insert(0, why)
    return verdict
