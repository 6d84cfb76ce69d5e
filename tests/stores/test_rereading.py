"""Values that are read anew only if they may have changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ganpipe.stores import rereading
from ganpipe.stores.rereading import Remembered, states_of


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """No change is too young to be trusted."""
    monkeypatch.setattr(rereading, "SETTLED_NS", 0)


def test_a_value_is_read_anew_only_for_another_key_or_after_a_failure() -> None:
    reads: list[str] = []
    kept: Remembered[int] = Remembered()

    def read(text: str) -> int:
        reads.append(text)
        return int(text)

    assert [kept.get("a", lambda: read("1")), kept.get("a", lambda: read("2"))] == [1, 1]
    assert kept.get("b", lambda: read("3")) == 3
    with pytest.raises(ValueError, match="x"):
        kept.get("c", lambda: read("x"))
    assert kept.get("b", lambda: read("4")) == 4
    kept.forget()
    assert kept.get("b", lambda: read("5")) == 5
    assert reads == ["1", "3", "x", "4", "5"]


@pytest.mark.usefixtures("settled")
def test_the_state_of_a_file_changes_with_its_bytes_its_replacement_and_its_absence(tmp_path: Path) -> None:
    path, states = tmp_path / "a", []
    states.append(states_of([path]))
    path.write_text("x")
    states.append(states_of([path]))
    assert states_of([path]) == states[-1]
    time.sleep(0.02)
    path.write_text("y")  # as long as before
    os.utime(path, (0, 0))  # and as old
    states.append(states_of([path]))
    (tmp_path / "b").write_text("y")
    (tmp_path / "b").rename(path)
    states.append(states_of([path]))
    assert len(set(states)) == len(states) == 4


def test_a_file_that_changed_a_moment_ago_is_read_again(tmp_path: Path) -> None:
    """Two changes within a tick of the file system's clock look the same."""
    (tmp_path / "a").write_text("x")
    assert states_of([tmp_path / "a"]) != states_of([tmp_path / "a"])
    time.sleep(rereading.SETTLED_NS / 1e9 + 0.02)
    assert states_of([tmp_path / "a"]) == states_of([tmp_path / "a"])
