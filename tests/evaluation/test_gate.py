"""The promotion gate: closed forms, wrong promotions, and challengers whose fault is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ganpipe.evaluation import distances
from ganpipe.evaluation.extractors import Extracted, Features
from ganpipe.evaluation.gate import (
    BETTER_Z,
    Kinds,
    compare_features,
    decide,
    images_needed,
    predict_kinds,
)
from ganpipe.evaluation.gate_result import Change, Comparison
from ganpipe.evaluation.mode_coverage import ModeCounter

D = 8


def normal(seed: int, n: int, shift: float = 0.0) -> Features:
    return np.random.default_rng(seed).normal(size=(n, D)) + shift


def compare(champion: Features, challenger: Features, seed: int = 0, m: int = 150) -> Comparison:
    train, holdout = normal(1000 + seed, 200), normal(2000 + seed, m)
    return compare_features(champion, challenger, train, holdout, 5)


def test_the_gain_is_the_difference_of_the_unbiased_energy_distances_and_its_error_that_of_the_pairs() -> (
    None
):
    """Written out with scipy's distances, as JUDGING.md has it."""
    a, b, train, real = normal(1, 30, 0.5), normal(2, 30), normal(3, 50) * 3, normal(4, 20)
    found = compare_features(a, b, train, real, 3)
    spread = train.std(0) + 0.1 * train.std(0).mean()
    a, b, real = ((x - train.mean(0)) / spread for x in (a, b, real))
    both, n = np.concatenate([a, b]), 30
    g = 2 * cdist(both, real).mean(1) - cdist(both, both).sum(1) / (n - 1)
    q = 2 * (cdist(a, real).mean(0) - cdist(b, real).mean(0))
    error = np.sqrt(g[:n].var(ddof=1) / n + g[n:].var(ddof=1) / n + q.var(ddof=1) / len(real))

    def energy(x: Features) -> float:
        within = cdist(x, x).sum() / (n * (n - 1))
        return 2 * cdist(x, real).mean() - within - cdist(real, real).sum() / (20 * 19)

    assert found.energy.value == pytest.approx(energy(a) - energy(b), abs=1e-6)
    assert found.energy.error == pytest.approx(error, rel=1e-6)
    assert (found.champion_energy, found.challenger_energy) == pytest.approx((energy(a), energy(b)), abs=1e-6)


@pytest.mark.parametrize("chunk", [1, 1000, 2**22])
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    whole = compare(normal(1, 70, 0.4), normal(2, 70), m=33)
    monkeypatch.setattr(distances, "BLOCK_DISTANCES", chunk)
    parts = compare(normal(1, 70, 0.4), normal(2, 70), m=33)
    assert parts.energy.value == pytest.approx(whole.energy.value, abs=1e-9)
    assert (parts.coverage, parts.precision) == (whole.coverage, whole.precision)


def test_exchanging_the_two_changes_only_signs() -> None:
    one, other = compare(normal(1, 90, 0.3), normal(2, 90)), compare(normal(2, 90), normal(1, 90, 0.3))
    for name in ("energy", "coverage", "precision"):
        there, back = getattr(one, name), getattr(other, name)
        assert (back.value, back.z) == pytest.approx((-there.value, -there.z), abs=1e-9)
        assert back.error == pytest.approx(there.error)


@pytest.mark.parametrize(("n", "m"), [(150, 150), (150, 30), (60, 8)])
def test_a_model_is_seldom_promoted_over_itself(n: int, m: int) -> None:
    """Both sets come from one source, which is not that of the real images."""
    outcomes = [
        decide(compare(normal(k, n, 0.2), normal(5000 + k, n, 0.2), k, m), "good").outcome for k in range(200)
    ]
    assert outcomes.count("promoted") <= 10


def test_a_better_set_is_promoted_and_the_worse_one_never() -> None:
    pairs = [(normal(k, 200, 0.5), normal(5000 + k, 200, 0.2)) for k in range(20)]
    better = [decide(compare(a, b, k), "good").outcome for k, (a, b) in enumerate(pairs)]
    worse = [decide(compare(b, a, k), "good").outcome for k, (a, b) in enumerate(pairs)]
    assert better == ["promoted"] * 20
    assert worse == ["kept"] * 20


def test_what_comes_nearer_but_loses_something_is_kept() -> None:
    """Against a champion that is shifted: real points that repeat, half of the space, and exact copies told by the verdict."""
    champion, honest = normal(1, 300, 0.8), normal(2, 300)
    assert decide(compare(champion, honest), "good").outcome == "promoted"
    repeated = np.repeat(honest[:15], 20, 0) + 1e-6 * normal(3, 300)
    assert "loses coverage" in decide(compare(champion, repeated), "good").reason
    half = np.concatenate([honest[honest[:, 0] > 0], normal(4, 400)[normal(4, 400)[:, 0] > 0]])[:300]
    assert decide(compare(normal(5, 300, 0.1), half), "good").outcome == "kept"
    for verdict in ("collapsed", "memorized", "poor"):
        refused = decide(compare(champion, honest), verdict)
        assert (refused.outcome, verdict in refused.reason) == ("kept", True)
    assert decide(compare(champion, honest), "inconclusive").outcome == "promoted"


def test_a_lost_kind_is_named_even_if_the_rest_is_better() -> None:
    labels = np.arange(600) % 10
    centers = np.random.default_rng(0).normal(size=(10, D)) * 4

    def draw(seed: int, labels: np.ndarray, shift: float = 0.0) -> Extracted:
        x = centers[labels] + normal(seed, len(labels), shift)
        return Extracted(x, x)

    train, holdout = draw(1, labels), draw(2, labels)
    champion, whole, nine = draw(3, labels, 0.6), draw(4, labels), draw(5, np.arange(600) % 9)

    names, few = tuple("abcdefghij"), (normal(6, 50), np.full(50, -1))

    def counter(labels: np.ndarray) -> ModeCounter:
        return ModeCounter(train.wide, labels, holdout.wide, np.arange(600) % 10, names)

    def compared(challenger: Extracted) -> Comparison:
        kinds = predict_kinds(champion, challenger, counter(labels))
        assert kinds is not None
        return compare_features(champion.deep, challenger.deep, train.deep, holdout.deep, 5, kinds)

    assert decide(compared(whole), "good").outcome == "promoted"
    lost = replace(compared(nine), coverage=Change.of(0, 0.01), precision=Change.of(0, 0.01))
    assert decide(lost, "good").reason.startswith("The challenger draws too little of j: 0.0% of its images")
    untold = predict_kinds(champion, nine, counter(np.full(600, -1)))
    found = compare_features(champion.deep, nine.deep, train.deep, holdout.deep, 5, untold).kind
    assert found is not None
    assert found.name.startswith("cluster ")
    assert found.challenger_share == 0
    assert found.change.z < found.least_z
    assert predict_kinds(champion, whole, ModeCounter(*few, *few, names)) is None


def test_kinds_outside_the_real_manifold_do_not_count() -> None:
    kinds = Kinds(("a", "b"), np.array([0.5, 0.5]), np.arange(60) % 2, np.arange(60) % 2)
    far = normal(2, 60) + np.where(np.arange(60) % 2, 100.0, 0.0)[:, None]
    found = compare_features(normal(1, 60), far, normal(3, 60), normal(4, 60), 5, kinds).kind
    assert found is not None
    assert (found.name, found.challenger_share) == ("b", 0.0)


def test_too_few_images_are_undecided_and_the_number_that_is_needed_decides() -> None:
    few = [compare(normal(k, 40, 0.25), normal(5000 + k, 40), k, 40) for k in range(40)]
    said = [decide(c, "good") for c in few]
    undecided = [c for c, d in zip(few, said, strict=True) if d.outcome == "undecided"]
    assert len(undecided) > 15
    typical = replace(few[0], energy=Change.of(*np.mean([(c.energy.value, c.energy.error) for c in few], 0)))
    images, holdout = images_needed(typical)
    assert 40 < images < 4000
    enough = [
        compare(normal(k, images, 0.25), normal(5000 + k, images), k, max(holdout, 40)) for k in range(20)
    ]
    assert sum(c.energy.z > BETTER_Z for c in enough) >= 14
    decision = next(d for d in said if d.outcome == "undecided")
    assert f"about {decision.images_needed:,} generated" in decision.reason


def test_the_same_images_twice_are_no_gain() -> None:
    a = normal(1, 100, 0.2)
    found = compare(a, a)
    assert (found.energy.value, found.coverage.z, found.precision.z) == (0, 0, 0)
    assert decide(found, "good").outcome != "promoted"


def test_constant_features_and_sets_of_different_sizes() -> None:
    flat = np.ones((20, D))
    found = compare_features(flat, flat, flat, flat, 5)
    assert found.energy.value == 0
    assert decide(found, "good").outcome == "kept"
    with pytest.raises(ValueError, match="20 and 10 images"):
        compare_features(flat, flat[:10], flat, flat, 5)
