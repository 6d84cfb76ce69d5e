"""The manifest of a folder of stylized images: one line per image, so that a kill loses no finished image.

The line is written first, then the image: whose image a file is, is known before it is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ganpipe.files import plain_disk_errors, sha256_of

MANIFEST = "manifest.jsonl"
PREVIEW = "preview.png"  # of what is being stylized; see ganpipe.style.batch.preview


@dataclass(frozen=True)
class ManifestEntry:
    """An image: the key of its inputs, the file and its hash, and what was measured."""

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
        folder.mkdir(parents=True, exist_ok=True)
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


def keys_by_output(entries: Iterable[ManifestEntry]) -> dict[str, str]:
    """The key of the image that each file holds: the last one that was written to it."""
    return {entry.output: entry.key for entry in entries}


def free_name(folder: Path, name: str, key: str, keys: Mapping[str, str]) -> str:
    """`name`, with part of the key added if the folder has a file of that name that holds another image.

    `keys`: see `keys_by_output`.
    """
    if keys.get(name) == key or not os.path.lexists(folder / name):
        return name
    stem, suffix = os.path.splitext(name)
    return f"{stem}_{key[:8]}{suffix}"


def is_intact(folder: Path, entry: ManifestEntry) -> bool:
    """Whether the entry's image exists and has the recorded hash."""
    path = folder / entry.output
    return path.is_file() and sha256_of(path) == entry.sha256
