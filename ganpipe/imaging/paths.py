"""Expands files, folders, patterns and file lists into image paths."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from ganpipe.errors import GanpipeError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"}


def image_paths(given: Sequence[str | Path]) -> list[Path]:
    """Expands the given words into image paths, each once, in a fixed order.

    A folder gives the images in it and below it. `@FILE` gives the paths that it lists, one per line, relative to its
    folder. A name with `*`, `?` or `[` that is not a file gives its matches (`**` descends into folders).

    Raises:
        GanpipeError: a path does not exist, a pattern matches nothing, or there is no image at all.
    """
    found = [path for word in given for path in _expand(str(word))]
    if not found:
        raise GanpipeError(f"No image was found in {', '.join(map(str, given))}.")
    return list(dict.fromkeys(found))


def _expand(word: str) -> list[Path]:
    path = Path(word)
    if os.path.isdir(word):  # unlike Path.is_dir, it takes a name of any length
        return sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if os.path.lexists(word):
        return [path]
    if word.startswith("@"):
        return _read_list(Path(word[1:]))
    if glob.has_magic(word):
        matches = sorted(map(Path, glob.glob(word, recursive=True)))
        if not matches:
            raise GanpipeError(f"Nothing matches {word}.")
        return [p for match in matches for p in (_expand(str(match)) if match.is_dir() else [match])]
    raise GanpipeError(f"There is no file or folder {word}.")


def _read_list(path: Path) -> list[Path]:
    """Reads the paths of a file list; empty lines and lines that begin with # are skipped.

    An error gives the number of a line, not the line: the file may be no list at all, but somebody's secrets.
    """
    try:
        lines = os.fsdecode(path.read_bytes()).split("\n")  # names may hold any other line break
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise GanpipeError(f"The file list {path} cannot be read ({why}).") from None
    found: list[Path] = []
    for number, line in enumerate((line.strip(" \t\r") for line in lines), start=1):
        if line and not line.startswith("#"):
            try:
                found += _expand(str(path.parent / os.path.expanduser(line)))
            except (GanpipeError, OSError, RuntimeError, ValueError):
                raise GanpipeError(
                    f"Line {number} of the file list {path} names no file, folder or pattern that is there."
                ) from None
    return found
