"""The promotion gate: whether a challenger is better than the champion, and in nothing worse.

Both are judged on the same held-out images, with the same number of generated images and one extractor. Error rates and
power: LOG.md, `python -m benchmarks.gate`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ganpipe.evaluation.distances import distance_blocks, distance_sums, kth_nearest_other
from ganpipe.evaluation.extractors import Extracted, Features
from ganpipe.evaluation.gate_result import (
    KEPT,
    PROMOTED,
    UNDECIDED,
    Change,
    Comparison,
    GateResult,
    KindChange,
    refusal,
)
from ganpipe.evaluation.judge import ImageSet, Judge
from ganpipe.evaluation.metrics import standardize
from ganpipe.evaluation.mode_coverage import ModeCounter, missing_modes

BETTER_Z = 1.645  # one-sided 95%
POWER_Z = 0.842  # 80%: how surely the images that are said to be needed would show the improvement
WORSE_Z = -2.33  # one-sided 1%
MOST_LOSS = 0.05  # of coverage and of precision
FEW_OF_A_KIND = 0.75  # of its real share: honest images have more of each of ten kinds (LOG.md)
MATTERS = 0.005  # of the mean distance between real images: 20% blurred images against 10% (LOG.md)


@dataclass(frozen=True)
class Kinds:
    """The label of each image, as a classifier sees it (an index of `names`); `real_shares`: `[len(names)]`."""

    names: tuple[str, ...]
    real_shares: Features
    champion: npt.NDArray[np.int64]
    challenger: npt.NDArray[np.int64]


def compare_images(champion: ImageSet, challenger: ImageSet, judge: Judge) -> Comparison:
    """Compares images of a challenger with as many of a champion on the judge's held-out images."""
    a, b = champion.features, challenger.features
    kinds = predict_kinds(a, b, judge.mode_counter)
    train, holdout = judge.train.features.deep, judge.holdout.features.deep
    found = compare_features(a.deep, b.deep, train, holdout, judge.k, kinds)
    return replace(found, conditions=judge.conditions(len(challenger)))


def compare_features(
    champion: Features,
    challenger: Features,
    train: Features,
    holdout: Features,
    k: int,
    kinds: Kinds | None = None,
) -> Comparison:
    """Compares as many features of a challenger `[n, d]` as of a champion `[n, d]` on held-out ones `[m, d]`.

    The energy distance is measured on features standardised by training images; coverage and precision, with `k`
    nearest neighbors, on the features as they are.
    """
    if len(champion) != len(challenger):
        raise ValueError(f"{len(champion)} and {len(challenger)} images cannot be compared")
    k = min(k, len(holdout) - 1)
    radii = kth_nearest_other(holdout, k)
    a, b = _insides(champion, holdout, radii), _insides(challenger, holdout, radii)
    precision = float(b.inside.mean() - a.inside.mean())
    precision_error = math.sqrt((_variance(a.inside) + _variance(b.inside)) / len(champion))
    covered = b.covered.astype(float) - a.covered
    energy = _energies(*(standardize(x, train) for x in (champion, challenger, holdout)))
    return Comparison(
        images=len(champion),
        holdout=len(holdout),
        **energy._asdict(),
        coverage=Change.of(covered.mean(), math.sqrt(_variance(covered) / len(holdout))),
        precision=Change.of(precision, precision_error),
        kind=_least_drawn_kind(kinds, a.inside, b.inside) if kinds else None,
    )


class _Energies(NamedTuple):
    energy: Change
    error_generated: float
    error_holdout: float
    champion_energy: float
    challenger_energy: float
    scale: float


def _energies(a: Features, b: Features, real: Features) -> _Energies:
    """The difference of two energy distances with its error, by influence per image (JUDGING: the gate that held).

    g(x) = 2·mean_h D(x, h) − Σ_{x′ ∈ A∪B} D(x, x′)/(n − 1): the difference of its means over A and B is that of the
    unbiased energy distances, since the terms between A and B cancel. q_h = 2·(mean_a D(a, h) − mean_b D(b, h)).
    """
    n, m = len(a), len(real)
    (a_real, real_a), (b_real, real_b) = distance_sums(a, real), distance_sums(b, real)
    # Sums by rows only, so that the same images twice are a gain of 0 to the bit.
    a_a, a_b, b_a, b_b = (distance_sums(x, y)[0] for x, y in ((a, a), (a, b), (b, a), (b, b)))
    g_a, g_b = 2 * a_real / m - (a_a + a_b) / (n - 1), 2 * b_real / m - (b_b + b_a) / (n - 1)
    generated = math.sqrt((_variance(g_a) + _variance(g_b)) / n)
    holdout = math.sqrt(_variance(2 * (real_a - real_b) / n) / m)
    scale = float(distance_sums(real, real)[0].sum() / max(m * (m - 1), 1))
    energies = [
        float(2 * to_real.mean() / m - within.mean() / (n - 1) - scale)
        for to_real, within in ((a_real, a_a), (b_real, b_b))
    ]
    change = Change.of(g_a.mean() - g_b.mean(), math.hypot(generated, holdout))
    return _Energies(change, generated, holdout, energies[0], energies[1], scale)


class _Insides(NamedTuple):
    inside: npt.NDArray[np.bool_]  # generated images in the neighborhood of a held-out one
    covered: npt.NDArray[np.bool_]  # held-out images with a generated one in their neighborhood


def _insides(fake: Features, real: Features, radii: Features) -> _Insides:
    inside, nearest = np.zeros(len(fake), bool), np.full(len(real), np.inf)
    for rows, d in distance_blocks(fake, real):
        inside[rows] = (d <= radii).any(1)
        nearest = np.minimum(nearest, d.min(0))
    return _Insides(inside, nearest <= radii)


def _variance(x: npt.NDArray[np.float64] | npt.NDArray[np.bool_]) -> float:
    return float(np.var(x.astype(float), ddof=1)) if len(x) > 1 else 0.0


def _least_drawn_kind(
    kinds: Kinds, champion_inside: npt.NDArray[np.bool_], challenger_inside: npt.NDArray[np.bool_]
) -> KindChange:
    """Of the kinds that the challenger draws too little of, the one that it lost most of; else its rarest."""
    n, real = len(kinds.champion), kinds.real_shares
    counts = [
        np.bincount(seen[inside], minlength=len(kinds.names))
        for seen, inside in ((kinds.champion, champion_inside), (kinds.challenger, challenger_inside))
    ]
    before, after = counts[0] / n, counts[1] / n
    changes = [
        Change.of(
            after[j] - before[j],
            math.sqrt((before[j] * (1 - before[j]) + after[j] * (1 - after[j])) / (n - 1)),
        )
        for j in range(len(kinds.names))
    ]
    known = [j for j in range(len(kinds.names)) if real[j] > 0]
    few = [j for j in known if after[j] < FEW_OF_A_KIND * real[j]]
    j = min(few, key=lambda j: changes[j].z) if few else min(known, key=lambda j: after[j] / real[j])
    was, is_now = (
        missing_modes(count[known], real[known], int(inside.sum()))[known.index(j)]
        for count, inside in zip(counts, (champion_inside, challenger_inside), strict=True)
    )
    return KindChange(
        name=kinds.names[j],
        real_share=float(real[j]),
        champion_share=float(before[j]),
        challenger_share=float(after[j]),
        change=changes[j],
        least_z=WORSE_Z if is_now and not was else NormalDist().inv_cdf(0.01 / len(known)),
    )


def predict_kinds(champion: Extracted, challenger: Extracted, counter: ModeCounter) -> Kinds | None:
    """The kind of each generated image, by the classifier that counts modes; None if it is not trusted."""
    if not counter.trusted:
        return None
    seen = counter.predict(champion.wide), counter.predict(challenger.wide)
    return Kinds(counter.names, counter.shares, *seen)


def decide(comparison: Comparison, verdict: str) -> GateResult:
    """Whether the challenger, whose verdict is `verdict`, replaces the champion."""
    if loss := _loss(comparison, verdict):
        return GateResult(KEPT, loss, comparison)
    c, energy = comparison, comparison.energy
    figures = (
        f"energy distance to the held-out images {c.champion_energy:.3g} before, {c.challenger_energy:.3g} now, "
        f"gain {energy}, z {energy.z:.1f}; {c.images:,} generated and {c.holdout:,} held-out images"
    )
    if energy.z > BETTER_Z:
        return GateResult(PROMOTED, f"The challenger is better ({figures}).", c)
    if not energy.value + BETTER_Z * energy.error > MATTERS * c.scale:
        how = "worse" if energy.z < -BETTER_Z else "not better"
        return GateResult(KEPT, f"The challenger is {how} ({figures}).", c)
    images, holdout = images_needed(c)
    return GateResult(
        UNDECIDED,
        f"There are too few images to say whether the challenger is better ({figures}); about {images:,} generated "
        f"and {holdout:,} held-out images would be needed.",
        c,
        images,
        holdout,
    )


def _loss(c: Comparison, verdict: str) -> str | None:
    """Why the challenger may not replace the champion, however near it is to the real images."""
    if why := refusal(verdict):
        return f"The challenger is refused: {why[0].lower()}{why[1:]}"
    for name, change in (("coverage", c.coverage), ("precision", c.precision)):
        if change.value <= -MOST_LOSS or change.z <= WORSE_Z:
            return f"The challenger loses {name}: {change}, z {change.z:.1f}."
    if c.kind and c.kind.change.z <= c.kind.least_z:
        k = c.kind
        return (
            f"The challenger draws too little of {k.name}: {k.challenger_share:.1%} of its images, {k.champion_share:.1%} "
            f"of the champion's, {k.real_share:.1%} of the real ones."
        )
    return None


def images_needed(c: Comparison) -> tuple[int, int]:
    """Generated and held-out images that would show the improvement that was seen, or the least that matters.

    More images are generated first, up to ten times as many: these cost only time.
    """
    target = max(c.energy.value, MATTERS * c.scale) / (BETTER_Z + POWER_Z)
    room = target**2 - c.error_holdout**2
    if room > 0 and (more := c.error_generated**2 / room) <= 10:
        return math.ceil(c.images * max(more, 1.0)), c.holdout
    times = (c.energy.error / target) ** 2
    return math.ceil(c.images * times), math.ceil(c.holdout * times)
