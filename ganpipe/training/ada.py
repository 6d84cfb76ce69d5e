"""Adaptive discriminator augmentation (ADA): more augmentation as D overfits the training images.

Karras et al. 2020 (arXiv 2006.06676, section 3): the probability moves by a fixed step towards the point at which the
signal of overfitting equals the target. Their signal sign(D(real)) means nothing for a relativistic loss, which
ignores a constant added to all logits: here it is the mean of sign(D(real) − D(fake)) over pairs, or r_v (eq. 1).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ganpipe.settings.schema import AugmentSettings
from ganpipe.training.augment import HIGHEST_P

log = logging.getLogger(__name__)

SATURATED_POINTS = 5


@dataclass
class AdaState:
    """The controller's state; part of every checkpoint."""

    p: float = 0.0
    signal: float = 0.0
    seen_nimg: int = 0
    saturated_points: int = 0  # in a row, up to now

    def observe(self, signal: float, nimg: int, settings: AugmentSettings) -> None:
        """Moves p by the images since the last call, towards the target."""
        images, self.seen_nimg, self.signal = nimg - self.seen_nimg, nimg, signal
        direction = (signal > settings.target) - (signal < settings.target)
        self.p = min(HIGHEST_P, max(0.0, self.p + direction * images / settings.adapt_images))
        self.saturated_points = self.saturated_points + 1 if self.p == HIGHEST_P else 0
        if self.saturated_points == SATURATED_POINTS:
            log.warning("%s", self.notes()[0])

    def notes(self) -> list[str]:
        """Sentences for the report."""
        if self.saturated_points < SATURATED_POINTS:
            return []
        return [
            f"Too little data: augmentation has reached its limit of {HIGHEST_P:.0%}, and D still tells training images "
            f"apart (signal {self.signal:.2f}). Add images, or use model.name=fastgan."
        ]


def r_v(on_train: float, on_holdout: float, on_fake: float) -> float:
    """0 if D scores held-out images like training images, 1 if it scores them like fakes (ADA, eq. 1)."""
    whole = on_train - on_fake
    return (on_train - on_holdout) / whole if whole else 0.0
