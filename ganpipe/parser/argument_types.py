"""Types of arguments: each returns the value of a text, or raises what the parser prints as wrong use."""

from __future__ import annotations

from argparse import ArgumentTypeError

MAX_REFERENCE = 256
MAX_REASON = 500


def parse_reference(text: str) -> str:
    """The name of a run or model: it goes into a database's queries, so what can be no name is wrong use."""
    if len(text) > MAX_REFERENCE or not text.isprintable():
        raise ArgumentTypeError(
            f"a run or model has a name of at most {MAX_REFERENCE} printable characters, not {text[:40]!r}"
        )
    return text


def parse_sentence(text: str) -> str:
    """One line of text that a tag of MLflow can hold and a table can show."""
    if len(text) > MAX_REASON or not text.isprintable():
        raise ArgumentTypeError(
            f"one line of at most {MAX_REASON} printable characters is expected, not {text[:40]!r}"
        )
    return text


def parse_psi(text: str) -> float:
    """The truncation ψ."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise ArgumentTypeError(f"a truncation is a number above 0 and at most 1, not {text[:40]!r}")
    return value
