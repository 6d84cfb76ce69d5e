"""How a settings section reads its values, and what it says about a wrong one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from ganpipe.settings.yaml_files import parse_scalar

WRONG_TYPE, TOO_LARGE, NOT_UTF8, OTHER = "wrong_type", "too_large", "not_utf8", "other"
HIGHEST_WHOLE = 2**53  # up to here a float holds every whole number: counts become floats in schedules
MOST_SHOWN = 100  # characters of a wrong value
KIND_NAMES: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


class Section(BaseModel):
    """Base of every settings section: frozen, without unknown keys, and lenient about quotes around scalars."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _read_scalar(cls, value: Any, info: ValidationInfo) -> Any:
        """Converts what JSON and quotes leave as text or as another type."""
        kind = _kind_of(cls, str(info.field_name))
        is_free_text = cls.model_fields[str(info.field_name)].annotation is str
        if is_free_text and type(value) in (int, float):  # a folder 2020, a single rotation
            return str(value)
        try:
            return READERS[kind](value)
        except PydanticCustomError:
            raise
        except (ValueError, KeyError, TypeError, OverflowError):
            raise PydanticCustomError(WRONG_TYPE, "it must be {kind}", {"kind": KIND_NAMES[kind]}) from None


@cache
def _kind_of(section: type[Section], name: str) -> type[Any]:
    """The kind of a setting; a status reads the settings of every run."""
    return kind_of(section.model_fields[name])


def _whole(value: Any) -> int:
    number = parse_scalar(value) if isinstance(value, str) else value
    if isinstance(number, bool) or int(number) != number:
        raise ValueError(value)
    if abs(number) > HIGHEST_WHOLE:
        raise PydanticCustomError(TOO_LARGE, "it must be at most {high}", {"high": f"{HIGHEST_WHOLE:,}"})
    return int(number)


def _number(value: Any) -> float:
    number = parse_scalar(value) if isinstance(value, str) else value
    if isinstance(number, bool | str):
        raise TypeError(value)
    return float(number)


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    if re.search(r"[\ud800-\udfff]", value):  # a byte of a file name; no database takes it
        raise PydanticCustomError(
            NOT_UTF8, "it must be UTF-8 text (a pattern such as caf?.jpg matches other names)"
        )
    return value


def _truth(value: Any) -> bool:
    truth = parse_scalar(value) if isinstance(value, str) else value
    if not isinstance(truth, bool):
        raise TypeError(value)
    return truth


INTERVAL = re.compile(r"(\d{1,6})\s*([mhd])")
SECONDS = {"m": 60, "h": 3600, "d": 86400}


def seconds_in(interval: str) -> int | None:
    """The seconds of an interval such as 30m, 6h or 1d; None if it is none."""
    found = INTERVAL.fullmatch(interval.strip())
    return int(found[1]) * SECONDS[found[2]] or None if found else None


READERS: Mapping[type, Callable[[Any], Any]] = {int: _whole, float: _number, str: _word, bool: _truth}


def choices_of(field: FieldInfo) -> tuple[Any, ...]:
    """The allowed values of a setting; empty if it has no fixed choices."""
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def kind_of(field: FieldInfo) -> type[Any]:
    """`int`, `float`, `bool` or `str`."""
    choices = choices_of(field)
    kind: Any = type(choices[0]) if choices else field.annotation
    assert kind in READERS, field
    return kind


def bounds_of(field: FieldInfo) -> tuple[float | None, float | None]:
    """The lowest and the highest allowed value; None for no bound."""
    low = [limit.ge for limit in field.metadata if hasattr(limit, "ge")]
    high = [limit.le for limit in field.metadata if hasattr(limit, "le")]
    return (low[0] if low else None), (high[0] if high else None)


def sentence(key: str, field: FieldInfo, error: ErrorDetails) -> str:
    """One error of pydantic's as a sentence: what, found, expected."""
    found, choices = shown(error["input"]), choices_of(field)
    if choices and error["type"] in (WRONG_TYPE, "literal_error"):
        return f"{key} is {found}; it must be one of {', '.join(map(str, choices))}."
    if error["type"] in (WRONG_TYPE, TOO_LARGE, NOT_UTF8, OTHER):
        return f"{key} is {found}; {error['msg']}."
    if error["type"] == "finite_number":
        return f"{key} is {found}; it must be a finite number."
    low, high = bounds_of(field)
    return f"{key} is {found}; it must be {f'at least {low}' if high is None else f'from {low} to {high}'}."


def shown(value: Any) -> str:
    """A wrong value as an error shows it: the beginning of it is enough."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}… ({len(text):,} characters)"
