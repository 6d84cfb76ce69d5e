"""The raw images of a dataset on disk: reads and removes them, and finds damaged ones and foreign files."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from PIL import Image

from ganpipe.data.manifest import MANIFEST, Record, is_dataset_file, read_manifest, write_manifest
from ganpipe.errors import GanpipeError
from ganpipe.files import sha256_of
from ganpipe.imaging.decode import MOST_PIXELS, Shrink, decode_image, decode_pixels, pixels_of
from ganpipe.imaging.grid import to_pil
from ganpipe.imaging.image import Pixels, RejectedImage
from ganpipe.progress import Progress, Report, ignore

# What a kill leaves: the manifest, an image or an array that was being written.
OUR_TEMPORARY = re.compile(
    r"\.manifest\.jsonl\.\w+\.tmp|files/[0-9a-f]{2}/[0-9a-f]{64}\.\d+\.tmp|arrays/\.[0-9a-f]{40}\.\w+\.tmp"
)


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
    return list(chosen.values())


def _matches(record: Record, pattern: str) -> bool:
    by_hash = len(pattern) >= 8 and record.sha256.startswith(pattern)
    return by_hash or record.name == pattern or fnmatchcase(record.name, pattern)


def files_in(folder: Path) -> Iterator[str]:
    """Relative paths of everything below a folder that is no folder; a link is not followed."""
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in (*files, *links):
            yield os.path.relpath(os.path.join(parent, name), folder)


def find_foreign(folder: Path) -> list[str]:
    """Files in a dataset's folder that ganpipe did not write: somebody laid them there."""
    return [file for file in files_in(folder) if not _is_named_by_us(folder / file, file)]


def _is_named_by_us(path: Path, file: str) -> bool:
    if OUR_TEMPORARY.fullmatch(file):
        return True
    try:  # with `cache.type = symlink` an image is a link to DVC's cache
        return is_dataset_file(file) and not stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return is_dataset_file(file)


def set_aside(folder: Path, files: Iterable[str], aside: Path) -> list[str]:
    """Moves files out of `folder` to the same relative paths in the folder `aside`; returns those paths."""
    moved = sorted(files)
    for file in moved:
        (aside / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / file, aside / file)
        for parent in list(Path(file).parents)[:-1]:
            if not any((folder / parent).iterdir()):
                (folder / parent).rmdir()
    return moved


def new_aside_folder(root: Path, name: str) -> Path:
    """Where files that are not ganpipe's go: never deleted, only out of the way. The folder is made when it is used."""
    return root / ".ganpipe" / "aside" / name / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def sweep(folder: Path, records: Iterable[Record], aside: Path) -> list[str]:
    """Removes what no record names: images that were taken out, and the rest of a change that was killed.

    Only what ganpipe wrote is deleted; other files are moved to the folder `aside`, and their paths returned.
    """
    named = {MANIFEST} | {record.file for record in records}
    foreign = []
    for file in list(files_in(folder)):
        if file in named:
            continue
        if OUR_TEMPORARY.fullmatch(file) or _is_as_written(folder / file, file):
            (folder / file).unlink()
        else:
            foreign.append(file)
    return set_aside(folder, foreign, aside)


def _is_as_written(path: Path, file: str) -> bool:
    """Whether a file has a name that ganpipe gives, and the bytes that the name promises."""
    if not is_dataset_file(file) or not path.is_file():
        return False
    if file.startswith("files/"):
        return sha256_of(path) == path.stem
    try:
        return hashlib.sha256(np.load(path, mmap_mode="r").tobytes()).hexdigest() == path.stem
    except (OSError, ValueError):
        return False


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
        with self._explained(record):
            data = self._whole_bytes_of(record)
            if record.row is not None:
                return to_pil(self._array(record)[record.row])
            return decode_image(data, shrink, checked=True, max_pixels=MOST_PIXELS)

    def pixels(self, record: Record, shrink: Shrink) -> Pixels:
        """The pixels `[H, W, 1 to 4]` of the same, faster.

        Raises:
            GanpipeError: as `decode`.
        """
        with self._explained(record):
            data = self._whole_bytes_of(record)
            if record.row is not None:
                return pixels_of(to_pil(self._array(record)[record.row]))
            return decode_pixels(data, shrink, max_pixels=MOST_PIXELS)

    def _whole_bytes_of(self, record: Record) -> bytes:
        data = self.bytes_of(record)
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise ValueError("other bytes than were added")
        return data

    @contextmanager
    def _explained(self, record: Record) -> Iterator[None]:
        """Turns every error of reading an image into a sentence that says how to bring it back."""
        try:
            yield
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
