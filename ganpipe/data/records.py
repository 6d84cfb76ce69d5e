"""The manifest of a raw data set: one line an image, and what follows from it: the split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ganpipe.errors import GanpipeError
from ganpipe.files import sha256_of, write_text

MANIFEST = "manifest.jsonl"


@dataclass(frozen=True)
class Record:
    """One accepted image: the SHA-256 of its bytes, where it came from, and where it is."""

    sha256: str
    name: str
    file: str  # relative to the data set; for an array its .npy
    row: int | None = None  # row of the array
    label: str | None = None
    holdout: bool | None = None  # None: the source has no test split
    group: str | None = None  # of near copies: the hash of its first image


def is_held_out(record: Record, fraction: float) -> bool:
    """Whether an image is never trained on: the source's own test split, or a share by hash.

    The hash decides for each image alone, or for a group of near copies together, so that adding images moves none
    from one side to the other.
    """
    if record.holdout is not None:
        return record.holdout
    return int((record.group or record.sha256)[:12], 16) < fraction * 16**12


def split_records(records: Sequence[Record], fraction: float) -> tuple[list[Record], list[Record]]:
    """Training and held-out records; of two groups of images or more at least one is on each side."""
    train = [r for r in records if not is_held_out(r, fraction)]
    holdout = [r for r in records if is_held_out(r, fraction)]
    for few, many in ((holdout, train), (train, holdout)):
        keys = {r.group or r.sha256 for r in many}
        if not few and len(keys) > 1 and fraction > 0:
            chosen = min(keys)
            few += [r for r in many if (r.group or r.sha256) == chosen]
            many[:] = [r for r in many if (r.group or r.sha256) != chosen]
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
            f"{path} is damaged ({error}); bring it back with: ganpipe data verify {folder.name}"
        ) from None


def write_manifest(folder: Path, records: Sequence[Record]) -> None:
    """Writes the manifest, whole or not at all: this is the moment at which a data set changes."""
    write_text(folder / MANIFEST, "".join(_line(record) for record in records))


def _line(record: Record) -> str:
    fields = asdict(record)
    if record.group is None:
        del fields["group"]  # as in manifests from before groups
    return json.dumps(fields, ensure_ascii=True) + "\n"


def count_images(folder: Path) -> int | None:
    """How many images a raw data set has, without parsing its manifest; None where there is none."""
    path = folder / MANIFEST
    return path.read_bytes().count(b"\n") if path.exists() else None


def parse_manifest(text: str) -> list[Record]:
    """Records from the manifest's text."""
    return [Record(**json.loads(line)) for line in text.splitlines()]


def manifest_hash(folder: Path) -> str:
    """SHA-256 of the manifest, which names every byte of the data set."""
    return sha256_of(folder / MANIFEST)
