"""Images in a folder and its subfolders, with their labels and splits; archives and Parquet files in it are shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from ganpipe.data.sources.archives import is_archive, read_archive
from ganpipe.data.sources.items import FileItem, Item, RefusedItem, SidecarItem, file_stamp
from ganpipe.data.sources.labels import SourceLabels, is_annotation, is_shard_name
from ganpipe.data.sources.parquet import is_parquet, read_parquet
from ganpipe.errors import GanpipeError
from ganpipe.imaging.decode import read_image_file
from ganpipe.imaging.image import RejectedImage
from ganpipe.imaging.paths import FolderEntry, list_folder

AMONG_IMAGES = RejectedImage("not_an_image", "it is an archive among images: add it by itself")


def read_folder(
    root: Path, without: Callable[[Path], bool] = lambda path: False, archives: bool = False
) -> Iterator[Item]:
    """Yields what is below `root`: a folder's files first, then its subfolders, each by name.

    `without`: files that another reader reads. `archives`: archives and Parquet files are read beside images, too.
    """
    listing = list_folder(root)
    entries = [e for e in listing.entries if e.fault or not without(root / e.name)]
    labels = _labels(root, [e.name for e in entries if e.fault is None])
    yield from labels.problems
    for entry in [*entries, *listing.left_out]:
        yield from _items(root, entry, labels, archives)


def _labels(root: Path, names: list[str]) -> SourceLabels:
    texts = {}
    for name in filter(is_annotation, names):
        try:
            texts[name] = read_image_file(root / name)
        except RejectedImage:
            continue  # it is quarantined with its reason like any other file
    return SourceLabels(names, texts)


def _items(root: Path, entry: FolderEntry, labels: SourceLabels, archives: bool) -> Iterator[Item]:
    name, path = entry.name, root / entry.name
    if entry.fault is not None:
        yield RefusedItem(name, entry.fault)
    elif labels.is_sidecar(name):
        yield SidecarItem(name)
    elif is_shard_name(name) and path.is_file():
        read = archives or labels.holds_shards
        yield from _shard(path, name, labels) if read else [RefusedItem(name, AMONG_IMAGES)]
    else:
        yield _labeled(file_item(path, name), labels.label(name), labels.holdout(name))


def _labeled(item: Item, label: str | None, holdout: bool | None) -> Item:
    """The item with its label and split, as far as it has none itself."""
    if not isinstance(item, FileItem):
        return item
    return replace(
        item,
        label=label if item.label is None else item.label,
        holdout=holdout if item.holdout is None else item.holdout,
    )


def _shard(path: Path, name: str, labels: SourceLabels) -> Iterator[Item]:
    """The images of an archive or a Parquet file in a folder; its own labels and splits come first."""
    try:
        for item in _read_shard(path, name):
            yield _labeled(item, labels.label(name), labels.holdout(name))
    except (GanpipeError, OSError) as error:
        yield RefusedItem(name, RejectedImage("damaged_archive", str(error)))


def _read_shard(path: Path, name: str) -> Iterator[Item]:
    if is_parquet(path):
        yield from read_parquet(path, name)
    elif is_archive(path):
        yield from (replace(item, name=f"{name}/{item.name}") for item in read_archive(path))
    else:
        yield file_item(path, name)


def file_item(path: Path, name: str) -> FileItem | RefusedItem:
    """A file without label and split."""
    try:
        info = path.stat()
    except FileNotFoundError:
        return RefusedItem(name, RejectedImage("dangling_link", "it is a broken link"))
    except OSError as error:
        code = "link_loop" if path.is_symlink() else "unreadable"
        return RefusedItem(name, RejectedImage(code, f"it cannot be read ({error.strerror})"))
    stamp, changed_ns = file_stamp(info)
    return FileItem(name, partial(read_image_file, path), None, None, stamp, changed_ns)
