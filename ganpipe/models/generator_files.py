"""The files of a saved generator, and what can be read of them without torch."""

from __future__ import annotations

from pathlib import Path

from ganpipe.errors import GanpipeError
from ganpipe.files import read_json

WEIGHTS, CONFIG = "generator.safetensors", "generator.json"


def read_labels(folder: Path) -> list[str]:
    """The labels of a class-conditional generator; none for another, or if its description cannot be read."""
    try:
        return list(read_json(folder / CONFIG)["labels"])
    except (GanpipeError, OSError, KeyError, TypeError):
        return []
