"""How a settings section reads its values, and what it says about a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

WRONG_TYPE = "wrong_type"
KIND_NAMES: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


class Section(BaseModel):
    """Base of every settings section: frozen, without unknown keys, and lenient about how scalars are written."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _read_scalar(cls, value: Any, info: ValidationInfo) -> Any:
        """Converts what YAML and the command line leave as text or as another type."""
        kind = kind_of(cls.model_fields[str(info.field_name)])
        try:
            return READERS[kind](value)
        except (ValueError, KeyError, TypeError, OverflowError):
            raise PydanticCustomError(WRONG_TYPE, "it must be {kind}", {"kind": KIND_NAMES[kind]}) from None


def _whole(value: Any) -> int:
    number = float(value) if isinstance(value, str | float) else value
    if isinstance(value, bool) or int(number) != number:
        raise ValueError(value)
    return int(number)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError(value)
    return float(value)


def _word(value: Any) -> str:
    if isinstance(value, bool):  # YAML reads a bare yes or no as a truth value
        return "yes" if value else "no"
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _truth(value: Any) -> bool:
    return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()]


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
    found = error["input"]
    if error["type"] == WRONG_TYPE:
        return f"{key} is {found!r}; {error['msg']}."
    if error["type"] == "finite_number":
        return f"{key} is {found}; it must be a finite number."
    if error["type"] == "literal_error":
        return f"{key} is {found!r}; it must be one of {', '.join(map(str, choices_of(field)))}."
    low, high = bounds_of(field)
    return f"{key} is {found}; it must be {f'at least {low}' if high is None else f'from {low} to {high}'}."
