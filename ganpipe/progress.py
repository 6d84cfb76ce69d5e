"""How the core tells how far it is. Who draws a bar or updates an artifact is decided outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """One report: `done` of `total` units of a stage (0: unknown), and the time that the stage has taken.

    `work_left`: work that is left, as a multiple of what this process has done; None: every unit takes the same time.
    """

    stage: str
    done: float
    total: float
    unit: str
    elapsed_s: float
    start: float = 0.0  # where this process began: a resumed stage does not count what came before
    note: str = ""
    work_left: float | None = None

    @property
    def per_second(self) -> float:
        """Units a second since this process began the stage."""
        return (self.done - self.start) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds left if work goes on at the present rate; None if nothing can be said yet."""
        if self.work_left is not None:
            return self.elapsed_s * self.work_left
        return (self.total - self.done) / self.per_second if self.per_second > 0 and self.total else None


Report = Callable[[Progress], None]


def ignore(_: Progress) -> None:
    """The report for somebody who does not want one."""


def format_duration(seconds: float) -> str:
    """A duration for people, such as 20 s, 12 min or 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else "under 1 s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def stage(items: Iterable[T], name: str, *, total: int, unit: str, report: Report) -> Iterator[T]:
    """Passes `items` on, and reports each."""
    started = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        report(Progress(name, done, total, unit, time.monotonic() - started))
