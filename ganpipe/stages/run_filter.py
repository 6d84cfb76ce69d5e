"""Which runs a page shows: those that fit what is asked of their columns, as it stands in the page's address."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ganpipe.files import escape_control
from ganpipe.stages.status import RunStatus

ANY = "any"  # a text in any column
LEAST, MOST = "_from", "_to"  # behind the name of a column of numbers


@dataclass(frozen=True)
class Column:
    """A column by which runs are filtered. `of`: its value; empty or None: the run has none.

    `kind`: choice, one of the values; text, a part of it, whatever the case; number, at least and at most.
    """

    name: str
    kind: Literal["choice", "text", "number"]
    of: Callable[[RunStatus], str | float | None]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters of the page's address that filter by this column."""
        return (self.name + LEAST, self.name + MOST) if self.kind == "number" else (self.name,)


COLUMNS = (
    Column("dataset", "choice", lambda run: run.dataset),
    Column("version", "text", lambda run: run.version),
    Column("network", "choice", lambda run: run.model),
    Column("state", "choice", lambda run: run.state),
    Column("verdict", "choice", lambda run: run.verdict),
    Column("outcome", "choice", lambda run: run.gate),
    Column("kd", "number", lambda run: run.kd),
    Column("energy", "number", lambda run: run.energy),
    Column("minutes", "number", lambda run: run.train_s / 60 or None),
    Column("why", "text", lambda run: run.reason),
)
NUMBERS = tuple(name for column in COLUMNS if column.kind == "number" for name in column.parameters)


def asked_of(query: Mapping[str, str]) -> dict[str, str]:
    """Those parameters of an address that filter runs, without empty ones."""
    names = (ANY, *(name for column in COLUMNS for name in column.parameters))
    return {name: query[name].strip() for name in names if query.get(name, "").strip()}


def not_numbers(asked: Mapping[str, str]) -> list[str]:
    """A sentence for each parameter that must be a number and is none; it filters nothing."""
    return [
        f"{name} is {asked[name]!r}; a number is expected, so it filters nothing."
        for name in NUMBERS
        if name in asked and _number(asked[name]) is None
    ]


def filter_runs(runs: Sequence[RunStatus], asked: Mapping[str, str]) -> list[RunStatus]:
    """The runs that fit everything that is asked. A run without a number fits no bound of it."""
    return [
        run
        for run in runs
        if _has_text(run, asked.get(ANY, "")) and all(_fits(c, run, asked) for c in COLUMNS)
    ]


def choices_of(column: Column, runs: Sequence[RunStatus]) -> list[str]:
    """The values of a column of choices, in the order of the alphabet."""
    return sorted({_shown(value) for run in runs if (value := column.of(run))})


def _fits(column: Column, run: RunStatus, asked: Mapping[str, str]) -> bool:
    value = column.of(run)
    if column.kind == "number":
        least, most = (_number(asked.get(name, "")) for name in column.parameters)
        if value is None:
            return least is None and most is None
        return (least is None or float(value) >= least) and (most is None or float(value) <= most)
    wanted = asked.get(column.name, "")
    return _shown(value) == wanted if wanted and column.kind == "choice" else _contains(value, wanted)


def _has_text(run: RunStatus, wanted: str) -> bool:
    values = (run.run, run.model_version, run.conditions, *(column.of(run) for column in COLUMNS))
    return any(_contains(value, wanted) for value in values)


def _contains(value: str | float | None, wanted: str) -> bool:
    return wanted.casefold() in _shown(value).casefold()


def _shown(value: str | float | None) -> str:
    """As the page has it: a name of a damaged run's folder may not be UTF-8."""
    return "" if value is None else escape_control(str(value))


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None
