"""The raw data set: every accepted image under the hash of its bytes, and a manifest that names them.

    data/raw/NAME/manifest.jsonl      one line an image: what, where from, which label, which split
    data/raw/NAME/files/ab/abcd….png  a file as it was found
    data/raw/NAME/arrays/….npy        images that came as one array

Hash-named files may be written again at any time; the manifest's rename is the moment at which an addition
happens. A kill before it leaves the old data set, and orphans that the next addition sweeps.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from ganpipe.data.sources import ArrayItem, FileItem, Item
from ganpipe.errors import GanpipeError
from ganpipe.files import replacing, sha256_of, write_text
from ganpipe.images import Pixels, Refusal, decode_image, to_pil
from ganpipe.progress import Progress, Report, ignore

MANIFEST = "manifest.jsonl"
BATCH = 64  # files in memory at once
EXTENSIONS = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp", b"BM": ".bmp", b"GI": ".gif"}


@dataclass(frozen=True)
class Record:
    """One accepted image: the SHA-256 of its bytes, where it came from, and where it is."""

    sha256: str
    name: str
    file: str  # relative to the data set; for an array its .npy
    row: int | None = None  # row of the array
    label: str | None = None
    holdout: bool | None = None


@dataclass
class AddReport:
    """What became of every file that was found."""

    name: str
    version: str = ""
    found: int = 0
    accepted: int = 0
    quarantined: list[dict[str, str]] = field(default_factory=list)
    duplicates: int = 0
    train: int = 0
    holdout: int = 0


def is_held_out(record: Record, fraction: float) -> bool:
    """Whether an image is never trained on: the source's own test split, or a share by hash.

    The hash decides for each image alone, so that adding images moves none from one side to the other.
    """
    if record.holdout is not None:
        return record.holdout
    return int(record.sha256[:12], 16) < fraction * 16**12


def split_records(records: list[Record], fraction: float) -> tuple[list[Record], list[Record]]:
    """Training and held-out records; of two images or more at least one is on each side."""
    train = [r for r in records if not is_held_out(r, fraction)]
    holdout = [r for r in records if is_held_out(r, fraction)]
    for few, many in ((holdout, train), (train, holdout)):
        if not few and len(many) > 1 and fraction > 0:
            chosen = min(many, key=lambda r: r.sha256)
            many.remove(chosen)
            few.append(chosen)
    return train, holdout


def read_manifest(folder: Path) -> list[Record]:
    """The images of a raw data set, in the order in which they were added.

    Raises:
        GanpipeError: there is no data set in `folder`, or its manifest is damaged.
    """
    path = folder / MANIFEST
    try:
        return parse_manifest(path.read_text())
    except FileNotFoundError:
        raise GanpipeError(
            f"There is no raw data set in {folder}; make one with: ganpipe data add."
        ) from None
    except (ValueError, TypeError) as error:
        raise GanpipeError(
            f"{path} is damaged ({error}); bring it back with: dvc checkout {folder}.dvc"
        ) from None


def count_images(folder: Path) -> int | None:
    """How many images a raw data set has, without parsing its manifest; None where there is none."""
    path = folder / MANIFEST
    return path.read_bytes().count(b"\n") if path.exists() else None


def parse_manifest(text: str) -> list[Record]:
    """Records from the manifest's text."""
    return [Record(**json.loads(line)) for line in text.splitlines()]


def add_items(folder: Path, items: Iterable[Item], report: Report = ignore) -> AddReport:
    """Adds what is new among `items` to the raw data set in `folder`, and accounts for every one found.

    Raises:
        GanpipeError: not one image was accepted or known; nothing is changed.
    """
    result = AddReport(name=folder.name)
    records = read_manifest(folder) if (folder / MANIFEST).exists() else []
    known = {record.sha256 for record in records}
    try:
        for kind, group in groupby(items, key=type):
            if kind is ArrayItem:
                new = [r for item in group for r in _add_array(folder, cast(ArrayItem, item), known, result)]
            else:
                files = (cast(FileItem, item) for item in group)
                new = list(_add_files(folder, files, known, result, report))
            records += new
            result.accepted += len(new)
    except BaseException:
        remove_empty_folders(folder)
        raise
    if not records:
        remove_empty_folders(folder)
        why = (
            f"; the first of {result.found} files: {result.quarantined[0]['reason']}"
            if result.quarantined
            else ""
        )
        raise GanpipeError(f"No image was found for {folder.name} ({result.found} files looked at{why}).")
    if result.accepted:
        text = "".join(json.dumps(asdict(r), ensure_ascii=True) + "\n" for r in records)
        write_text(folder / MANIFEST, text)
    sweep(folder, records)
    return result


def _add_files(
    folder: Path, items: Iterator[FileItem], known: set[str], result: AddReport, report: Report
) -> Iterator[Record]:
    """Reads and decodes on threads (Pillow lets go of the interpreter), decides in order."""
    started = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while batch := list(islice(items, BATCH)):
            for item, data in zip(batch, pool.map(_read_and_check, batch), strict=True):
                result.found += 1
                if isinstance(data, Refusal):
                    result.quarantined.append({"file": printable(item.name), "reason": str(data)})
                    continue
                digest = hashlib.sha256(data).hexdigest()
                if digest in known:
                    result.duplicates += 1
                    continue
                known.add(digest)
                file = f"files/{digest[:2]}/{digest}{EXTENSIONS.get(data[:2], '.tif')}"
                _write_once(folder / file, data)
                yield Record(digest, printable(item.name), file, None, item.label, item.holdout)
            report(Progress("add", result.found, 0, "files", time.monotonic() - started))


def _read_and_check(item: FileItem) -> bytes | Refusal:
    try:
        data = item.read()
        decode_image(data)
    except Refusal as refusal:
        return refusal
    return data


def _write_once(path: Path, data: bytes) -> None:
    if path.exists() and path.stat().st_size == len(data):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed; not flushed one by one: the manifest's own flush comes after, and a file
    # that a power cut shortened has another size or fails `data verify`.
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_bytes(data)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise GanpipeError(
            f"Could not write {path}: {error.strerror}; free some room and run again."
        ) from None
    temporary.rename(path)


def _add_array(folder: Path, item: ArrayItem, known: set[str], result: AddReport) -> list[Record]:
    digests = [hashlib.sha256(row.tobytes()).hexdigest() for row in np.ascontiguousarray(item.pixels)]
    result.found += len(digests)
    keep: list[int] = []
    for k, digest in enumerate(digests):
        if digest in known:
            result.duplicates += 1
        else:
            known.add(digest)
            keep.append(k)
    if not keep:
        return []
    rows = np.ascontiguousarray(item.pixels[keep])
    file = f"arrays/{hashlib.sha256(rows.tobytes()).hexdigest()}.npy"
    with replacing(folder / file) as out:
        np.save(out, rows)
    return [
        Record(
            digests[k], f"{item.name}[{k}]", file, row, item.labels[k] if item.labels else None, item.holdout
        )
        for row, k in enumerate(keep)
    ]


def sweep(folder: Path, records: list[Record]) -> None:
    """Removes what no record names: the rest of an addition that was killed."""
    named = {record.file for record in records}
    for kind in ("files", "arrays"):
        for path in (folder / kind).rglob("*"):
            if path.is_file() and str(path.relative_to(folder)) not in named:
                path.unlink()


def remove_empty_folders(folder: Path) -> None:
    """Takes away a folder tree that holds no file."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def printable(name: str) -> str:
    """A file name as text that any JSON reader takes: bytes that are not UTF-8 become \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


class RawImages:
    """Reads the pictures of a raw data set, files and array rows alike."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._arrays: dict[str, Pixels] = {}

    def bytes_of(self, record: Record) -> bytes:
        """The bytes whose SHA-256 the record names."""
        if record.row is None:
            return (self.folder / record.file).read_bytes()
        return self._array(record)[record.row].tobytes()

    def picture(self, record: Record) -> Image.Image:
        """The picture, upright, with 8 bits a channel."""
        if record.row is None:
            return decode_image(self.bytes_of(record))
        return to_pil(self._array(record)[record.row])

    def _array(self, record: Record) -> Pixels:
        if record.file not in self._arrays:
            self._arrays[record.file] = np.load(self.folder / record.file, mmap_mode="r")
        return self._arrays[record.file]


def damaged_records(folder: Path, report: Report = ignore) -> list[str]:
    """Names of images whose bytes are gone or are not those that were added: every byte is hashed."""
    records, images, started = read_manifest(folder), RawImages(folder), time.monotonic()
    lost = []
    for done, record in enumerate(records, start=1):
        try:
            good = hashlib.sha256(images.bytes_of(record)).hexdigest() == record.sha256
        except (OSError, ValueError, IndexError):
            good = False
        if not good:
            lost.append(record.name)
        if done % 256 == 0 or done == len(records):
            report(Progress("verify", done, len(records), "images", time.monotonic() - started))
    return lost


def manifest_hash(folder: Path) -> str:
    """SHA-256 of the manifest, which names every byte of the data set."""
    return sha256_of(folder / MANIFEST)
