"""Output for people: bars with a rate and the time left, tables, and one JSON line for programs."""

from __future__ import annotations

import io
import json
import logging
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from ganpipe.errors import redact
from ganpipe.progress import Progress as Progressed

LINE_EVERY_S = 15.0

err = Console(stderr=True, highlight=False, markup=False)
out = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)


def say(text: str) -> None:
    """A line for people, on standard error, so that standard output stays for results."""
    err.print(text, soft_wrap=True)


def escape_control(text: str) -> str:
    """A stranger's text, such as a file name, with nothing in it that a terminal obeys."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def duration(seconds: float | None) -> str:
    """Such as 3:07 or 1:02:09; `--:--` where unknown."""
    if seconds is None:
        return "--:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def line_of(p: Progressed) -> str:
    """One report as text: how far, how fast, how long yet."""
    rate = f"{p.per_second:,.1f}" if p.per_second < 100 else f"{p.per_second:,.0f}"
    if not p.total:
        return f"{p.done:,.0f} {p.unit}  {rate}/s"
    share = f"{p.done / p.total:4.0%}  {p.done:,.0f}/{p.total:,.0f} {p.unit}"
    return f"{share}  {rate}/s  {duration(p.left_s)} left  {p.note}".rstrip()


@dataclass
class Bars:
    """A bar a stage on a terminal; elsewhere a line now and then, so that a log stays readable."""

    quiet: bool = False
    _progress: Progress | None = None
    _tasks: dict[str, TaskID] = field(default_factory=dict)
    _said_at: dict[str, float] = field(default_factory=dict)
    _ended: set[str] = field(default_factory=set)

    def __call__(self, p: Progressed) -> None:
        if self.quiet:
            return
        if err.is_terminal:
            self._draw(p)
        elif p.stage not in self._ended and (self._is_last(p) or self._is_time(p)):
            self._said_at[p.stage] = time.monotonic()
            say(f"  {p.stage:<9} {line_of(p)}")

    def _is_last(self, p: Progressed) -> bool:
        """Whether the stage is done; it is said once."""
        if p.done >= p.total > 0:
            self._ended.add(p.stage)
            return True
        return False

    def _is_time(self, p: Progressed) -> bool:
        return p.elapsed_s > 5 and time.monotonic() - self._said_at.get(p.stage, 0.0) > LINE_EVERY_S

    def _draw(self, p: Progressed) -> None:
        if self._progress is None:
            columns = (TextColumn("{task.description:<9}"), BarColumn(), TextColumn("{task.fields[text]}"))
            self._progress = Progress(*columns, console=err, refresh_per_second=4)
            self._progress.start()
        if p.stage not in self._tasks:
            self._tasks[p.stage] = self._progress.add_task(p.stage, total=p.total or None, text="")
        self._progress.update(self._tasks[p.stage], completed=p.done, total=p.total or None, text=line_of(p))

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the bars as they are and gives the terminal back."""
        if self._progress is not None:
            self._progress.stop()
            self._progress, self._tasks = None, {}


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """A table on standard output."""
    sheet = Table(title=title, title_justify="left", title_style="bold")
    for name in columns:
        sheet.add_column(name, overflow="fold")
    for row in rows:
        sheet.add_row(*map(escape_control, row))
    out.print(sheet)


def pairs(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """A table of names and values without lines."""
    sheet = Table(
        title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False
    )
    sheet.add_column(style="dim", no_wrap=True)
    sheet.add_column(overflow="fold")
    for name, value in rows:
        sheet.add_row(name, escape_control(value))
    out.print(sheet)


def print_json(value: dict[str, Any]) -> None:
    """One JSON object, as the last line of standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=True) + "\n")
    sys.stdout.flush()


def show_logs(debug: bool) -> None:
    """Warnings of the core (with --debug, everything) on standard error."""
    handler = logging.StreamHandler(_Stderr())
    handler.setFormatter(_Plain("%(levelname)s: %(message)s"))
    # What training says of its own plan is for everybody; what else is informative, for --debug.
    handler.addFilter(
        lambda record: debug or record.levelno >= logging.WARNING or record.name.startswith(PLAIN)
    )
    logger = logging.getLogger("ganpipe")
    logger.handlers = [h for h in logger.handlers if not isinstance(h.formatter, _Plain)]  # each line once
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.INFO)


PLAIN = "ganpipe.training"


class _Plain(logging.Formatter):
    """Sentences without their level, unless something is wrong."""

    def format(self, record: logging.LogRecord) -> str:
        """A line."""
        if record.levelno == logging.INFO and record.name.startswith(PLAIN):
            return redact(record.getMessage())
        return redact(super().format(record))


class _Stderr(io.TextIOBase):
    """Standard error through rich, so that a line does not tear a bar."""

    def write(self, text: str) -> int:
        """Prints as it is."""
        err.print(text, end="")
        return len(text)
