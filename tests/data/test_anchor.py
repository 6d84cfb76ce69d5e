"""Grids of all versions of a dataset show the same held-out images, and scores on the anchor can be compared."""

from __future__ import annotations

from dataclasses import replace

import torch

from ganpipe.data.anchor import anchor_rows, reference_rows
from ganpipe.data.shards import PreparedData
from tests.conftest import noise_data


def key(number: int) -> bytes:
    """A key whose order is that of the numbers."""
    return number.to_bytes(32, "big")


def at_version(first: list[int], held_out: list[int]) -> PreparedData:
    """A dataset whose first version held out the images `first`, and which holds out `held_out` now, row by row."""
    data = noise_data()
    rows = torch.arange(len(held_out))
    holdout = type(data.holdout).of(*data.holdout.rows(rows))
    keys = {"holdout_keys": tuple(map(key, held_out)), "first_holdout_keys": tuple(map(key, first))}
    return replace(data, holdout=holdout, **keys)


def shown(data: PreparedData, count: int) -> list[int]:
    """The images of a grid, by number."""
    return [int.from_bytes(data.holdout_keys[row], "big") for row in reference_rows(data, count).tolist()]


def test_a_grid_shows_the_first_versions_images_by_hash_whatever_was_added_and_in_whichever_row() -> None:
    first = [5, 3, 9, 7]
    assert shown(at_version(first, first), 3) == [3, 5, 7]
    assert shown(at_version(first, [1, 9, 2, 7, 5, 3]), 3) == [3, 5, 7]


def test_only_the_place_of_an_image_that_is_gone_is_filled_anew() -> None:
    first = [5, 3, 9, 7]
    assert shown(at_version(first, [1, 9, 7, 3]), 3) == [3, 9, 7], "the next of the anchor first"
    assert shown(at_version(first, [2, 1, 7, 3]), 3) == [3, 1, 7], "then a newer one"
    assert shown(at_version(first, [7, 3]), 3) == [3, 7]


def test_a_grid_may_ask_for_more_images_than_there_are() -> None:
    assert shown(at_version([3, 5], [5, 1, 3]), 64) == [3, 5, 1]


def test_the_anchor_holds_the_first_versions_images_alone_and_every_image_if_none_is_left() -> None:
    assert anchor_rows(at_version([5, 3, 9], [1, 9, 2, 3])).tolist() == [3, 1]
    assert anchor_rows(at_version([5, 3], [2, 1])).tolist() == [1, 0]
    assert anchor_rows(noise_data()).tolist() == list(range(20)), "data in memory have no versions"
