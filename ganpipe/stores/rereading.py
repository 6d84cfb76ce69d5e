"""Values that are read anew only if they may have changed, for who reads a workspace again and again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
SETTLED_NS = (
    100_000_000  # two changes within a tick of the file system's clock look the same; ticks last up to 10 ms
)


class Remembered(Generic[T]):
    """A value, and the key under which it was read."""

    def __init__(self) -> None:
        self._kept: tuple[object, T] | None = None

    def get(self, key: object, read: Callable[[], T]) -> T:
        """The value; it is read anew if the key is another than the last time, or if reading has failed then."""
        if self._kept is None or self._kept[0] != key:
            self._kept = None
            self._kept = (key, read())
        return self._kept[1]

    def forget(self) -> None:
        """Lets the next `get` read anew."""
        self._kept = None


def states_of(paths: Iterable[Path | str]) -> tuple[object, ...]:
    """A key that changes with the files: inode, time of its change and size of each; None for one that is not there.

    The state of a file that was changed a moment ago equals nothing, not even itself the next time.
    """
    now = time.time_ns()
    return tuple(_state(path, now) for path in paths)


def _state(path: Path | str, now_ns: int) -> object:
    try:
        there = os.stat(path)
    except OSError:
        return None
    if now_ns - there.st_ctime_ns < SETTLED_NS:
        return object()
    return there.st_ino, there.st_ctime_ns, there.st_size


def database_files(path: Path) -> tuple[str, str]:
    """The files that change with a SQLite database: its own, and the log that is written before (WAL)."""
    return str(path), f"{path}-wal"
