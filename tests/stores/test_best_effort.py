"""A server that is away is said once, in one sentence."""

from __future__ import annotations

import sqlite3

import pytest

from ganpipe.stores.best_effort import BestEffort


def raising(error: Exception) -> object:
    raise error


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ConnectionError("refused\nby whom"), "refused"),
        (sqlite3.OperationalError("database or disk is full"), "the disk is full"),
        (OSError("INSERT …\n(sqlite3.OperationalError) database or disk is full"), "the disk is full"),
    ],
)
def test_why_a_server_is_away_is_said_once_and_in_words(
    error: Exception, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    mlflow = BestEffort("MLflow", "the curve waits")
    for _ in range(2):
        assert not mlflow(lambda: raising(error), now=True)
    assert [r.message for r in caplog.records] == [f"MLflow cannot be reached ({why}); the curve waits."]
    assert mlflow(lambda: None, now=True)
