"""The drift of a dataset: equal distributions hardly change, a shift does, and no image is on both sides."""

from __future__ import annotations

import numpy as np

from ganpipe.evaluation.drift import measure_drift, split_by_hash


def test_a_shift_is_a_change_and_another_draw_is_none() -> None:
    rng = np.random.default_rng(0)
    draws = [rng.standard_normal((2, 100, 8)) for _ in range(40)]
    false_alarms = sum(measure_drift("v", a, b).changed for a, b in draws)
    assert false_alarms <= 5, "one-sided 95%"
    a, b = draws[0]
    drift = measure_drift("0123456789abcdef.dir", a, b + 1.0)
    assert drift.changed
    assert drift.sentence().startswith("The data changed (energy distance ")
    assert "between 100 and 100 images, none of them in both; 0123456789ab was trained" in drift.sentence()


def test_the_halves_are_of_equal_size_and_do_not_depend_on_the_split() -> None:
    hashes = [f"{k:02x}{'0' * 60}{digit:02x}" for k in range(8) for digit in range(16)]
    assert sum(map(split_by_hash, hashes)) == len(hashes) / 2
    for k in range(8):
        assert sum(split_by_hash(h) for h in hashes if h.startswith(f"{k:02x}")) == 8
