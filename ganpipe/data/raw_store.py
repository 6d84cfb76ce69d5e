"""Reads and removes the raw images of a dataset, and finds damaged ones."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from PIL import Image

from ganpipe.data.manifest import MANIFEST, Record, read_manifest, write_manifest
from ganpipe.errors import GanpipeError
from ganpipe.imaging.decode import Shrink, decode_image
from ganpipe.imaging.grid import to_pil
from ganpipe.imaging.image import Pixels, RejectedImage
from ganpipe.progress import Progress, Report, ignore


def remove_images(folder: Path, patterns: list[str]) -> list[Record]:
    """Removes images from a raw dataset by name, glob or hash prefix; returns their records.

    Raises:
        GanpipeError: a pattern matches nothing, or no image would remain; the dataset is unchanged.
    """
    records = read_manifest(folder)
    chosen: dict[str, Record] = {}
    for pattern in patterns:
        fits = [r for r in records if _matches(r, pattern)]
        if not fits:
            raise GanpipeError(
                f"{folder.name} has no image {pattern}; give a name as in `ganpipe data show`, a pattern such as "
                "'blurred/*', or eight or more characters of its SHA-256."
            )
        chosen |= {r.sha256: r for r in fits}
    left = [r for r in records if r.sha256 not in chosen]
    if not left:
        raise GanpipeError(f"That would leave no image in {folder.name}; nothing was removed.")
    write_manifest(folder, left)
    sweep(folder, left)
    return list(chosen.values())


def _matches(record: Record, pattern: str) -> bool:
    by_hash = len(pattern) >= 8 and record.sha256.startswith(pattern)
    return by_hash or record.name == pattern or fnmatchcase(record.name, pattern)


def sweep(folder: Path, records: Iterable[Record]) -> None:
    """Deletes files that no record names: leftovers of a killed change, and removed images."""
    named = {MANIFEST} | {record.file for record in records}
    for parent, _, files in os.walk(folder):
        for file in files:
            if os.path.relpath(os.path.join(parent, file), folder) not in named:
                Path(parent, file).unlink()


def remove_empty_folders(folder: Path) -> None:
    """Deletes empty folders, `folder` itself included."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


class RawImages:
    """Reads the images of a raw dataset, files and array rows alike."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._arrays: dict[str, Pixels] = {}

    def bytes_of(self, record: Record) -> bytes:
        """The bytes whose SHA-256 the record names."""
        if record.row is None:
            return (self.folder / record.file).read_bytes()
        return self._array(record)[record.row].tobytes()

    def decode(self, record: Record, shrink: Shrink | None = None) -> Image.Image:
        """Decodes an image, upright, with 8 bits per channel; smaller if `shrink` allows it (see `decode_image`).

        Raises:
            GanpipeError: it is missing, or its bytes are not those that were added.
        """
        try:
            data = self.bytes_of(record)
            if hashlib.sha256(data).hexdigest() != record.sha256:
                raise ValueError("other bytes than were added")  # noqa: TRY301
            if record.row is not None:
                return to_pil(self._array(record)[record.row])
            return decode_image(data, shrink, checked=True)
        except (OSError, ValueError, IndexError, RejectedImage) as error:
            raise GanpipeError(
                f"{record.name} of {self.folder} is missing or damaged ({error}); "
                f"bring it back with: ganpipe data verify {self.folder.name}"
            ) from None

    def _array(self, record: Record) -> Pixels:
        if record.file not in self._arrays:
            self._arrays[record.file] = np.load(self.folder / record.file, mmap_mode="r")
        return self._arrays[record.file]


def find_damaged(folder: Path, report: Report = ignore) -> list[Record]:
    """Hashes every image, and returns those that are missing or differ from their hash."""
    records, images, started = read_manifest(folder), RawImages(folder), time.monotonic()
    lost = []
    for done, record in enumerate(records, start=1):
        try:
            good = hashlib.sha256(images.bytes_of(record)).hexdigest() == record.sha256
        except (OSError, ValueError, IndexError):
            good = False
        if not good:
            lost.append(record)
        if done % 256 == 0 or done == len(records):
            report(Progress("verify", done, len(records), "images", time.monotonic() - started))
    return lost
