"""Modes are counted by label or by cluster, the missing ones named, and chance is not called missing."""

from __future__ import annotations

import numpy as np
import pytest

from ganpipe.evaluation.mode_coverage import ModeCounter

RNG = np.random.default_rng(0)
CENTERS = RNG.normal(size=(5, 6)) * 10
LABELS = np.arange(200) % 5
REAL = CENTERS[LABELS] + RNG.normal(size=(200, 6))
NAMES = ("a", "b", "c", "d", "e")
COUNTER = ModeCounter(REAL[:150], LABELS[:150], REAL[150:], LABELS[150:], NAMES)


def _images_of(*kinds: int, each: int = 30) -> np.ndarray:
    return CENTERS[np.repeat(kinds, each)] + RNG.normal(size=(len(kinds) * each, 6))


def test_modes_are_counted_and_the_missing_ones_named() -> None:
    found = COUNTER.count(_images_of(0, 1, 2), 90)
    assert COUNTER.trusted
    assert (found.covered, found.total, found.missing, found.smallest_share) == (3, 5, ("d", "e"), 0)
    assert found.kl == pytest.approx(np.log(5 / 3), abs=0.01)


def test_a_mode_with_less_than_a_third_of_its_share_is_not_covered() -> None:
    rare = np.concatenate([_images_of(0, 1, 2, 3, each=60), _images_of(4, each=10)])
    found = COUNTER.count(rare, 250)
    assert found.missing == ("e",)
    assert found.smallest_share == pytest.approx(0.2)
    assert COUNTER.count(np.concatenate([rare, _images_of(4, each=20)]), 270).missing == ()


def test_a_mode_absent_from_few_images_is_not_called_missing() -> None:
    found = COUNTER.count(_images_of(0, 1, 2, 3, each=3), 12)
    assert (found.covered, found.missing) == (4, ())
    assert 4.5 < found.expected < 5


def test_images_without_a_label_are_left_out_of_the_modes() -> None:
    told = np.where(np.arange(200) % 10 == 0, -1, LABELS)
    counter = ModeCounter(REAL[:150], told[:150], REAL[150:], told[150:], NAMES)
    assert counter.names == NAMES
    assert counter.count(REAL[:90], 90).missing == ()


@pytest.mark.parametrize("labels", [np.full(200, -1), RNG.permutation(LABELS)], ids=["none", "by chance"])
def test_clusters_are_counted_if_labels_do_not_tell(labels: np.ndarray) -> None:
    counter = ModeCounter(REAL[:150], labels[:150], REAL[150:], labels[150:], NAMES)
    assert counter.names == tuple(f"cluster {k}" for k in range(1, 7))
    assert "6 clusters" in counter.how
    whole, part = counter.count(_images_of(0, 1, 2, 3, 4), 150), counter.count(_images_of(0, 1, 2), 90)
    assert (whole.covered, whole.missing) == (6, ())
    assert part.covered in (3, 4)
    assert len(part.missing) >= 2


def test_few_training_images_without_labels_have_no_modes_to_count() -> None:
    nobody = np.full(100, -1)
    assert not ModeCounter(REAL[:100], nobody, REAL[150:], nobody[:50], NAMES).trusted


def test_hardly_any_image_inside_the_manifold_covers_no_mode() -> None:
    assert COUNTER.count(_images_of(0, 1, each=2), 500).covered == 0
    assert COUNTER.count(np.empty((0, 6)), 500).covered == 0
