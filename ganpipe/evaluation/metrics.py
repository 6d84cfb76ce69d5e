"""Metrics on feature vectors, as pure functions of arrays `[N, d]` (float64); METRICS is the table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.linalg import qr, svdvals

from ganpipe.evaluation.distances import (
    BLOCK_DISTANCES,
    distance_blocks,
    distance_sums,
    kth_nearest_other,
    mean_distance,
)
from ganpipe.evaluation.extractors import Features

PROJECTIONS = 1_000
PROJECTION_BLOCK = 50  # projections of all images held at once
JACKKNIFE_GROUPS = 10
JACKKNIFE_IMAGES = 2_000  # of each side; an error falls with the root of the number of images


def frechet_distance(a: Features, b: Features) -> float:
    """Fréchet distance of the Gaussians fitted to `a` and `b` (Heusel et al. 2017, arXiv 1706.08500, eq. 6).

    ‖μa − μb‖² + tr(A + B − 2(A½BA½)½). The last trace is the nuclear norm of A½B½, hence of RaRbᵀ with the triangular
    factors of the centered features: exact if there are fewer samples than dimensions, too.
    """
    mean = a.mean(0) - b.mean(0)
    roots = [
        qr(x - x.mean(0), mode="r", check_finite=False)[0][: x.shape[1]] / np.sqrt(len(x) - 1) for x in (a, b)
    ]
    traces = sum(float((root**2).sum()) for root in roots)
    return float(max(0.0, mean @ mean + traces - 2 * svdvals(roots[0] @ roots[1].T).sum()))


def kernel_distance(a: Features, b: Features) -> float:
    """Squared maximum mean discrepancy, unbiased, with the kernel (x·y/d + 1)³ (Bińkowski et al. 2018, eq. 4).

    It may be slightly negative if the two sets are alike.
    """
    m, n = len(a), len(b)
    within_a = (_kernel_sum(a, a) - _kernel(a, a).sum()) / (m * (m - 1))
    within_b = (_kernel_sum(b, b) - _kernel(b, b).sum()) / (n * (n - 1))
    return float(within_a + within_b - 2 * _kernel_sum(a, b) / (m * n))


def _kernel(x: Features, y: Features) -> Features:
    """The kernel of each row with the same row of the other."""
    return np.asarray(((x * y).sum(1) / x.shape[1] + 1) ** 3)


def _kernel_sum(x: Features, y: Features) -> float:
    """The sum of the kernel over all pairs."""
    parts = np.array_split(x, math.ceil(len(x) * len(y) / BLOCK_DISTANCES))
    affine = (part @ y.T / x.shape[1] + 1 for part in parts)
    return float(sum((block * block * block).sum() for block in affine))  # ** 3 takes four times as long


def standardize(x: Features, train: Features) -> Features:
    """Features in standard deviations of the training images; 0.1 of the mean one is added, so that none is near 0."""
    spread = train.std(0)
    return np.asarray((x - train.mean(0)) / (spread + 0.1 * spread.mean() + 1e-12))


def energy_distance(a: Features, b: Features, unbiased: bool = False) -> float:
    """Energy distance 2·E|a − b| − E|a − a′| − E|b − b′| (Székely & Rizzo 2013); 0 if the distributions are equal.

    `unbiased` leaves each row's distance to itself out of the means; the result may then be slightly negative.
    """
    between, within_a, within_b = _mean_distances(a, b, unbiased)
    return 2 * between - within_a - within_b


def relative_energy(fake: Features, real: Features) -> float:
    """Energy distance as a share of the mean distance between two real images, unbiased."""
    between, fakes, reals = _mean_distances(fake, real, unbiased=True)
    return (2 * between - fakes - reals) / max(reals, 1e-12)


def _mean_distances(a: Features, b: Features, unbiased: bool) -> tuple[float, float, float]:
    """Mean distances between `a` and `b`, within `a`, and within `b`."""
    within = [mean_distance(x, x) * (len(x) / (len(x) - 1) if unbiased else 1) for x in (a, b)]
    return mean_distance(a, b), within[0], within[1]


def sliced_wasserstein(a: Features, b: Features, projections: int = PROJECTIONS) -> float:
    """Squared sliced Wasserstein-2 distance times 3·d, as in MIND (Berthet et al. 2026, arXiv 2605.06797).

    3·d · mean over random unit vectors u of W₂²(u·a, u·b). MIND takes Inception's features and sets of equal size; here
    any features, and W₂² is exact for unequal sizes, too: the integral of (F_a⁻¹ − F_b⁻¹)². For a shift by δ it is
    3·‖δ‖², on average over u. The vectors are the same in every call.
    """
    rng, (m, n, d) = np.random.default_rng(0), (len(a), len(b), a.shape[1])
    ends = np.union1d(
        np.arange(1, m + 1) * n, np.arange(1, n + 1) * m
    )  # of the steps of both quantile functions, × m·n
    widths, rank_a, rank_b = np.diff(ends, prepend=0) / (m * n), (ends - 1) // n, (ends - 1) // m
    total = 0.0
    for start in range(0, projections, PROJECTION_BLOCK):
        u = rng.standard_normal((min(PROJECTION_BLOCK, projections - start), d))
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        sorted_a, sorted_b = np.sort(u @ a.T), np.sort(u @ b.T)
        total += float((((sorted_a[:, rank_a] - sorted_b[:, rank_b]) ** 2) @ widths).sum())
    return 3 * d * total / projections


def relative_energy_error(fake: Features, real: Features) -> float:
    """Standard error of `relative_energy`, over both samples.

    The energy distance is a mean over pairs, so its variance has a part from each sample, var g/n + var q/m with g and q the
    influence of an image, and one from pairs. The first two, estimated, hold that of pairs once too often: it is taken off.
    If the distributions are equal it is all there is, and the jackknife would be 1.4 times too large (LOG.md).
    """
    n, m = len(fake), len(real)
    between, within_fake, within_real = (_pairs(*sides) for sides in ((fake, real), (fake,), (real,)))
    scale = max(within_real.mean, 1e-12)
    ratio = (2 * between.mean - within_fake.mean - within_real.mean) / scale
    g = 2 * between.of_a - 2 * within_fake.of_a
    q = 2 * between.of_b - (2 + 2 * ratio) * within_real.of_a
    images = float(g.var() / max(n - 1, 1) + q.var() / max(m - 1, 1))
    pairs = 2 * within_fake.interaction / n**2 + 2 * within_real.interaction / m**2
    pairs += 4 * between.interaction / (n * m)
    return math.sqrt(max(images - pairs, pairs, 0.0)) / scale


@dataclass(frozen=True)
class _Pairs:
    """Mean distances of each row to all (other) rows, `of_a` and `of_b`; over all pairs, `mean`; `interaction`: the variance
    of the distances that is not explained by the means of their two rows."""

    of_a: Features
    of_b: Features
    mean: float
    interaction: float


def _pairs(a: Features, b: Features | None = None) -> _Pairs:
    """Distances between the rows of `a` and of `b`, or between different rows of `a`."""
    other = a if b is None else b
    left_out = b is None
    sums_a, sums_b = distance_sums(a, other)
    of_a, of_b = sums_a / (len(other) - left_out), sums_b / (len(a) - left_out)
    mean = float(of_a.mean())
    squares = float((a**2).sum(1).mean() + (other**2).sum(1).mean() - 2 * a.mean(0) @ other.mean(0))
    squares *= len(other) / (len(other) - left_out)
    return _Pairs(of_a, of_b, mean, squares - float((of_a**2).mean() + (of_b**2).mean()) + mean**2)


def share_error(share: float, n: int, m: int) -> float:
    """Standard error of a share of images that both samples, of `n` and `m` images, decide: binomial in both.

    An approximation, measured to be 0.64 to 1.47 times the true one; the jackknife is up to 1.8 times too large, because
    nearest neighbors change in steps (LOG.md).
    """
    return math.sqrt(max(share * (1 - share), 0.0) * (1 / n + 1 / m))


@dataclass(frozen=True)
class Manifold:
    """Shares between 0 and 1; the density of real images is about 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(real: Features, fake: Features, k: int) -> Manifold:
    """Precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991), density and coverage (Naeem et al. 2020).

    Precision: fakes inside some real's k-neighborhood. Recall: reals inside some fake's. Density: real
    neighborhoods that hold a fake, over k. Coverage: reals whose own neighborhood holds a fake.
    """
    k = min(k, len(real) - 1, len(fake) - 1)
    real_radii, fake_radii = kth_nearest_other(real, k), kth_nearest_other(fake, k)
    holders, recalled, covered = np.zeros(len(fake)), 0, 0
    for rows, between in distance_blocks(real, fake):
        inside = between <= real_radii[rows, None]
        holders += inside.sum(0)
        recalled += int((between <= fake_radii).any(1).sum())
        covered += int(inside.any(1).sum())
    return Manifold(
        precision=float((holders > 0).mean()),
        recall=recalled / len(real),
        density=float(holders.mean() / k),
        coverage=covered / len(real),
    )


def mean_manifold(real: Features, fake: Features, k: int, size: int) -> Manifold:
    """`manifold` of disjoint chunks of `size` images of each side, averaged: what depends on the size stays comparable."""
    reals, fakes = _chunks(real, size), _chunks(fake, size)
    pairs = [(reals[i % len(reals)], fakes[i % len(fakes)]) for i in range(max(len(reals), len(fakes)))]
    found = [manifold(r, f, k) for r, f in pairs]
    return Manifold(*np.mean([[m.precision, m.recall, m.density, m.coverage] for m in found], 0).tolist())


def _chunks(x: Features, size: int) -> list[Features]:
    return [x[start : start + size] for start in range(0, len(x) - size + 1, size)]


def inside_manifold(fake: Features, real: Features, k: int) -> np.ndarray:
    """Which fakes are inside some real's k-neighborhood."""
    radii = kth_nearest_other(real, min(k, len(real) - 1))
    return np.concatenate([(block <= radii).any(1) for _, block in distance_blocks(fake, real)])


def diversity(fake: Features, real: Features) -> float:
    """Total variance of the fakes' features over that of the reals': 1 matches the reals, near 0 is one repeated image."""
    return float(fake.var(0).sum() / max(real.var(0).sum(), 1e-12))


def vendi(x: Features) -> float:
    """Vendi score with the cosine kernel (Friedman & Dieng 2023, arXiv 2210.02410): the effective number of images."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12)
    shares = svdvals(qr(unit, mode="r")[0] if len(unit) > unit.shape[1] else unit) ** 2 / len(unit)
    shares = shares[shares > 1e-15]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def near_duplicate_share(fake_nearest: Features, real_nearest: Features) -> float:
    """Share of images nearer to another of their set than 95% of the real images are; about 0.05 if none is repeated.

    Takes the distances of both sets to the nearest other image of the same set; the sets must be equally large.
    """
    threshold = max(np.quantile(real_nearest, 0.05), 1e-3 * float(np.median(real_nearest)))
    return float((fake_nearest <= threshold).mean())


def jackknife_error(
    measure: Callable[[Features, Features], tuple[float, ...]], a: Features, b: Features
) -> list[float]:
    """Standard error of each value of `measure(a, b)`, over both samples: the delete-a-group jackknife."""
    few_a, few_b = a[:JACKKNIFE_IMAGES], b[:JACKKNIFE_IMAGES]
    groups = min(JACKKNIFE_GROUPS, len(few_a) // 2, len(few_b) // 2)
    left = [
        measure(np.delete(few_a, np.s_[g::groups], 0), np.delete(few_b, np.s_[g::groups], 0))
        for g in range(groups)
    ]
    spread = np.std(np.array(left), axis=0) * np.sqrt(groups - 1)
    return [float(s) for s in spread * np.sqrt(min(len(few_a), len(few_b)) / min(len(a), len(b)))]


# The values of a row for `fake`, `train`, `real` and k; `real` are held-out images, `train` has at least as many as `fake`.
Measure = Callable[[Features, Features, Features, int], tuple[float, ...]]


@dataclass(frozen=True)
class FeatureMetric:
    """A row of the table: metrics that one call measures.

    `real_values`: the scores of real images, if known; otherwise training images are measured in place of `fake`.
    `errors`: the standard errors; otherwise they are those of the jackknife.
    """

    names: tuple[str, ...]
    measure: Measure
    real_values: tuple[float, ...] | None = None
    errors: Measure | None = None


def _energy(fake: Features, train: Features, real: Features, k: int) -> tuple[float, ...]:
    return (relative_energy(standardize(fake, train), standardize(real, train)),)


def _energy_errors(fake: Features, train: Features, real: Features, k: int) -> tuple[float, ...]:
    return (relative_energy_error(standardize(fake, train), standardize(real, train)),)


def _manifold(fake: Features, train: Features, real: Features, k: int) -> tuple[float, ...]:
    found = mean_manifold(real, fake, k, min(len(fake), len(real)))
    return found.precision, found.recall, found.density, found.coverage


def _manifold_errors(fake: Features, train: Features, real: Features, k: int) -> tuple[float, ...]:
    precision, recall, _, coverage = (
        share_error(share, len(fake), len(real)) for share in _manifold(fake, train, real, k)
    )
    jackknife = jackknife_error(lambda f, r: _manifold(f, train, r, k), fake, real)
    return precision, recall, jackknife[2], coverage


def _near_duplicates(fake: Features, train: Features, real: Features, k: int) -> tuple[float, ...]:
    return (near_duplicate_share(kth_nearest_other(fake, 1), kth_nearest_other(train[: len(fake)], 1)),)


def _near_duplicates_errors(fake: Features, train: Features, real: Features, k: int) -> tuple[float, ...]:
    """Images repeat each other in pairs: half as many are independent."""
    return (share_error(_near_duplicates(fake, train, real, k)[0], len(fake), len(fake)),)


METRICS: tuple[FeatureMetric, ...] = (
    FeatureMetric(("fd",), lambda fake, train, real, k: (frechet_distance(fake, real),)),
    FeatureMetric(("kd",), lambda fake, train, real, k: (kernel_distance(fake, real),)),
    FeatureMetric(("energy",), _energy, errors=_energy_errors),
    FeatureMetric(("swd",), lambda fake, train, real, k: (sliced_wasserstein(fake, real),)),
    FeatureMetric(("precision", "recall", "density", "coverage"), _manifold, errors=_manifold_errors),
    FeatureMetric(("diversity",), lambda fake, train, real, k: (diversity(fake, real),)),
    FeatureMetric(("vendi",), lambda fake, train, real, k: (vendi(standardize(fake, train)),)),
    FeatureMetric(("near_duplicates",), _near_duplicates, (0.05,), _near_duplicates_errors),
)


def measure_features(fake: Features, train: Features, real: Features, k: int) -> dict[str, float]:
    """Every metric of METRICS. If there are fewer training images than fakes, disjoint chunks of as many are averaged."""
    found: dict[str, float] = {}
    for row in METRICS:
        found |= dict(zip(row.names, _measure_row(row, fake, real, train, k), strict=True))
    return found


def real_scores(count: int, train: Features, real: Features, k: int) -> dict[str, float]:
    """The scores of real images in place of `count` fakes: training images stand in for them."""
    found: dict[str, float] = {}
    for row in METRICS:
        scores = row.real_values or row.measure(train[:count], train, real, k)
        found |= dict(zip(row.names, scores, strict=True))
    return found


def standard_errors(fake: Features, train: Features, real: Features, k: int) -> dict[str, float]:
    """The standard error of every metric of METRICS, over generated and held-out images."""
    found: dict[str, float] = {}
    for row in METRICS:
        jackknife = partial(_measure_row, row, train=train, k=k)
        errors = row.errors(fake, train, real, k) if row.errors else jackknife_error(jackknife, fake, real)
        found |= dict(zip(row.names, errors, strict=True))
    return found


def _measure_row(
    row: FeatureMetric, fake: Features, real: Features, train: Features, k: int
) -> tuple[float, ...]:
    chunks = _chunks(fake, min(len(fake), len(train)))
    return tuple(np.mean([row.measure(chunk, train, real, k) for chunk in chunks], 0).tolist())
