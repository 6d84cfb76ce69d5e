"""Output for people: bars with a rate and the time left, tables, and one JSON line for programs.

All text goes through `Terminal` or `print_json`, which escape what a terminal would obey. Callers print file names, labels
and the text of images as they are.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from ganpipe.errors import redact
from ganpipe.files import escape_control
from ganpipe.progress import Progress as Progressed

LINE_EVERY_S = 15.0
MOST_CHARACTERS = 2_000  # of one line or table cell; what is longer loses its middle


def _shortened(text: str) -> str:
    half = MOST_CHARACTERS // 2
    return text if len(text) <= MOST_CHARACTERS else f"{text[:half]} … {text[-half:]}"


class Terminal(Console):
    """A console on which text is only text: neither the terminal nor rich obeys anything in it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string passes here, printed alone, as a title or in a table."""
        return super().render_str(escape_control(_shortened(text)), **options)


err = Terminal(stderr=True)
out = Terminal(width=None if sys.stdout.isatty() else 160)


def say(text: str) -> None:
    """A line for people, on standard error, so that standard output stays for results."""
    err.print(text, soft_wrap=True)


def say_traceback(error: BaseException) -> None:
    """A traceback on standard error, without secrets."""
    for line in redact("".join(traceback.format_exception(error))).rstrip().split("\n"):
        say(line)


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
            columns = (
                TextColumn("{task.description:<9}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[text]}", markup=False),
            )
            self._progress = Progress(*columns, console=err, refresh_per_second=4)
            self._progress.start()
        if p.stage not in self._tasks:
            self._tasks[p.stage] = self._progress.add_task(p.stage, total=p.total or None, text="")
        text = escape_control(line_of(p))  # Progress makes its own text
        self._progress.update(self._tasks[p.stage], completed=p.done, total=p.total or None, text=text)

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
        sheet.add_row(*row)
    out.print(sheet)


def pairs(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """A table of names and values without lines."""
    sheet = Table(
        title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False
    )
    sheet.add_column(style="dim", no_wrap=True)
    sheet.add_column(overflow="fold")
    for name, value in rows:
        sheet.add_row(name, value)
    out.print(sheet)


def print_json(value: dict[str, Any]) -> None:
    """One JSON object in ASCII, as the last line of standard output; numbers that are not finite become null."""
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show_logs(debug: bool) -> None:
    """Warnings of the core (with --debug, everything) on standard error, and those of libraries that print their own."""
    handler = _Said()
    handler.setFormatter(_Plain("%(levelname)s: %(message)s"))
    # What training says of its own plan is for everybody; what else is informative, for --debug.
    handler.addFilter(
        lambda record: debug or record.levelno >= logging.WARNING or record.name.startswith(PLAIN)
    )
    logger = logging.getLogger("ganpipe")
    logger.handlers = [h for h in logger.handlers if not isinstance(h, _Said)]  # each line once
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logging.lastResort = handler  # for loggers without a handler, which would write as it comes
    warnings.showwarning = _say_warning


PLAIN = "ganpipe.training"


def _say_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    say(f"{category.__name__}: {message}")


class _Plain(logging.Formatter):
    """Sentences without their level, unless something is wrong."""

    def format(self, record: logging.LogRecord) -> str:
        """A line, without the traceback."""
        if record.levelno == logging.INFO and record.name.startswith(PLAIN):
            return redact(record.getMessage())
        record.message = redact(record.getMessage())
        return self.formatMessage(record)


class _Said(logging.Handler):
    """Log lines through `say`, so that they tear no bar and hold nothing that a terminal obeys."""

    def emit(self, record: logging.LogRecord) -> None:
        """Says it."""
        try:
            say(self.format(record))
            if record.exc_info and record.exc_info[1]:
                say_traceback(record.exc_info[1])
        except Exception:  # as the logging module wants it
            self.handleError(record)
