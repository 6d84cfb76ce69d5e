"""The metrics agree with the packages and definitions that others use, on the same features, to 1e-4."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from scipy.linalg import eigvalsh
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance as energy_distance_of_scipy
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from ganpipe.evaluation.metrics import (
    energy_distance,
    frechet_distance,
    kernel_distance,
    manifold,
    sliced_wasserstein,
    vendi,
)

RNG = np.random.default_rng(0)
MIX = RNG.normal(size=(24, 24))
REAL = np.abs(RNG.normal(size=(300, 24)) @ MIX)
FAKE = np.abs(RNG.normal(size=(220, 24)) @ MIX) * 1.2 + 0.3
CLOSE = np.abs(RNG.normal(size=(300, 24)) @ MIX)


@pytest.mark.parametrize("fake", [FAKE, CLOSE])
def test_frechet_distance_is_that_of_torchmetrics(fake: np.ndarray) -> None:
    moments = [
        torch.from_numpy(value) for x in (REAL, fake) for value in (x.mean(0), np.cov(x, rowvar=False))
    ]
    assert frechet_distance(fake, REAL) == pytest.approx(float(_compute_fid(*moments)), rel=1e-4)


@pytest.mark.parametrize("fake", [FAKE[:220], CLOSE[:220]])
def test_kernel_distance_is_that_of_torchmetrics(fake: np.ndarray) -> None:
    """torchmetrics takes sets of equal size."""
    expected = float(poly_mmd(torch.from_numpy(REAL[:220]), torch.from_numpy(fake)))
    assert kernel_distance(fake, REAL[:220]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("fake", [FAKE, CLOSE])
def test_precision_recall_density_and_coverage_are_those_of_prdc(fake: np.ndarray, k: int) -> None:
    expected = compute_prdc(REAL, fake, k)
    assert vars(manifold(REAL, fake, k)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_energy_distance_is_the_square_of_scipys(scale: float) -> None:
    a, b = REAL[:, :1], FAKE[:, :1] * scale
    expected = energy_distance_of_scipy(a[:, 0], b[:, 0]) ** 2
    assert energy_distance(a, b) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("m", "n"), [(40, 40), (20, 30)])
def test_sliced_wasserstein_is_the_optimal_assignment_of_each_projection(m: int, n: int) -> None:
    """Each point is repeated until both sets are equally large; the assignment is SciPy's, which sorts nothing."""
    a, b = REAL[:m], FAKE[:n]
    times = Fraction(m, n).denominator, Fraction(m, n).numerator
    u = np.random.default_rng(0).standard_normal((7, 24))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    found = []
    for direction in u:
        cost = cdist(
            np.repeat(a, times[0], 0) @ direction[:, None],
            np.repeat(b, times[1], 0) @ direction[:, None],
            "sqeuclidean",
        )
        found.append(cost[linear_sum_assignment(cost)].mean())
    assert sliced_wasserstein(a, b, projections=7) == pytest.approx(3 * 24 * np.mean(found), rel=1e-4)


def test_vendi_is_the_exponential_entropy_of_the_kernels_eigenvalues() -> None:
    unit = REAL / np.linalg.norm(REAL, axis=1, keepdims=True)
    eigenvalues = eigvalsh(unit @ unit.T / len(unit))
    eigenvalues = eigenvalues[eigenvalues > 1e-15]
    expected = np.exp(-(eigenvalues * np.log(eigenvalues)).sum())
    assert vendi(REAL) == pytest.approx(float(expected), rel=1e-4)
