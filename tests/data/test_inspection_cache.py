"""The cache of inspected files: a damaged one is made again, any other trouble leaves it as it is."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ganpipe.data import inspection_cache
from ganpipe.data.inspect import Facts, Inspected
from ganpipe.data.inspection_cache import InspectionCache

FACTS = Facts(3, 4, 3, False, 0.5, 0.5, b"0" * 32)


def image(k: int) -> Inspected:
    return Inspected(f"{k:064d}", 9, ".png", FACTS)


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    """A cache that knows image 1."""
    path = tmp_path / "images.sqlite"
    with InspectionCache(path) as cache:
        cache.remember("stamp", image(1))
    return path


def knows(path: Path, k: int) -> bool:
    with InspectionCache(path) as cache:
        return cache.path == path and cache.image(image(k).sha256) == image(k)


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.OperationalError("database or disk is full"),
        sqlite3.OperationalError("database is locked"),
        sqlite3.OperationalError("attempt to write a readonly database"),
        sqlite3.OperationalError("unable to open database file"),
        sqlite3.OperationalError("disk I/O error"),
        PermissionError(13, "Permission denied"),
    ],
)
def test_a_cache_that_cannot_be_opened_now_stays_as_it_is(
    healthy: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = inspection_cache._open_database

    def fails(path: Path | None) -> sqlite3.Connection:
        if path is not None:
            raise error
        return opened(path)

    with monkeypatch.context() as patch:
        patch.setattr(inspection_cache, "_open_database", fails)
        with InspectionCache(healthy) as cache:
            cache.remember(None, image(2))
            assert cache.image(image(2).sha256) == image(2)
    assert knows(healthy, 1)
    assert not knows(healthy, 2)


def test_a_locked_cache_is_not_waited_for_for_ever_and_not_deleted(
    healthy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection_cache, "LOCK_WAIT_S", 0.05)
    other = sqlite3.connect(healthy)
    other.execute("begin exclusive")
    with InspectionCache(healthy) as cache:
        cache.remember(None, image(2))
        assert cache.image(image(2).sha256) == image(2)
    other.close()
    assert knows(healthy, 1)


@pytest.mark.parametrize("trouble", ["pragma max_page_count=1", "pragma query_only=1"])
def test_a_disk_that_fills_up_or_turns_read_only_stops_no_command(healthy: Path, trouble: str) -> None:
    with InspectionCache(healthy) as cache:
        cache._database.execute(trouble)
        for k in range(2, 400):
            cache.remember(f"stamp {k}", image(k))
        assert cache.image(image(399).sha256) == image(399)
    assert knows(healthy, 1)


@pytest.mark.parametrize("garbage", [b"not a database at all" * 99, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_cache_is_made_again(healthy: Path, garbage: bytes) -> None:
    healthy.write_bytes(garbage)
    with InspectionCache(healthy) as cache:
        assert cache.image(image(1).sha256) is None
        cache.remember(None, image(2))
    assert knows(healthy, 2)


def test_a_cache_that_is_found_damaged_while_it_is_used_is_made_again(healthy: Path) -> None:
    with InspectionCache(healthy) as cache:
        for k in range(2, 2000):
            cache.remember(None, image(k))
    with InspectionCache(healthy) as cache:
        data = bytearray(healthy.read_bytes())
        data[4096:] = b"\xff" * (len(data) - 4096)
        healthy.write_bytes(data)
        cache.remember(None, image(3000))
        assert cache.image(image(3000).sha256) == image(3000)
    assert knows(healthy, 3000)
