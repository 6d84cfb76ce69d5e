"""Mode coverage: which labeled classes a generator produces."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binom

from ganpipe.evaluation.extractors import Features

LEAST_ACCURACY = 0.8  # below it the classifier is not trusted and modes are not counted
LEAST_SHARE = 1 / 3  # of its share among real images that a mode needs to count as covered
CHANCE = 0.05  # that a mode of any real set is called missing


@dataclass(frozen=True)
class ModeCount:
    """Modes among `images` generated images; `expected` modes are covered by as many real images, on average."""

    covered: int
    expected: float
    total: int
    missing: tuple[str, ...]  # too rare to be chance
    smallest_share: float  # of the rarest mode, over its share among real images
    kl: float  # KL(generated shares ‖ real shares), nats
    images: int


class ModeCounter:
    """A linear classifier on real features, that counts modes if it can tell them apart on held-out images."""

    def __init__(
        self,
        train: Features,
        labels: np.ndarray,
        holdout: Features,
        holdout_labels: np.ndarray,
        names: tuple[str, ...],
    ) -> None:
        """Real images without a label (-1) are left out."""
        train, labels = train[labels >= 0], labels[labels >= 0]
        holdout, holdout_labels = holdout[holdout_labels >= 0], holdout_labels[holdout_labels >= 0]
        real = np.bincount(np.concatenate([labels, holdout_labels]), minlength=len(names))
        self.names, self.shares, self.accuracy = names, real / max(1, real.sum()), 0.0
        if len(np.unique(labels)) >= 2 and len(holdout) >= 2:
            self._classifier = _fit(train, labels)
            self.accuracy = float((self._classifier.predict(holdout) == holdout_labels).mean())

    @property
    def trusted(self) -> bool:
        """Whether the classifier tells the labels apart."""
        return self.accuracy >= LEAST_ACCURACY

    def predict(self, features: Features) -> np.ndarray:
        """The label of each image, as an index of the names."""
        return np.asarray(self._classifier.predict(features)) if len(features) else np.empty(0, int)

    def count(self, fake: Features, n: int) -> ModeCount:
        """Counts modes among `fake`. A mode is covered if it has at least one image and a third of its real share of n."""
        present = self.shares > 0
        counts = np.bincount(self.predict(fake), minlength=len(self.names))[present]
        shares, names = self.shares[present], np.array(self.names)[present]
        least = np.maximum(1, np.ceil(LEAST_SHARE * shares * n))
        too_rare = binom.cdf(counts, n, shares) < CHANCE / len(shares)
        missing = tuple(names[(counts < least) & too_rare].tolist())
        seen = counts > 0
        found = counts[seen] / max(1, len(fake))
        kl = float((found * np.log(found / shares[seen])).sum()) if seen.any() else math.nan
        expected = float(binom.sf(least - 1, n, shares).sum())
        smallest = float((counts / (n * shares)).min())
        return ModeCount(int((counts >= least).sum()), expected, len(shares), missing, smallest, kl, n)


def _fit(train: Features, labels: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression  # importing it takes a second
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300)).fit(train, labels)
