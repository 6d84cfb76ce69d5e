"""The promotion gate."""

from __future__ import annotations

import math

import pytest

from ganpipe.evaluation.gate import is_better


@pytest.mark.parametrize(
    ("challenger", "champion", "expected"),
    [
        (1.0, 2.0, True),
        (2.0, 1.0, False),
        (1.0, 1.0, False),
        (1.0, None, True),
        (1.0, math.nan, True),
        (math.nan, 1.0, False),
        (None, 1.0, False),
        (math.nan, math.nan, False),
    ],
)
def test_a_lower_score_wins_and_no_score_never_does(
    challenger: float | None, champion: float | None, expected: bool
) -> None:
    assert is_better(challenger, champion) is expected
