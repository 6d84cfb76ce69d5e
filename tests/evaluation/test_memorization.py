"""Copies of training images are found, in the whole training set, and honest images are left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ganpipe.compute.device import choose_compute
from ganpipe.evaluation.memorization import (
    Neighbors,
    compare_copies,
    find_suspects,
    nearest_training_images,
    normalized,
    thumbnails,
)
from ganpipe.samples.flowers import draw_flower

CPU = choose_compute("cpu", "fp32")


@pytest.fixture(scope="module")
def flowers() -> Tensor:
    """300 flowers at 32 pixels."""
    return torch.from_numpy(np.stack([np.asarray(draw_flower(k, size_px=32)) for k in range(300)]))


def _mirrored(x: Tensor) -> Tensor:
    return x.flip(2)


def _shifted(x: Tensor) -> Tensor:
    return torch.roll(x, (1, -1), (1, 2))


def _darker(x: Tensor) -> Tensor:
    return (x * 0.8).to(torch.uint8)


@pytest.mark.parametrize("change", [_mirrored, _shifted, _darker])
def test_a_changed_copy_finds_its_source_in_the_whole_training_set(flowers: Tensor, change) -> None:  # type: ignore[no-untyped-def]
    """Two shards, and the source of each in the second."""
    found = nearest_training_images(change(flowers[250:]), (flowers[:200], flowers[200:]), CPU)
    assert found.rows[:, 0].tolist() == list(range(250, 300))
    honest = nearest_training_images(flowers[250:], (flowers[:200],), CPU)
    assert np.median(found.distances[:, 0]) < 0.5 * np.median(honest.distances[:, 0])
    assert np.all(np.diff(found.distances, axis=1) >= 0)


def test_thumbnails_ignore_brightness_and_contrast_and_keep_images_of_one_color_finite(
    flowers: Tensor,
) -> None:
    thumbs = thumbnails(flowers[:4])
    torch.testing.assert_close(normalized(thumbs), normalized(thumbs * 0.5 + 0.2))
    assert normalized(torch.full((1, 3, 16, 16), 0.4)).abs().max() < 1e-4


def test_fewer_training_images_than_candidates_are_searched_too(flowers: Tensor) -> None:
    assert nearest_training_images(flowers[:3], (flowers[:1],), CPU).rows[:, 0].tolist() == [0, 0, 0]


def test_the_suspects_are_nearest_by_thumbnail_then_ordered_by_features_relative_to_held_out_images() -> None:
    """60 images; 40 are nearest by thumbnail, of which ten are shown; the thumbnails' first is far by features."""
    distances = np.linspace(0.1, 6, 60)[:, None]
    near = Neighbors(distances, np.arange(100, 160)[:, None])
    asked: list[np.ndarray] = []

    def feature_distance(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        asked.append(images)
        assert (rows == images + 100).all()
        return np.where(images == 0, 100.0, 40.0 - images)

    holdout = np.linspace(1, 100, 100)
    found = find_suspects(near, feature_distance, holdout, 2 * holdout)
    assert sorted(asked[0]) == list(range(40))
    assert [suspect.image for suspect in found] == list(range(39, 29, -1))
    assert (found[0].row, found[0].by_features) == (139, 1 / 10), "5% of the held-out images lie below 10"
    assert found[0].by_thumbnail == pytest.approx(distances[39, 0] / 5)


def test_honest_distances_are_no_copies_and_small_ones_are() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert not compare_copies(rng.normal(5, 1, 300), rng.normal(5, 1, 200)).copies
    some = np.where(np.arange(300) < 15, 0.1, rng.normal(5, 1, 300))
    found = compare_copies(some, rng.normal(5, 0.5, 200))
    assert found.identical == 0.05
    assert found.copies
    all_near = compare_copies(rng.normal(4, 1, 300), rng.normal(5, 1, 200))
    assert all_near.farther == pytest.approx(0.24, abs=0.05)
    assert all_near.copies
