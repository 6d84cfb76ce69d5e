"""Euclidean distances between feature arrays `[N, d]`, in blocks of rows, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ganpipe.evaluation.extractors import Features

BLOCK_DISTANCES = 4_000_000  # held at once: 32 MB of float64


def distance_blocks(a: Features, b: Features) -> Iterator[tuple[slice, Features]]:
    """Yields rows of `a` with their distances to all of `b`.

    From the inner products, around b's mean: exact to about 1e-8 of the features' spread.
    """
    a, b = a - b.mean(0), b - b.mean(0)
    a_squares, b_squares = (a**2).sum(1), (b**2).sum(1)
    rows = max(1, BLOCK_DISTANCES // len(b))
    for start in range(0, len(a), rows):
        part = slice(start, min(start + rows, len(a)))
        squares = a_squares[part, None] + b_squares - 2 * (a[part] @ b.T)
        yield part, np.sqrt(squares.clip(0))


def nearest(a: Features, b: Features) -> Features:
    """Distance of each row of `a` to the nearest of `b`."""
    return np.concatenate([block.min(1) for _, block in distance_blocks(a, b)])


def kth_nearest_other(x: Features, k: int) -> Features:
    """Distance of each row of `x` to its k-th nearest other row."""
    found = np.empty(len(x))  # a list of columns would keep every block alive
    for rows, block in distance_blocks(x, x):
        found[rows] = np.partition(_without_self(rows, block), k - 1)[:, k - 1]
    return found


def distance_sums(a: Features, b: Features) -> tuple[Features, Features]:
    """The sum of the distances of each row of `a` to all of `b`, and of each row of `b` to all of `a`."""
    of_a, of_b = np.empty(len(a)), np.zeros(len(b))
    for rows, block in distance_blocks(a, b):
        of_a[rows] = block.sum(1)
        of_b += block.sum(0)
    return of_a, of_b


def mean_distance(a: Features, b: Features) -> float:
    """Mean distance over all pairs."""
    return float(distance_sums(a, b)[0].sum() / (len(a) * len(b)))


def _without_self(rows: slice, block: Features) -> Features:
    block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = np.inf
    return block
