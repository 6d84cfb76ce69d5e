"""When a training breaks: how it is noticed, and by which rule it is taken back.

Noticed at every point of the curve, from means over the steps since the last one:

- a loss or the norm of a gradient is not finite;
- G has collapsed: the images of its batches differ by less than COLLAPSED_SPREAD of what real ones do, after they had
  differed by more than HEALTHY_SPREAD, over COLLAPSED_POINTS points in a row;
- D has won: it tells every single pair apart and G's gradient has fallen below LOST_GRADIENT of its usual size, over
  as many points.

Then the newest good checkpoint is loaded, the images, latents and draws up to the break are skipped, and both learning
rates are halved (not finite) or γ is doubled (collapse; without a gradient penalty D's rate is halved). At most
MOST_ROLLBACKS times; then training fails with the evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

COLLAPSED_SPREAD, HEALTHY_SPREAD = 0.02, 0.2
LOST_GRADIENT, ALWAYS_RIGHT = 1e-3, 0.999
COLLAPSED_POINTS = 4
MOST_ROLLBACKS = 3


class Diverged(Exception):
    """A point of the curve shows that training has broken; the loop takes it back."""


@dataclass
class Health:
    """What must be remembered to notice a collapse; part of every checkpoint."""

    widest_spread: float = 0.0
    usual_g_grad: float = 0.0  # a slow mean
    narrow_points: int = 0
    lost_points: int = 0

    @property
    def is_suspect(self) -> bool:
        """Whether the last point looked like a collapse: no checkpoint is written then, so that none holds one."""
        return self.narrow_points + self.lost_points > 0

    def observe(self, values: Mapping[str, float]) -> str | None:
        """Takes in a point of the curve; what has broken, or None."""
        if bad := not_finite(values):
            return f"{', '.join(bad)} is no longer finite"
        spread, g_grad = values["spread"], values["g_grad"]
        self.widest_spread = max(self.widest_spread, spread)
        narrow = self.widest_spread > HEALTHY_SPREAD and spread < COLLAPSED_SPREAD
        self.narrow_points = self.narrow_points + 1 if narrow else 0
        lost = values["d_sign"] > ALWAYS_RIGHT and g_grad < LOST_GRADIENT * self.usual_g_grad
        self.lost_points = self.lost_points + 1 if lost else 0
        if not lost:
            self.usual_g_grad = g_grad if not self.usual_g_grad else 0.9 * self.usual_g_grad + 0.1 * g_grad
        if self.narrow_points >= COLLAPSED_POINTS:
            return (
                f"G has collapsed: its images differ by {spread:.1%} of what real ones do "
                f"(before: {self.widest_spread:.0%})"
            )
        if self.lost_points >= COLLAPSED_POINTS:
            return (
                f"D has won: it tells every pair apart, and G's gradient fell to {g_grad:.2g} "
                f"(usual: {self.usual_g_grad:.2g})"
            )
        return None


def not_finite(values: Mapping[str, float]) -> list[str]:
    """Names of the values that are no numbers."""
    return [name for name, value in values.items() if not math.isfinite(value)]


@dataclass(frozen=True)
class Rollback:
    """One time that training was taken back."""

    broke_at_nimg: int
    back_to_nimg: int
    why: str
    remedy: str

    def sentence(self) -> str:
        """For people."""
        return (
            f"Training broke at {self.broke_at_nimg:,} images: {self.why}. Went back to {self.back_to_nimg:,} images, "
            f"skipped what lay between, and {self.remedy}."
        )


@dataclass
class Remedies:
    """What rollbacks have changed so far; part of every checkpoint, and stronger than the one that is loaded."""

    lr_scale: float = 1.0
    d_lr_scale: float = 1.0
    gamma_scale: float = 1.0
    skipped_images: int = 0  # positions of the endless order that were passed over
    rollbacks: list[dict[str, Any]] = field(default_factory=list)

    def apply(self, why: str, finite: bool, penalised: bool, broke_at: int, back_to: int) -> Rollback:
        """The next remedy by the stated rule."""
        if not finite:
            self.lr_scale /= 2
            remedy = f"halved both learning rates (now {self.lr_scale:g} of the settings')"
        elif penalised:
            self.gamma_scale *= 2
            remedy = f"doubled γ (now {self.gamma_scale:g} times the settings')"
        else:
            self.d_lr_scale /= 2
            remedy = f"halved D's learning rate (now {self.d_lr_scale:g} of the settings')"
        self.skipped_images += broke_at - back_to
        rollback = Rollback(broke_at, back_to, why, remedy)
        self.rollbacks.append(vars(rollback))
        return rollback
