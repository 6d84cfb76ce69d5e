"""Prepared datasets: uint8 shards `[N, H, W, C]`, mapped from their files, with labels and checksums.

data/prepared/KEY/train-00000-1a2b3c4d5e6f.npy, holdout-00000-….npy, …
data/prepared/KEY/meta.json                     shape, counts, labels, checksums, origin"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganpipe.errors import GanpipeError
from ganpipe.files import read_json, sha256_of
from ganpipe.imaging.image import ImageShape


@dataclass(frozen=True)
class Split:
    """One side of a prepared dataset: uint8 shards `[n, H, W, C]`, mapped from their files, and a label index per
    image (-1: none)."""

    shards: tuple[Tensor, ...]
    labels: Tensor

    @classmethod
    def of(cls, pixels: Tensor, labels: Tensor) -> Split:
        """Makes a split of one tensor in memory."""
        return cls((pixels,), labels)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Bytes of all images."""
        return sum(shard.nbytes for shard in self.shards)

    @property
    def pixels(self) -> Tensor:
        """All images as one tensor in memory."""
        return self.shards[0] if len(self.shards) == 1 else torch.cat(self.shards)

    def rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Images and labels at these indices; reads only their pages."""
        if len(self.shards) == 1:
            return self.shards[0][rows], self.labels[rows]
        ends = torch.tensor([len(shard) for shard in self.shards]).cumsum(0)
        where = torch.searchsorted(ends, rows.cpu(), right=True)
        pixels = self.shards[0].new_empty((len(rows), *self.shards[0].shape[1:]))
        for k in where.unique().tolist():
            chosen = where == k
            start = int(ends[k]) - len(self.shards[k])
            pixels[chosen] = self.shards[k][rows[chosen] - start]
        return pixels, self.labels[rows]

    def to(self, device: torch.device) -> Split:
        """Copies the whole split to a device, as one tensor."""
        return Split.of(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True)
class PreparedData:
    """A prepared dataset, as training and evaluation see it."""

    name: str
    version: str
    shape: ImageShape
    label_names: tuple[str, ...]
    train: Split
    holdout: Split
    holdout_keys: tuple[
        bytes, ...
    ] = ()  # 32 bytes that name each held-out image, in order; none in memory alone
    first_holdout_keys: tuple[bytes, ...] = ()  # of all images that the dataset's first version held out
    features: Path | None = None  # the folder for features of its images, which all versions share

    @property
    def labeled(self) -> bool:
        """Whether every image that is trained on has a label."""
        return bool(self.label_names) and bool((self.train.labels >= 0).all())

    @property
    def label_counts(self) -> tuple[int, ...]:
        """Training images by label."""
        labels = self.train.labels
        return tuple(torch.bincount(labels[labels >= 0], minlength=len(self.label_names)).tolist())

    @property
    def unlabeled(self) -> int:
        """Training images without a label, if others have one."""
        return int((self.train.labels < 0).sum()) if self.label_names else 0


class DamagedShards(GanpipeError):
    """Shards whose bytes are not those that were written."""


def load_prepared(out: Path, version: str) -> PreparedData:
    """Loads the prepared dataset in `out` and verifies its checksums; the shards stay mapped from disk.

    Raises:
        GanpipeError: it is missing.
        DamagedShards: a shard is damaged (DVC checks out damaged files silently).
    """
    meta = read_json(out / META)
    if bad := damaged_shards(out):
        raise DamagedShards(
            f"{out / bad[0]} is damaged: its bytes are not those that were prepared. "
            f"Delete {out} and run again to prepare it again."
        )
    entry = meta["settings"]
    shape = ImageShape(meta["channels"], entry["height_px"], entry["width_px"])
    learned = sorted({k for k in meta["labels"].get("train", []) if k >= 0})
    place = {k: number for number, k in enumerate(learned)}
    sides = {side: _load_split(out, side, shape, meta, place) for side in SPLITS}
    label_names = tuple(meta["label_names"][k] for k in learned)
    keys = _read_keys(out, meta, "holdout")
    return PreparedData(meta["dataset"], version, shape, label_names, sides["train"], sides["holdout"], keys)


def _read_keys(out: Path, meta: dict[str, Any], side: str) -> tuple[bytes, ...]:
    """The keys of one side's images, in order."""
    files = [(out / name).with_suffix(KEYS) for name in sorted(meta["sha256"]) if name.startswith(side)]
    found = [file.read_bytes() for file in files]
    return tuple(data[k : k + 32] for data in found for k in range(32, len(data), 32))


def _load_split(
    out: Path, side: str, shape: ImageShape, meta: dict[str, Any], place: dict[int, int]
) -> Split:
    """One side of `out`; a label that no training image has is none, since no model can learn it.

    `place`: the index of each label that a training image has, by its index in `meta`.
    """
    names = sorted(name for name in meta["sha256"] if name.startswith(side))
    # Copy on write: torch wants writable memory, although nothing writes it.
    shards = tuple(torch.from_numpy(np.load(out / name, mmap_mode="c")) for name in names)
    labels = [place.get(k, -1) for k in meta["labels"].get(side, [])]
    count = sum(len(shard) for shard in shards)
    empty = torch.zeros((0, shape.height_px, shape.width_px, shape.channels), dtype=torch.uint8)
    return Split(shards or (empty,), torch.tensor(labels) if labels else torch.full((count,), -1))


META = "meta.json"
KEYS = ".keys"  # beside each shard: 32 bytes that name the settings, then 32 for each image
SPLITS = ("train", "holdout")
SHARD = re.compile(r"(train|holdout)-\d{5}-[0-9a-f]{16}\.npy")


def shards_named_in(meta: Any) -> dict[str, str] | None:
    """The shards that a meta.json names, with their SHA-256; None if it names anything else, such as ../../x."""
    sums = meta.get("sha256") if isinstance(meta, dict) else None
    if not isinstance(sums, dict) or not all(SHARD.fullmatch(name) for name in sums):
        return None
    return sums


def damaged_shards(out: Path) -> list[str]:
    """Names of shards whose bytes are not those that were written, or that have lost their keys."""
    sums = shards_named_in(read_json(out / META))
    if sums is None:
        raise GanpipeError(f"{out / META} is not as ganpipe writes it; delete {out} and run again.")
    return [name for name, sha in sums.items() if not _is_whole(out / name, sha)]


def _is_whole(shard: Path, sha: str) -> bool:
    return shard.exists() and shard.with_suffix(KEYS).exists() and sha256_of(shard) == sha
