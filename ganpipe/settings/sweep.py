"""The search space of `ganpipe sweep`: the settings that its trials change, and the values that each may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ganpipe.errors import GanpipeError, nearest
from ganpipe.settings.schema import FIELDS, unknown_setting, validated
from ganpipe.settings.validation import kind_of, shown

SWEPT_SECTIONS = ("model", "loss", "augment", "training")
RANGE_KEYS = ("low", "high", "log")
# The model decides on the preset's recipe, the others on how trials are compared or how long they take.
NOT_SWEPT = (
    "model.name",
    "training.total_images",
    "training.minutes",
    "training.seed",
    "training.start_from",
    "training.device",
    "training.precision",
    "training.processes",
    "training.save_every_images",
    "training.validate_every_images",
    "training.validation_images",
)


@dataclass(frozen=True)
class Dimension:
    """A setting of the search space: one of `choices`, else a number from `low` to `high`, of logarithmic scale if `log`."""

    key: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    def __str__(self) -> str:
        if self.choices:
            return f"{self.key}: {', '.join(map(str, self.choices))}"
        return f"{self.key}: {self.low:g} to {self.high:g}{' (log)' if self.log else ''}"

    @property
    def is_whole(self) -> bool:
        """Whether its numbers are whole."""
        return kind_of(FIELDS[self.key]) is int

    def holds(self, value: Any) -> bool:
        """Whether the space has this value."""
        return value in self.choices if self.choices else self.low <= value <= self.high


def parse_sweep(section: Any) -> tuple[Dimension, ...]:
    """The section `sweep` of `params.yaml`: its `space`; empty without one.

    Raises:
        GanpipeError: an unknown key, a setting that is not swept, or a value that is not allowed.
    """
    if section is None:
        return ()
    if not isinstance(section, dict) or set(section) - {"space"}:
        raise GanpipeError(f"sweep is {shown(section)}; it must hold the key space and no other.")
    space = section.get("space") or {}
    if not isinstance(space, dict):
        raise GanpipeError(f"sweep.space is {shown(space)}; it must hold settings such as training.g_lr.")
    return tuple(_parse_dimension(str(key), values) for key, values in space.items())


def _parse_dimension(key: str, values: Any) -> Dimension:
    if key not in FIELDS:
        raise GanpipeError(f"sweep.space: {unknown_setting(key)}")
    if key in NOT_SWEPT or key.partition(".")[0] not in SWEPT_SECTIONS:
        raise GanpipeError(
            f"sweep.space: {key} is the same in all trials of a sweep; set it outside of sweep. Settings of "
            f"{', '.join(SWEPT_SECTIONS[:-1])} and {SWEPT_SECTIONS[-1]} can be swept."
        )
    if isinstance(values, list):
        return _parse_choices(key, values)
    if isinstance(values, dict):
        return _parse_range(key, values)
    raise GanpipeError(
        f"sweep.space: {key} is {shown(values)}; it must be a list of values, or like {{low: 0.0001, high: 0.01, log: true}}."
    )


def _parse_choices(key: str, values: Sequence[Any]) -> Dimension:
    choices = tuple(dict.fromkeys(_checked(key, value) for value in values))
    if len(choices) < 2:
        raise GanpipeError(f"sweep.space: {key} is {shown(values)}; it needs at least two different values.")
    return Dimension(key, choices=choices)


def _parse_range(key: str, values: Mapping[str, Any]) -> Dimension:
    if unknown := next((name for name in values if name not in RANGE_KEYS), None):
        raise GanpipeError(
            f"sweep.space: {key} has an unknown key {unknown}: {nearest(str(unknown), RANGE_KEYS)}"
        )
    if kind_of(FIELDS[key]) not in (int, float):
        raise GanpipeError(f"sweep.space: {key} is no number; give a list of values.")
    if "low" not in values or "high" not in values or not isinstance(values.get("log", False), bool):
        raise GanpipeError(
            f"sweep.space: {key} is {shown(dict(values))}; it needs low and high; log is true or false."
        )
    low, high = (_checked(key, values[name]) for name in ("low", "high"))
    log = bool(values.get("log", False))
    if low >= high or (log and low <= 0):
        raise GanpipeError(
            f"sweep.space: {key} goes from {low:g} to {high:g}; low must be less than high"
            f"{', and above 0 on a logarithmic scale' if log else ''}."
        )
    return Dimension(key, low, high, log)


def _checked(key: str, value: Any) -> Any:
    """The value as the setting's type, within its bounds."""
    try:
        return validated({key: value})[key]
    except GanpipeError as error:
        raise GanpipeError(f"sweep.space: {error}") from None
