"""The promotion gate's answer on a challenger. Records hold it, so this imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ganpipe.evaluation.conditions import Conditions
from ganpipe.evaluation.verdict import Number

PROMOTED, KEPT, UNDECIDED = "promoted", "kept", "undecided"
REFUSED_VERDICTS = ("collapsed", "memorized", "poor")


@dataclass(frozen=True)
class Change:
    """Challenger minus champion, its standard error, and their quotient."""

    value: Number
    error: Number
    z: Number

    @classmethod
    def of(cls, value: float, error: float) -> Change:
        """A difference without an error is no difference if it is 0, and certain otherwise."""
        z = value / error if error > 0 else (math.copysign(math.inf, value) if value else 0.0)
        return cls(float(value), float(error), float(z))

    def __str__(self) -> str:
        return f"{self.value:+.3g} ± {self.error:.2g}"

    @property
    def interval(self) -> str:
        """The interval that holds the difference with 95% confidence."""
        return f"{self.value - 1.96 * self.error:.3g} to {self.value + 1.96 * self.error:.3g}"


@dataclass(frozen=True)
class KindChange:
    """The kind (label or cluster) that the challenger lost most of; shares of all images, inside the real manifold.

    `least_z`: a smaller `change.z` is a loss: 1% error, over all kinds together unless the kind is missing now.
    """

    name: str
    real_share: float
    champion_share: float
    challenger_share: float
    change: Change
    least_z: float


@dataclass(frozen=True)
class Comparison:
    """How a challenger differs from a champion.

    `energy`: the champion's minus the challenger's energy distance to the held-out images; positive is better.
    `error_generated`, `error_holdout`: the parts of its error. `scale`: the mean distance between held-out images.
    """

    images: int
    holdout: int
    energy: Change
    error_generated: float
    error_holdout: float
    champion_energy: float
    challenger_energy: float
    scale: float
    coverage: Change
    precision: Change
    kind: KindChange | None = None
    conditions: Conditions | None = None

    @property
    def changes(self) -> dict[str, Change]:
        """Each change by its name; positive is better."""
        return {
            "energy distance gained": self.energy,
            "coverage": self.coverage,
            "precision": self.precision,
        }


@dataclass(frozen=True)
class GateResult:
    """`promoted`, `kept` (the challenger is worse or not better) or `undecided`, and why in a sentence.

    `comparison`: None if nothing was compared. `images_needed`, `holdout_needed`: generated and held-out images with which
    an undecided comparison would likely be decided. `champion`, `challenger`: the model versions. `waiting`: a person
    decides (evaluation.promote). `picture`: both beside real images; see also `side_picture`.
    """

    outcome: str
    reason: str
    comparison: Comparison | None = None
    images_needed: int | None = None
    holdout_needed: int | None = None
    champion: str | None = None
    challenger: str | None = None
    waiting: bool = False
    picture: str | None = None

    @property
    def word(self) -> str:
        """The outcome, or `waiting`."""
        return "waiting" if self.waiting else self.outcome

    @property
    def refused(self) -> bool:
        """Whether the challenger is refused, not only undecided or left to a person."""
        return self.outcome == KEPT and not self.waiting

    def with_path(self, convert: Callable[[str], str]) -> GateResult:
        """The same with the path of its picture converted."""
        return replace(self, picture=self.picture and convert(self.picture))


def side_picture(picture: Path, side: str) -> Path:
    """The picture of the `champion` or the `challenger` alone, beside the gate's picture of both."""
    return picture.with_stem(f"{picture.stem}-{side}")


def refusal(verdict: str) -> str | None:
    """Why a model with this verdict becomes no champion; None if it may."""
    return f"Its verdict is {verdict}." if verdict in REFUSED_VERDICTS else None
