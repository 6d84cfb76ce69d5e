"""The manifest of a raw dataset, one line per image, and the split computed from it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ganpipe.errors import GanpipeError
from ganpipe.files import sha256_of, write_text

MANIFEST = "manifest.jsonl"
SHA256 = re.compile(r"[0-9a-f]{64}")
FILE = re.compile(r"(files/[0-9a-f]{2}|arrays)/[0-9a-f]{64}\.[a-z]+")


@dataclass(frozen=True)
class Record:
    """One accepted image: the SHA-256 of its bytes, where it came from, and where it is."""

    sha256: str
    name: str
    file: str  # relative to the dataset; for an array its .npy
    row: int | None = None  # row of the array
    label: str | None = None
    holdout: bool | None = None  # None: the source has no test split
    group: str | None = None  # near-duplicate group: the hash of its first image


def is_dataset_file(file: object) -> bool:
    """Whether a raw dataset could hold a file with this relative path: its manifest, an image, an array."""
    if not isinstance(file, str):
        return False
    folder, _, name = file.rpartition("/")
    in_place = folder == "arrays" or folder == f"files/{name[:2]}"
    return file == MANIFEST or bool(FILE.fullmatch(file) and in_place)


def is_held_out(record: Record, fraction: float) -> bool:
    """Whether an image is never trained on: the source's own test split, or a share by hash.

    The hash decides for each image, or for a near-duplicate group together, so that adding images moves none
    from one side to the other (except in datasets so small that a side would be empty: see `split_records`).
    """
    if record.holdout is not None:
        return record.holdout
    return int((record.group or record.sha256)[:12], 16) < fraction * 16**12


def split_records(records: Sequence[Record], fraction: float) -> tuple[list[Record], list[Record]]:
    """Splits records into training and held-out; with two or more groups, each side gets at least one.

    A group that overlaps a source's own test split is held out as a whole.
    """
    tested = {r.group for r in records if r.group and r.holdout}
    held = [is_held_out(r, fraction) or (r.group is not None and r.group in tested) for r in records]
    train = [r for r, out in zip(records, held, strict=True) if not out]
    holdout = [r for r, out in zip(records, held, strict=True) if out]
    for few, many in ((holdout, train), (train, holdout)):
        keys = {r.group or r.sha256 for r in many}
        if not few and len(keys) > 1 and fraction > 0:
            chosen = min(keys)
            few += [r for r in many if (r.group or r.sha256) == chosen]
            many[:] = [r for r in many if (r.group or r.sha256) != chosen]
    return train, holdout


def count_records(records: Sequence[Record], holdout_fraction: float) -> tuple[int, int, int]:
    """How many images are trained on and held out, and how many labels they have."""
    train, holdout = split_records(records, holdout_fraction)
    return len(train), len(holdout), len({r.label for r in records if r.label is not None})


def read_manifest(folder: Path) -> list[Record]:
    """Reads the images of a raw dataset, in the order they were added.

    Raises:
        GanpipeError: there is no dataset in `folder`, or its manifest is damaged.
    """
    path = folder / MANIFEST
    try:
        return parse_manifest(path.read_text())
    except FileNotFoundError:
        raise GanpipeError(f"There is no raw dataset in {folder}; make one with: ganpipe data add.") from None
    except (ValueError, TypeError) as error:
        raise GanpipeError(
            f"{path} is damaged ({error}); bring it back with: ganpipe data verify {folder.name}"
        ) from None


def write_manifest(folder: Path, records: Sequence[Record]) -> None:
    """Writes the manifest, whole or not at all; this commits a change of the dataset."""
    write_text(folder / MANIFEST, "".join(_line(record) for record in records))


def _line(record: Record) -> str:
    fields = asdict(record)
    if record.group is None:
        del fields["group"]  # as in manifests from before groups
    return json.dumps(fields, ensure_ascii=True) + "\n"


def count_images(folder: Path) -> int | None:
    """Counts the images of a raw dataset without parsing its manifest; None if there is no dataset."""
    path = folder / MANIFEST
    return path.read_bytes().count(b"\n") if path.exists() else None


def parse_manifest(text: str) -> list[Record]:
    """Parses the text of a manifest, which may come from an untrusted remote.

    Raises:
        ValueError, TypeError: a line that `write_manifest` cannot have written.
    """
    records = [Record(**json.loads(line)) for line in text.splitlines()]
    for record in records:
        hashes = [record.sha256] + ([record.group] if record.group is not None else [])
        if not all(SHA256.fullmatch(h) for h in hashes) or not is_dataset_file(record.file):
            raise ValueError(f"a line of {record.name!r} names no file of a dataset")
        if record.row is not None and (not isinstance(record.row, int) or record.row < 0):
            raise ValueError(f"a line of {record.name!r} names no row")
        texts = isinstance(record.name, str) and isinstance(record.label, str | None)
        if not texts or not isinstance(record.holdout, bool | None) or record.file == MANIFEST:
            raise ValueError(f"a line of {record.name!r} has a field of another kind")
    return records


def manifest_hash(folder: Path) -> str:
    """SHA-256 of the manifest, which names every byte of the dataset."""
    return sha256_of(folder / MANIFEST)
