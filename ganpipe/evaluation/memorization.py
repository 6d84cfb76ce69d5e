"""Memorization: the share of generated images that copy training images."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from ganpipe.evaluation.extractors import Features


def copied_share(fake: Features, train: Features, holdout: Features) -> float:
    """Share of fakes nearer to a training image than 99% of the held-out images are: about 0.01 if none is copied."""
    threshold = np.quantile(cdist(holdout, train).min(1), 0.01)
    return float((cdist(fake, train).min(1) < threshold).mean())
