"""The manifest of a folder of stylized images: one line per finished image, so that a kill loses no finished image."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ganpipe.files import plain_disk_errors, sha256_of

MANIFEST = "manifest.jsonl"


@dataclass(frozen=True)
class ManifestEntry:
    """A finished image: the key of its inputs, the file and its hash, and what was measured."""

    key: str
    output: str
    sha256: str
    preset: str = ""
    seconds: float = 0.0
    quality: dict[str, float] = field(default_factory=dict)


def add_entry(folder: Path, entry: ManifestEntry) -> None:
    """Appends a line in one write, flushed to the disk; several processes may do so at once.

    Raises:
        GanpipeError: the file cannot be written.
    """
    path = folder / MANIFEST
    line = json.dumps(asdict(entry)) + "\n"
    with plain_disk_errors(path):
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(file).st_size
            torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"  # by a kill or a full disk
            os.write(file, (("\n" if torn else "") + line).encode())
            os.fsync(file)
        finally:
            os.close(file)


def read_entries(folder: Path) -> list[ManifestEntry]:
    """Returns all entries in the order they were written; skips torn lines."""
    path = folder / MANIFEST
    return list(_parse(path.read_text(errors="replace"))) if path.exists() else []


def _parse(text: str) -> Iterator[ManifestEntry]:
    for line in text.splitlines():
        try:
            value: Any = json.loads(line)
            yield ManifestEntry(**value)
        except (ValueError, TypeError):
            continue


def is_intact(folder: Path, entry: ManifestEntry) -> bool:
    """Whether the entry's image exists and has the recorded hash."""
    path = folder / entry.output
    return path.is_file() and sha256_of(path) == entry.sha256
