"""How much a dataset changed between two versions: the energy distance between their images' features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ganpipe.evaluation.extractors import Features

CHANGED_Z = 1.645  # one-sided 95%
LEAST_IMAGES = 16  # of each version


@dataclass(frozen=True)
class Drift:
    """The distance of a dataset version to the one that was trained on before, as a share of the distance between two images
    of that one, with its standard error. `images`: of each version that were compared."""

    before: str
    energy: float
    error: float
    images: tuple[int, int]

    @property
    def changed(self) -> bool:
        """Whether the distance is more than chance explains."""
        return self.energy > CHANGED_Z * self.error

    def sentence(self) -> str:
        """For the report."""
        a, b = self.images
        measured = (
            f"energy distance {self.energy:.4f} ± {self.error:.4f} between {a} and {b} images, none of them in both; "
            f"{self.before[:12]} was trained on before"
        )
        what = "The data changed" if self.changed else "The data hardly changed"
        return f"{what} ({measured})."


def measure_drift(before: str, earlier: Features, now: Features) -> Drift:
    """Compares features `[N, d]` of the version `before` with those of the present one; no image may be in both."""
    from ganpipe.evaluation.metrics import relative_energy, relative_energy_error, standardize

    a, b = (standardize(x, earlier) for x in (now, earlier))
    sizes = (len(earlier), len(now))
    return Drift(before, float(relative_energy(a, b)), float(relative_energy_error(a, b)), sizes)


def split_by_hash(sha256: str) -> bool:
    """Which of two halves an image is in, whatever its dataset: each version is drawn from the half of its own.

    Two versions share most of their images. A shared image on both sides would make them look more alike than they are;
    the last digit decides, since the first ones decide on the split into training and held-out images.
    """
    return int(sha256[-1], 16) % 2 == 0
