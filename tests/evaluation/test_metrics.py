"""Metrics of feature vectors: closed forms, and agreement with what the formulas say, written plainly."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance as energy_distance_of_scipy

from ganpipe.evaluation import distances, metrics
from ganpipe.evaluation.metrics import (
    METRICS,
    diversity,
    energy_distance,
    frechet_distance,
    inside_manifold,
    jackknife_error,
    kernel_distance,
    manifold,
    mean_manifold,
    measure_features,
    near_duplicate_share,
    real_scores,
    relative_energy,
    relative_energy_error,
    sliced_wasserstein,
    standard_errors,
    standardize,
    vendi,
)

RNG = np.random.default_rng(0)
A = RNG.normal(size=(400, 6))
FEW, LESS_FEW = RNG.normal(size=(20, 50)), RNG.normal(size=(30, 50)) * 1.3 + 0.2


def test_distances_in_blocks_are_those_of_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "BLOCK_DISTANCES", 1000)
    expected = cdist(A[:70], A[70:])
    np.testing.assert_allclose(distances.nearest(A[:70], A[70:]), expected.min(1), atol=1e-7)
    assert distances.mean_distance(A[:70], A[70:]) == pytest.approx(expected.mean())
    within = np.sort(cdist(A, A), axis=1)
    np.testing.assert_allclose(distances.kth_nearest_other(A, 3), within[:, 3], atol=1e-7)


def test_frechet_distance_of_a_shift_is_its_squared_length() -> None:
    delta = np.array([1.0, -2.0, 0.0, 3.0, 0.5, 0.0])
    assert frechet_distance(A, A + delta) == pytest.approx(delta @ delta, rel=1e-6)
    assert frechet_distance(A, A) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_a_scale_is_its_closed_form() -> None:
    """For b = s·a with mean 0: (1 − s)² · tr(A)."""
    centered = A - A.mean(0)
    expected = (1 - 1.5) ** 2 * np.trace(np.cov(centered, rowvar=False))
    assert frechet_distance(centered, 1.5 * centered) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("a", "b"), [(A[:150], A[150:] * 1.2), (FEW, LESS_FEW), (A[:4], A[4:])])
def test_frechet_distance_is_that_of_scipy_even_with_fewer_samples_than_dimensions(
    a: np.ndarray, b: np.ndarray
) -> None:
    A_, B_ = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    mean = a.mean(0) - b.mean(0)
    expected = mean @ mean + np.trace(A_) + np.trace(B_) - 2 * np.trace(sqrtm(A_ @ B_)).real
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4)


def test_kernel_distance_is_the_sum_over_pairs() -> None:
    a, b = A[:7], A[7:16] + 0.5

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 6 + 1) ** 3)

    aa = np.mean([kernel(a[i], a[j]) for i in range(7) for j in range(7) if i != j])
    bb = np.mean([kernel(b[i], b[j]) for i in range(9) for j in range(9) if i != j])
    ab = np.mean([kernel(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(aa + bb - 2 * ab)


def test_energy_distance_is_zero_for_equal_sets_and_that_of_scipy_in_one_dimension() -> None:
    assert energy_distance(A, A) == pytest.approx(0, abs=1e-6)
    a, b = A[:, :1], A[:100, 1:2] * 1.5 + 0.4
    assert energy_distance(a, b) == pytest.approx(energy_distance_of_scipy(a[:, 0], b[:, 0]) ** 2, abs=1e-6)


def test_sliced_wasserstein_of_a_shift_and_of_a_scale_are_their_closed_forms() -> None:
    """3·d·mean (u·δ)² and 3·d·mean (s − 1)²·mean (u·x)², whose means over all directions are 3·‖δ‖² and 3·(s − 1)²·mean ‖x‖²."""
    delta = np.array([1.0, -2.0, 0.0, 3.0, 0.5, 0.0])
    assert sliced_wasserstein(A, A + delta, 20_000) == pytest.approx(3 * delta @ delta, rel=0.02)
    assert sliced_wasserstein(A, A) == 0
    assert sliced_wasserstein(A, 1.5 * A, 20_000) == pytest.approx(3 * 0.25 * (A**2).sum(1).mean(), rel=0.02)


def test_sliced_wasserstein_does_not_depend_on_blocks_order_or_repetition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = sliced_wasserstein(A[:60], A[60:])
    assert sliced_wasserstein(A[60:], A[:60]) == pytest.approx(found)
    assert sliced_wasserstein(np.repeat(A[:60], 3, 0)[::-1], A[60:]) == pytest.approx(found)
    monkeypatch.setattr(metrics, "PROJECTION_BLOCK", 7)
    assert sliced_wasserstein(A[:60], A[60:]) == pytest.approx(found, rel=1e-12)


def test_unbiased_energy_distance_leaves_self_distances_out() -> None:
    a, b = A[:30], A[30:50]
    within = [cdist(x, x).sum() / (len(x) * (len(x) - 1)) for x in (a, b)]
    expected = 2 * cdist(a, b).mean() - sum(within)
    assert energy_distance(a, b, unbiased=True) == pytest.approx(expected)


def test_standardized_features_have_the_spread_of_training_images() -> None:
    found = standardize(A * [1, 2, 3, 4, 5, 1e-9], A * [1, 2, 3, 4, 5, 1e-9])
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-6)
    assert np.all(found.std(0) < 1)
    assert found.std(0)[:5].min() > 0.7
    assert found.std(0)[5] < 1e-6


def test_precision_recall_density_and_coverage_are_as_defined() -> None:
    """The four definitions of Kynkäänniemi et al. and Naeem et al., as in the package prdc."""
    real, fake, k = A[:120], A[120:] * 1.2 + 0.3, 5
    real_radii, fake_radii = (np.sort(cdist(x, x))[:, k] for x in (real, fake))
    between = cdist(real, fake)
    found = manifold(real, fake, k)
    assert found.precision == (between < real_radii[:, None]).any(0).mean()
    assert found.recall == (between < fake_radii).any(1).mean()
    assert found.density == pytest.approx((between < real_radii[:, None]).sum(0).mean() / k)
    assert found.coverage == (between.min(1) < real_radii).mean()


def test_manifold_of_the_same_points_is_perfect_and_of_distant_ones_nothing() -> None:
    same, far = manifold(A, A, 3), manifold(A, A + 100, 3)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert (far.precision, far.recall, far.coverage) == (0, 0, 0)


def test_manifold_in_chunks_does_not_depend_on_the_number_of_fakes() -> None:
    source = np.random.default_rng(1).normal(size=(3000, 6))
    few, many = (mean_manifold(A[:100], source[:n], 5, 100).coverage for n in (500, 3000))
    assert abs(few - many) < 0.04
    assert manifold(A[:100], source, 5).coverage > many + 0.02


def test_points_far_from_all_real_ones_are_outside() -> None:
    assert inside_manifold(np.concatenate([A[:5], A[:3] + 50]), A, 3).tolist() == [True] * 5 + [False] * 3


def test_one_repeated_good_image_has_precision_but_no_coverage() -> None:
    collapsed = np.repeat(A[:1], 50, 0) + RNG.normal(size=(50, 6)) * 1e-3
    found = manifold(A, collapsed, 3)
    assert found.precision == 1
    assert found.recall < 0.01
    assert found.coverage < 0.05
    assert diversity(collapsed, A) < 0.01


@pytest.mark.parametrize("count", [3, 12])
def test_vendi_of_orthogonal_vectors_is_their_number_however_often_each_is_there(count: int) -> None:
    assert vendi(np.repeat(np.eye(count, 12), 4, 0)) == pytest.approx(count)


def test_repeated_images_are_near_duplicates_and_others_are_one_in_twenty() -> None:
    alone = distances.kth_nearest_other(A[:200], 1)
    twice = distances.kth_nearest_other(np.repeat(A[200:300], 2, 0), 1)
    assert near_duplicate_share(twice, alone) == 1
    assert near_duplicate_share(distances.kth_nearest_other(A[200:], 1), alone) < 0.15


def test_standard_errors_are_the_spread_over_draws() -> None:
    """Within a third, over 200 draws; LOG.md has the table for real images."""

    def mean_and_energy(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
        return float(a.mean() - b.mean()), energy_distance(a, b)

    source = np.random.default_rng(2)
    draws = [(source.normal(size=(60, 2)), source.normal(size=(90, 2)) + 0.5) for _ in range(200)]
    spread = np.std([mean_and_energy(*draw) for draw in draws], axis=0)
    nominal = np.mean([jackknife_error(mean_and_energy, *draw) for draw in draws[:60]], axis=0)
    np.testing.assert_allclose(nominal / spread, 1, atol=0.33)


def test_every_metric_of_the_table_has_a_value_an_error_and_the_score_of_real_images() -> None:
    """Also with fewer training images than generated ones."""
    names = {name for row in METRICS for name in row.names}
    fake, train, real = A[:120], A[120:200], A[200:280]
    values, errors = measure_features(fake, train, real, 5), standard_errors(fake, train, real, 5)
    scores = real_scores(len(fake), train, real, 5)
    assert set(values) == set(errors) == set(scores) == names
    assert all(np.isfinite([*values.values(), *errors.values(), *scores.values()]))


def test_memory_does_not_grow_with_the_number_of_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight blocks of distances one is held at once, with two or three copies."""
    for module in (distances, metrics):
        monkeypatch.setattr(module, "BLOCK_DISTANCES", 125_000)
    many = [np.random.default_rng(k).normal(size=(1_000, 4)) for k in range(3)]
    for row in METRICS:
        tracemalloc.start()
        row.measure(many[0], many[1], many[2], 5)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4.5 * 8 * distances.BLOCK_DISTANCES, (row.names, peak)


@pytest.mark.parametrize("shift", [0.0, 0.4])
@pytest.mark.parametrize(("n", "m"), [(60, 60), (40, 160)])
def test_the_error_of_the_energy_distance_is_its_spread_over_draws(shift: float, n: int, m: int) -> None:
    """Of equal distributions, too, where the jackknife is 1.4 times too large."""
    source = np.random.default_rng(3)
    draws = [(source.normal(size=(n, 3)) + shift, source.normal(size=(m, 3))) for _ in range(300)]
    spread = np.std([relative_energy(*draw) for draw in draws])
    assert np.mean([relative_energy_error(*draw) for draw in draws]) / spread == pytest.approx(1, abs=0.2)


def test_the_errors_of_shares_are_their_spread_over_draws() -> None:
    source = np.random.default_rng(4)
    train = source.normal(size=(120, 3))
    draws = [(1.3 * source.normal(size=(80, 3)), source.normal(size=(80, 3))) for _ in range(150)]
    for row in METRICS:
        if row.names[0] not in ("precision", "near_duplicates"):
            continue
        assert row.errors
        spread = np.std([row.measure(fake, train, real, 3) for fake, real in draws], axis=0)
        errors = np.mean([row.errors(fake, train, real, 3) for fake, real in draws[:10]], axis=0)
        np.testing.assert_array_less(errors / spread, 1.5, str(row.names))
        np.testing.assert_array_less(0.65, errors / spread, str(row.names))
