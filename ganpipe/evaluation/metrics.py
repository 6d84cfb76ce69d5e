"""Metrics on feature vectors, as pure functions of arrays `[N, d]` (float64); METRICS is the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.spatial.distance import cdist

from ganpipe.evaluation.extractors import Features
from ganpipe.evaluation.memorization import copied_share


def frechet_distance(a: Features, b: Features) -> float:
    """Fréchet distance of the Gaussians fitted to `a` and `b` (Heusel et al. 2017, arXiv 1706.08500, eq. 6).

    ‖μa − μb‖² + tr(A + B − 2(A½BA½)½), computed from symmetric eigenvalues, so that it is real and not negative
    even if there are fewer samples than dimensions.
    """
    mean = a.mean(0) - b.mean(0)
    A, B = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = eigh(np.atleast_2d(A))
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(eigh(root @ np.atleast_2d(B) @ root, eigvals_only=True).clip(0)).sum()
    return float(max(0.0, mean @ mean + np.trace(np.atleast_2d(A)) + np.trace(np.atleast_2d(B)) - 2 * cross))


def kernel_distance(a: Features, b: Features) -> float:
    """Squared maximum mean discrepancy, unbiased, with the kernel (x·y/d + 1)³ (Bińkowski et al. 2018, eq. 4).

    It may be slightly negative if the two sets are alike.
    """
    d, m, n = a.shape[1], len(a), len(b)

    def kernel(x: Features, y: Features) -> Features:
        return np.asarray((x @ y.T / d + 1) ** 3)

    aa, bb = kernel(a, a), kernel(b, b)
    within = (aa.sum() - np.trace(aa)) / (m * (m - 1)) + (bb.sum() - np.trace(bb)) / (n * (n - 1))
    return float(within - 2 * kernel(a, b).mean())


def chunked_error(a: Features, b: Features, chunks: int = 5) -> float:
    """Standard error of `kernel_distance`, from disjoint chunks: a bootstrap would count copies as matches."""
    parts = [
        kernel_distance(x, y)
        for x, y in zip(np.array_split(a, chunks), np.array_split(b, chunks), strict=True)
        if len(x) > 2 and len(y) > 2
    ]
    return float(np.std(parts, ddof=1) / np.sqrt(len(parts))) if len(parts) > 1 else float("nan")


@dataclass(frozen=True)
class Manifold:
    """Shares between 0 and 1."""

    precision: float
    recall: float
    coverage: float


def _radii(x: Features, k: int) -> Features:
    """Distance of each point to its k-th nearest other point."""
    return np.partition(cdist(x, x), k, axis=1)[:, k]


def manifold(real: Features, fake: Features, k: int) -> Manifold:
    """Precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991) and coverage (Naeem et al. 2020, eq. 4).

    Precision: fakes inside some real's k-neighborhood. Recall: reals inside some fake's. Coverage: reals whose
    own neighborhood holds a fake.
    """
    k = min(k, len(real) - 1, len(fake) - 1)
    between = cdist(real, fake)
    real_radii, fake_radii = _radii(real, k), _radii(fake, k)
    return Manifold(
        precision=float((between <= real_radii[:, None]).any(0).mean()),
        recall=float((between <= fake_radii[None, :]).any(1).mean()),
        coverage=float((between.min(1) <= real_radii).mean()),
    )


def diversity(fake: Features, real: Features) -> float:
    """Total variance of the fakes' features over that of the reals': 1 matches the reals, near 0 is one repeated image."""
    return float(fake.var(0).sum() / max(real.var(0).sum(), 1e-12))


@dataclass(frozen=True)
class FeatureMetric:
    """A row of the table: metrics that one call measures.

    `measure(fake, train, real, k)` returns a value for each name; `real` are held-out images. `real_values`: the scores of
    real images, if known; otherwise training images are measured in place of `fake`. `error`: the standard
    error of the first value.
    """

    names: tuple[str, ...]
    measure: Callable[[Features, Features, Features, int], tuple[float, ...]]
    real_values: tuple[float, ...] | None = None
    error: Callable[[Features, Features], float] | None = None


def _precision_recall_coverage(
    fake: Features, train: Features, real: Features, k: int
) -> tuple[float, float, float]:
    found = manifold(real, fake, k)
    return found.precision, found.recall, found.coverage


METRICS: tuple[FeatureMetric, ...] = (
    FeatureMetric(("fd",), lambda fake, train, real, k: (frechet_distance(fake, real),)),
    FeatureMetric(("kd",), lambda fake, train, real, k: (kernel_distance(fake, real),), error=chunked_error),
    FeatureMetric(("precision", "recall", "coverage"), _precision_recall_coverage),
    FeatureMetric(("diversity",), lambda fake, train, real, k: (diversity(fake, real),)),
    FeatureMetric(
        ("copied",), lambda fake, train, real, k: (copied_share(fake, train, real),), real_values=(0.01,)
    ),
)
