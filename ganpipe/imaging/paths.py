"""Which files a batch is about: files, folders, patterns and lists of files."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from ganpipe.errors import GanpipeError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"}


def image_paths(given: Sequence[str | Path]) -> list[Path]:
    """The files that are meant, each once, in a fixed order.

    A folder stands for the images in it and below it, `@FILE` for the paths that it lists, one a line (relative ones
    from its folder), and a name with `*`, `?` or `[` that is no file for all that it matches (`**` goes through folders).

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
    """The files of a list; a line that is empty or begins with # is passed over."""
    try:
        lines = os.fsdecode(path.read_bytes()).split("\n")  # names may hold any other line break
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise GanpipeError(f"The file list {path} cannot be read ({why}).") from None
    words = [word for line in lines if (word := line.strip(" \t\r")) and not line.startswith("#")]
    return [found for word in words for found in _expand(str(path.parent / os.path.expanduser(word)))]
