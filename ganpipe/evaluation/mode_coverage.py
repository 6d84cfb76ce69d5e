"""Mode coverage: which labeled classes a generator produces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ganpipe.evaluation.extractors import Features

LEAST_ACCURACY = 0.8  # below it the classifier is not trusted and modes are not counted
LEAST_SHARE = 0.1  # of its expected share that a mode needs to count as covered


@dataclass(frozen=True)
class ModeCount:
    """How many of the labeled modes are covered; `accuracy` is the classifier's on held-out real images."""

    covered: int
    total: int
    accuracy: float
    missing: tuple[str, ...]
    kl: float  # KL(generated shares ‖ real shares), nats


def count_modes(
    train: Features,
    labels: np.ndarray,
    holdout: Features,
    holdout_labels: np.ndarray,
    fake: Features,
    names: tuple[str, ...],
) -> ModeCount | None:
    """Counts modes among `fake` with a linear classifier on real features; None if it cannot tell the labels apart.

    Real images without a label (-1) are left out. A mode is covered if it has at least one image and a tenth of its share
    among real images.
    """
    from sklearn.linear_model import LogisticRegression  # importing it takes a second
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, labels = train[labels >= 0], labels[labels >= 0]
    holdout, holdout_labels = holdout[holdout_labels >= 0], holdout_labels[holdout_labels >= 0]
    if len(np.unique(labels)) < 2 or len(holdout) < 2:
        return None
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    classifier.fit(train, labels)
    accuracy = float((classifier.predict(holdout) == holdout_labels).mean())
    if accuracy < LEAST_ACCURACY:
        return None
    counts = np.bincount(classifier.predict(fake), minlength=len(names)).astype(float)
    real = np.bincount(np.concatenate([labels, holdout_labels]), minlength=len(names)).astype(float)
    shares, expected = counts / counts.sum(), real / real.sum()
    present = expected > 0
    covered = present & (counts >= np.maximum(1, LEAST_SHARE * expected * len(fake)))
    seen = shares > 0
    kl = float((shares[seen] * np.log(shares[seen] / np.maximum(expected[seen], 1e-12))).sum())
    missing = tuple(names[i] for i in np.flatnonzero(present & ~covered))
    return ModeCount(int(covered.sum()), int(present.sum()), accuracy, missing, kl)
