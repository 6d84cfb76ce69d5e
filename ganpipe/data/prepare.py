"""From raw images to what training reads: uint8 shards `[N, H, W, C]` that can be memory-mapped.

    data/prepared/NAME/train-00000.npy, holdout-00000.npy, …   at most SHARD_IMAGES images each
    data/prepared/NAME/meta.json                                shape, counts, labels, checksums, origin

This is the command of the DVC stage `prepare@NAME` (see dvc.yaml): `python -m ganpipe.data.prepare NAME`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.lib.format import open_memmap
from torch import Tensor

from ganpipe.config import DataSettings
from ganpipe.data.raw import RawImages, Record, manifest_hash, read_manifest, split_records
from ganpipe.errors import GanpipeError
from ganpipe.files import read_json, sha256_of, write_json, write_text
from ganpipe.images import ImageShape, Pixels, Refusal, fit_image, is_grey
from ganpipe.progress import Progress, Report, ignore

SHARD_IMAGES = 4096
GREY_PROBE_IMAGES = 256
PREPARE_FILE = Path("data/prepare.yaml")
SPLITS = ("train", "holdout")


@dataclass(frozen=True)
class Split:
    """One side of a prepared data set: uint8 shards `[n, H, W, C]`, mapped from their files, and a label index an
    image (-1: none)."""

    shards: tuple[Tensor, ...]
    labels: Tensor

    @classmethod
    def of(cls, pixels: Tensor, labels: Tensor) -> Split:
        """A split that is one tensor in memory."""
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
        """Images and labels at these places; only their pages are read."""
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
        """All of it on a device, as one tensor."""
        return Split.of(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True)
class PreparedData:
    """A prepared data set, as training and evaluation see it."""

    name: str
    version: str
    shape: ImageShape
    label_names: tuple[str, ...]
    train: Split
    holdout: Split

    @property
    def labelled(self) -> bool:
        """Whether every image that is trained on has a label."""
        return bool(self.label_names) and bool((self.train.labels >= 0).all())

    @property
    def label_counts(self) -> tuple[int, ...]:
        """Training images by label."""
        return tuple(torch.bincount(self.train.labels.clamp_min(0), minlength=len(self.label_names)).tolist())


def prepare(raw: Path, out: Path, settings: DataSettings, report: Report = ignore) -> dict[str, Any]:
    """Writes shards of every image of the raw data set to the folder `out`, and returns `meta.json`.

    Raises:
        GanpipeError: too few images, or an image that is not what the manifest says.
    """
    records = read_manifest(raw)
    sides = dict(zip(SPLITS, split_records(records, settings.holdout_fraction), strict=True))
    if len(sides["train"]) < 2:
        raise GanpipeError(
            f"{raw} has {len(sides['train'])} images to train on; at least 2 are needed: add images."
        )
    images = RawImages(raw)
    channels = settings.channels or _find_channels(images, records)
    shape = ImageShape(channels, settings.height_px, settings.width_px)
    names = sorted({r.label for r in records if r.label is not None})
    out.mkdir(parents=True, exist_ok=True)
    started, done = time.monotonic(), 0
    checksums: dict[str, str] = {}
    labels: dict[str, list[int]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for side, chosen in sides.items():
            labels[side] = [names.index(r.label) if r.label is not None else -1 for r in chosen]
            for start in range(0, len(chosen), SHARD_IMAGES):
                part = chosen[start : start + SHARD_IMAGES]
                path = out / f"{side}-{start // SHARD_IMAGES:05d}.npy"
                shard = open_memmap(
                    path, "w+", np.uint8, (len(part), shape.height_px, shape.width_px, channels)
                )
                for k, pixels in enumerate(pool.map(lambda r: _fitted(images, r, shape, settings.fit), part)):
                    shard[k] = pixels
                    done += 1
                    if done % 256 == 0 or done == len(records):
                        report(Progress("prepare", done, len(records), "images", time.monotonic() - started))
                shard.flush()
                del shard
                checksums[path.name] = sha256_of(path)
    meta = {
        "dataset": raw.name,
        "manifest_sha256": manifest_hash(raw),
        "settings": prepare_entry(settings),
        "channels": channels,
        "images": {side: len(chosen) for side, chosen in sides.items()},
        "label_names": names,
        "labels": labels if names else {},
        "sha256": checksums,
    }
    write_json(out / "meta.json", meta)
    return meta


def _find_channels(images: RawImages, records: Sequence[Record]) -> int:
    """1 where a sample spread over the whole data set has no colour, else 3."""
    step = max(1, len(records) // GREY_PROBE_IMAGES)
    return 1 if all(is_grey(_picture(images, r)) for r in records[::step]) else 3


def _picture(images: RawImages, record: Record) -> Any:
    try:
        return images.picture(record)
    except (OSError, ValueError, IndexError, Refusal) as error:
        raise GanpipeError(
            f"{record.name} of {images.folder} is missing or damaged ({error}); "
            f"bring it back with: ganpipe data verify {images.folder.name}"
        ) from None


def _fitted(images: RawImages, record: Record, shape: ImageShape, fit: str) -> Pixels:
    return fit_image(_picture(images, record), shape, fit)


def prepare_entry(settings: DataSettings) -> dict[str, Any]:
    """What the stage depends on, as it stands in data/prepare.yaml."""
    return {
        "height_px": settings.height_px,
        "width_px": settings.width_px,
        "channels": settings.channels,
        "fit": settings.fit,
        "holdout_fraction": settings.holdout_fraction,
    }


def read_prepare_file(path: Path) -> dict[str, dict[str, Any]]:
    """`{name: entry}` of data/prepare.yaml; empty where there is none."""
    if not path.exists():
        return {}
    tree = yaml.safe_load(path.read_text()) or {}
    return dict(tree.get("datasets") or {})


def write_prepare_file(path: Path, entries: dict[str, dict[str, Any]]) -> None:
    """Writes data/prepare.yaml, the parameters of the DVC stages `prepare@NAME`."""
    note = "# How each data set is prepared; written by ganpipe, read by the stages of dvc.yaml.\n"
    write_text(path, note + yaml.safe_dump({"datasets": entries}, sort_keys=True))


def is_prepared(raw: Path, out: Path, settings: DataSettings) -> bool:
    """Whether `out` was made from exactly these raw images with exactly these settings (bytes not read)."""
    if not (out / "meta.json").exists():
        return False
    meta = read_json(out / "meta.json")
    return (
        meta["manifest_sha256"] == manifest_hash(raw)
        and meta["settings"] == prepare_entry(settings)
        and all((out / shard).exists() for shard in meta["sha256"])
    )


def damaged_shards(out: Path) -> list[str]:
    """Names of shards whose bytes are not those that were written."""
    sums = read_json(out / "meta.json")["sha256"]
    return [name for name, sha in sums.items() if not (out / name).exists() or sha256_of(out / name) != sha]


def load_prepared(out: Path, version: str) -> PreparedData:
    """The prepared data set in `out`, checked against its checksums; its shards stay on disk, mapped.

    Raises:
        GanpipeError: it is missing, or a shard is damaged (DVC checks a damaged file out without a word).
    """
    meta = read_json(out / "meta.json")
    if bad := damaged_shards(out):
        raise GanpipeError(
            f"{out / bad[0]} is damaged: its bytes are not those that were prepared. "
            f"Delete {out} and run again to prepare it anew."
        )
    entry = meta["settings"]
    shape = ImageShape(meta["channels"], entry["height_px"], entry["width_px"])
    sides = {side: _load_split(out, side, shape, meta) for side in SPLITS}
    return PreparedData(
        meta["dataset"], version, shape, tuple(meta["label_names"]), sides["train"], sides["holdout"]
    )


def _load_split(out: Path, side: str, shape: ImageShape, meta: dict[str, Any]) -> Split:
    names = sorted(name for name in meta["sha256"] if name.startswith(side))
    # Copy on write: torch wants memory that could be written, and nobody writes it.
    shards = tuple(torch.from_numpy(np.load(out / name, mmap_mode="c")) for name in names)
    labels = meta["labels"].get(side)
    count = sum(len(shard) for shard in shards)
    empty = torch.zeros((0, shape.height_px, shape.width_px, shape.channels), dtype=torch.uint8)
    return Split(shards or (empty,), torch.tensor(labels) if labels else torch.full((count,), -1))


def main() -> None:
    """The DVC stage: prepares the data set that the command line names, in the current folder."""
    name = sys.argv[1]
    entry = read_prepare_file(PREPARE_FILE)[name]
    prepare(Path("data/raw", name), Path("data/prepared", name), DataSettings(**entry))


if __name__ == "__main__":
    main()
