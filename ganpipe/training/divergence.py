"""When training diverges: how it is noticed, and what a rollback changes.

Noticed at every point of the loss curve, from means over the steps since the last one: a value is not finite, or the
algorithm reports a failure of its own (`gan_health.GanHealth`). Then the newest good checkpoint is loaded, the images up to
the divergence are skipped, and the algorithm's remedy is applied. At most MOST_ROLLBACKS times; then training fails
with the evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ganpipe.errors import GanpipeError
from ganpipe.settings.schema import TrainingSettings

MOST_ROLLBACKS = 3
EARLY_SHARE, EARLY_STEPS = 0.05, 1000  # WGAN-GP has a tenth of the real spread for 500 steps (LOG.md)


def is_early(nimg: int, settings: TrainingSettings) -> bool:
    """Whether training has only begun: its images may still be alike."""
    return nimg <= max(EARLY_SHARE * settings.total_images, EARLY_STEPS * settings.batch_images)


@dataclass(frozen=True)
class Divergence:
    """Why training diverged; `exploded`: values are not finite, or far larger than they were."""

    why: str
    exploded: bool = False


class Diverged(Exception):
    """Training has diverged; the trainer rolls it back."""

    def __init__(self, divergence: Divergence) -> None:
        super().__init__(divergence.why)
        self.divergence = divergence


class RolledBackTooOften(GanpipeError):
    """Training has diverged after the last rollback that there is: these settings do not train."""


@dataclass(frozen=True)
class Remedy:
    """A named scale that a rollback multiplies by `factor`; `sentence` is formatted with the scale's new value."""

    scale: str
    factor: float
    sentence: str


def not_finite(values: Mapping[str, float]) -> list[str]:
    """Names of the values that are NaN or infinite."""
    return [name for name, value in values.items() if not math.isfinite(value)]


@dataclass(frozen=True)
class Rollback:
    """One rollback."""

    diverged_at_nimg: int
    back_to_nimg: int
    why: str
    remedy: str

    def sentence(self) -> str:
        """For the log and the report."""
        return (
            f"Training diverged at {self.diverged_at_nimg:,} images: {self.why}. Rolled back to "
            f"{self.back_to_nimg:,} images, skipped the images in between, and {self.remedy}."
        )


@dataclass
class Remedies:
    """The changes of all rollbacks so far; part of every checkpoint, and kept when an older one is loaded."""

    scales: dict[str, float] = field(default_factory=dict)
    skipped_images: int = 0  # positions of the data order that were skipped
    rollbacks: list[dict[str, Any]] = field(default_factory=list)

    def scale(self, name: str) -> float:
        """The factor on a scheduled value; 1 unless a rollback changed it."""
        return self.scales.get(name, 1.0)

    def apply(self, remedy: Remedy, why: str, diverged_at: int, back_to: int) -> Rollback:
        """Applies a remedy, and remembers the rollback."""
        self.scales[remedy.scale] = self.scale(remedy.scale) * remedy.factor
        self.skipped_images += diverged_at - back_to
        sentence = remedy.sentence.format(self.scales[remedy.scale])
        rollback = Rollback(diverged_at, back_to, why, sentence)
        self.rollbacks.append(vars(rollback))
        return rollback
