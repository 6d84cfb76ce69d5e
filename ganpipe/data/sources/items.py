"""The items of a source: files, arrays, rejected files, and files that describe images."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from ganpipe.data.inspect import Read
from ganpipe.imaging.image import Pixels, RejectedImage

SETTLED_NS = 2_000_000_000  # a file that changed just now may change again within the clock's resolution


@dataclass(frozen=True)
class FileItem:
    """One file found. `read` returns its bytes or raises RejectedImage.

    Equal stamps mean equal bytes; None: unknown until read. `streamed`: `read` must be called in this process,
    before the next item is requested; otherwise `read` is picklable.
    """

    name: str
    read: Read
    label: str | None = None
    holdout: bool | None = None  # None: the source has no test split
    stamp: str | None = None
    changed_ns: int = 0
    streamed: bool = False

    def settled_stamp(self) -> str | None:
        """The stamp, if the file has not changed for SETTLED_NS, so that its times can be trusted."""
        return self.stamp if time.time_ns() - self.changed_ns > SETTLED_NS else None


@dataclass(frozen=True)
class RefusedItem:
    """An entry that cannot be read as a file."""

    name: str
    rejected: RejectedImage


@dataclass(frozen=True)
class ArrayItem:
    """Images that came as one uint8 array `[N, H, W, C]`, with their labels and split."""

    name: str
    pixels: Pixels
    labels: list[str] | None
    holdout: bool | None


@dataclass(frozen=True)
class SidecarItem:
    """A file that describes images: labels, captions, statistics of shards."""

    name: str


Item = FileItem | RefusedItem | ArrayItem | SidecarItem
ARRIVING = RejectedImage("arriving", "it changed a moment ago; it is read when it is whole")


def without_arriving(items: Iterable[Item], arriving: Collection[str]) -> Iterator[Item]:
    """The items of a source without those of files that still change; each such file is refused once."""
    told: set[str] = set()
    for item in items:
        places = (item.name, *map(str, PurePosixPath(item.name).parents))
        name = next((place for place in places if place in arriving), None)
        if name is None or isinstance(item, SidecarItem):
            yield item
        elif name not in told:
            told.add(name)
            yield RefusedItem(name, ARRIVING)


def file_stamp(info: os.stat_result) -> tuple[str, int]:
    """A file's stamp, and the time of its last change in nanoseconds."""
    stamp = f"{info.st_dev}:{info.st_ino}:{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}"
    return stamp, max(info.st_mtime_ns, info.st_ctime_ns)
