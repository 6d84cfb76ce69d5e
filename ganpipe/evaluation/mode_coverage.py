"""Mode coverage: which kinds of images a generator produces, by label, or by cluster of the training images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from ganpipe.evaluation.extractors import Features
from ganpipe.evaluation.metrics import standardize

LEAST_ACCURACY = 0.8  # below it the classifier is not trusted, and clusters are counted
LEAST_SHARE = 1 / 3  # of its share among real images that a mode needs to count as covered
CHANCE = 0.05  # that a mode of any real set is called missing
MOST_CLUSTERS = 40
LEAST_CLUSTERS = 5
CLUSTER_IMAGES = 25  # training images per cluster, on average
CLUSTER_DIMENSIONS = 32  # principal components that clusters are told apart by (LOG.md)

Kinds = npt.NDArray[np.int64]
Predict = Callable[[Features], Kinds]


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
    """Tells the modes of real images apart: labels by a linear classifier, if it is right on held-out images, or clusters.

    `names`: of the modes. `labeled`: whether they are labels. `shares`: of each among the real images. `how`: in words.
    `trusted`: whether there are enough training images to tell modes apart at all.
    """

    def __init__(
        self,
        train: Features,
        labels: np.ndarray,
        holdout: Features,
        holdout_labels: np.ndarray,
        names: tuple[str, ...],
    ) -> None:
        """Real images without a label (-1) are left out of the classifier."""
        known, held = labels >= 0, holdout_labels >= 0
        accuracy = 0.0
        if len(np.unique(labels[known])) >= 2 and held.sum() >= 2:
            self._predict = _fit_classifier(train[known], labels[known])
            accuracy = float((self._predict(holdout[held]) == holdout_labels[held]).mean())
        self.labeled = accuracy >= LEAST_ACCURACY
        if self.labeled:
            self.names, kinds = names, np.concatenate([labels[known], holdout_labels[held]])
            self.how = f"linear classifier, {accuracy:.1%} right on held-out images"
        else:
            count = min(MOST_CLUSTERS, len(train) // CLUSTER_IMAGES)
            self.names = tuple(f"cluster {k + 1}" for k in range(count)) if count >= LEAST_CLUSTERS else ()
            self.how, kinds = f"{count} clusters of the training images", np.empty(0, int)
            if self.trusted:
                self._predict = _fit_clusters(train, count)
                kinds = np.concatenate([self._predict(train), self._predict(holdout)])
        self.shares = np.bincount(kinds, minlength=len(self.names)) / max(1, len(kinds))

    @property
    def trusted(self) -> bool:
        """Whether there are modes to count."""
        return bool(self.names)

    def predict(self, features: Features) -> Kinds:
        """The mode of each image, as an index of the names."""
        return self._predict(features) if len(features) else np.empty(0, int)

    def count(self, fake: Features, n: int) -> ModeCount:
        """Counts modes among `fake`. A mode is covered if it has at least one image and a third of its real share of n."""
        present = self.shares > 0
        counts = np.bincount(self.predict(fake), minlength=len(self.names))[present]
        shares, names = self.shares[present], np.array(self.names)[present]
        missing = tuple(names[missing_modes(counts, shares, n)].tolist())
        seen = counts > 0
        found = counts[seen] / max(1, len(fake))
        kl = float((found * np.log(found / shares[seen])).sum()) if seen.any() else math.nan
        expected = float(binom.sf(_least(shares, n) - 1, n, shares).sum())
        covered, smallest = int((counts >= _least(shares, n)).sum()), float((counts / (n * shares)).min())
        return ModeCount(covered, expected, len(shares), missing, smallest, kl, n)


def missing_modes(counts: np.ndarray, shares: np.ndarray, n: int) -> npt.NDArray[np.bool_]:
    """Which modes have less than a third of their real share of n images, and fewer than chance explains."""
    return (counts < _least(shares, n)) & (binom.cdf(counts, n, shares) < CHANCE / max(1, len(shares)))


def _least(shares: np.ndarray, n: int) -> np.ndarray:
    """Images of a mode to call it covered."""
    return np.maximum(1, np.ceil(LEAST_SHARE * shares * n))


def _fit_classifier(train: Features, labels: np.ndarray) -> Predict:
    from sklearn.linear_model import LogisticRegression  # importing it takes a second
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300)).fit(train, labels)
    return lambda features: np.asarray(fitted.predict(features))


def _fit_clusters(train: Features, count: int) -> Predict:
    """k-means on the principal components of standardized features."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline

    dimensions = min(CLUSTER_DIMENSIONS, *train.shape)
    fitted = make_pipeline(PCA(dimensions, random_state=0), KMeans(count, n_init=4, random_state=0)).fit(
        standardize(train, train)
    )
    return lambda features: np.asarray(fitted.predict(standardize(features, train)))
