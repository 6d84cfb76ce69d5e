"""Images in a folder and its subfolders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ganpipe.data.sources.items import FileItem, Item, RefusedItem
from ganpipe.errors import GanpipeError
from ganpipe.imaging.decode import read_image_file
from ganpipe.imaging.image import RejectedImage

IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif"}


def label_of(relative: str) -> str | None:
    """The label of a file: its folder, as in torchvision's ImageFolder."""
    parent = os.path.dirname(relative)
    return parent or None


def walk_folder(root: Path, without: Callable[[Path], bool] = lambda path: False) -> Iterator[Item]:
    """Yields every file below `root`: a folder's files first, then its subfolders, each by name.

    Follows links to folders; rejects loops.
    """
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", (_identity(os.stat(root)),))]
    while waiting:
        inside, above = waiting.pop()
        entries = _entries(root, inside)
        if isinstance(entries, RefusedItem):
            yield entries
            continue
        folders: list[tuple[str, tuple[tuple[int, int], ...]]] = []
        for entry in entries:
            name = os.path.join(inside, entry.name)
            if not _is_folder(entry):
                if not without(Path(root, name)):
                    yield file_item(Path(root, name), name)
                continue
            identity = _identity(os.stat(entry.path))
            if identity in above:
                yield RefusedItem(
                    name, RejectedImage("link_loop", "it is a link to one of its parent folders")
                )
            else:
                folders.append((name, (*above, identity)))
        waiting += reversed(folders)


def _entries(root: Path, inside: str) -> list[os.DirEntry[str]] | RefusedItem:
    try:
        return sorted(os.scandir(os.path.join(root, inside)), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        if not inside:
            raise GanpipeError(f"The folder {root} cannot be read ({error.strerror}).") from None
        return RefusedItem(
            inside, RejectedImage("unreadable", f"the folder cannot be read ({error.strerror})")
        )


def _identity(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link loop
        return False


def file_item(path: Path, name: str) -> Item:
    try:
        info = path.stat()
    except FileNotFoundError:
        return RefusedItem(name, RejectedImage("dangling_link", "it is a broken link"))
    except OSError as error:
        code = "link_loop" if path.is_symlink() else "unreadable"
        return RefusedItem(name, RejectedImage(code, f"it cannot be read ({error.strerror})"))
    return FileItem(name, partial(read_image_file, path), label_of(name), None, *file_stamp(info))


def file_stamp(info: os.stat_result) -> tuple[str, int]:
    """A file's stamp, and the time of its last change in nanoseconds."""
    stamp = f"{info.st_dev}:{info.st_ino}:{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}"
    return stamp, max(info.st_mtime_ns, info.st_ctime_ns)
