"""Prepares shards from raw images: `[N, H, W, C]` uint8 files that training maps into memory.

Shards are named after their content, so that an addition rewrites only the last ones. `python -m ganpipe.data.prepare
KEY` is the DVC stage `prepare@KEY`."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from ganpipe.compute.processes import exit_with_parent
from ganpipe.data.ingest import facts_of_records
from ganpipe.data.inspect import Facts
from ganpipe.data.inspection_cache import InspectionCache
from ganpipe.data.manifest import Record, manifest_hash, read_manifest, split_records
from ganpipe.data.prepare_file import BEHALF_OF, FAILED, PREPARE_FILE, read_prepare_file
from ganpipe.data.raw_store import RawImages
from ganpipe.data.shards import KEYS, META, SPLITS, shards_named_in
from ganpipe.errors import GanpipeError, explain_storage_error
from ganpipe.files import (
    fsync_folder,
    plain_disk_errors,
    read_json,
    sha256_of,
    sha256_of_json,
    write_bytes,
    write_json,
)
from ganpipe.imaging.image import ImageShape, Pixels
from ganpipe.progress import Progress, Report, ignore
from ganpipe.settings.schema import DataSettings

SHARD_IMAGES = 4096
SHARD_BYTES = 256 * 2**20  # a shard of large images holds fewer
CACHE_FILE = Path(".ganpipe/images.sqlite")  # relative to the workspace, as PREPARE_FILE
PREPARED_BY = (
    "height_px",
    "width_px",
    "channels",
    "fit",
    "background",
    "padding",
    "linear_light",
    "holdout_fraction",
)


RESULTS = 2  # raise it when the same settings give other pixels: shards made before are then made again


@dataclass(frozen=True)
class Frame:
    """One image of a shard: crop number `crop` of a record."""

    record: Record
    crop: int

    @property
    def key(self) -> bytes:
        """32 bytes that identify the image: the record's hash for crop 0, else a hash of it and the crop."""
        own = bytes.fromhex(self.record.sha256)
        return own if self.crop == 0 else hashlib.sha256(own + self.crop.to_bytes(2, "big")).digest()


@dataclass(frozen=True)
class Shard:
    """A shard to write: its name and its images in order."""

    name: str
    frames: tuple[Frame, ...]


def prepare(
    raw: Path,
    out: Path,
    settings: DataSettings,
    report: Report = ignore,
    cache: InspectionCache | None = None,
) -> dict[str, Any]:
    """Writes shards of every image of the raw dataset to the folder `out`, and returns `meta.json`.

    Raises:
        GanpipeError: too few images, or an image that differs from the manifest.
    """
    from ganpipe.data.resize import ResizeRules, parse_color

    records = read_manifest(raw)
    sides = dict(zip(SPLITS, split_records(records, settings.holdout_fraction), strict=True))
    if len(sides["train"]) < 2:
        raise GanpipeError(
            f"{raw} has {len(sides['train'])} images to train on; at least 2 are needed: add images."
        )
    facts = facts_of_records(raw, records, cache or InspectionCache(), report)
    images = RawImages(raw)
    channels = settings.channels or _find_channels(images, records, facts)
    fit = ResizeRules(
        ImageShape(channels, settings.height_px, settings.width_px),
        settings.fit,
        parse_color("data.background", settings.background),
        parse_color("data.padding", settings.padding),
        settings.linear_light,
    )
    frames = {side: list(_frames(chosen, facts, fit)) for side, chosen in sides.items()}
    identity = sha256_of_json(asdict(fit) | {"results": RESULTS})
    shards = {side: _layout(side, chosen, fit.shape, identity) for side, chosen in frames.items()}
    out.mkdir(parents=True, exist_ok=True)
    with plain_disk_errors(out):
        checksums, decoded = _write(
            images, out, [s for side in SPLITS for s in shards[side]], fit, identity, report
        )
    names = sorted({r.label for r in records if r.label is not None})
    place = {name: k for k, name in enumerate(names)}
    meta = {
        "dataset": raw.name,
        "manifest_sha256": manifest_hash(raw),
        "settings": prepare_entry(settings),
        "results": RESULTS,
        "channels": channels,
        "images": {side: len(chosen) for side, chosen in frames.items()},
        "label_names": names,
        "labels": {side: [_label(f.record, place) for f in chosen] for side, chosen in frames.items()}
        if names
        else {},
        "sha256": checksums,
    }
    write_json(out / META, meta)
    _sweep(out, set(checksums))
    return meta | {"decoded": decoded}


def _label(record: Record, place: dict[str, int]) -> int:
    return -1 if record.label is None else place[record.label]


def _find_channels(images: RawImages, records: Sequence[Record], facts: dict[str, Facts]) -> int:
    """1 if no image of the dataset has color, else 3."""
    arrays = {r.file: r for r in records if r.row is not None}
    color = any(images.decode(r).mode != "L" for r in arrays.values())
    return 3 if color or any(not f.gray for f in facts.values()) else 1


def _frames(records: Sequence[Record], facts: dict[str, Facts], fit: Any) -> Iterator[Frame]:
    from ganpipe.data.resize import crop_boxes

    for record in records:
        count = 1
        if fit.how == "cover-many" and record.row is None:
            if record.sha256 not in facts:
                raise GanpipeError(
                    f"{record.name} cannot be read; bring it back with: ganpipe data verify NAME"
                )
            known = facts[record.sha256]
            count = len(crop_boxes(known.width_px, known.height_px, fit))
        for crop in range(count):
            yield Frame(record, crop)


def _layout(side: str, frames: list[Frame], shape: ImageShape, identity: str) -> list[Shard]:
    """Plans shards of consecutive images, so that an addition changes only the last one."""
    size = max(1, min(SHARD_IMAGES, SHARD_BYTES // shape.numel))
    shards = []
    for number, start in enumerate(range(0, len(frames), size)):
        part = tuple(frames[start : start + size])
        content = hashlib.sha256(identity.encode() + b"".join(f.key for f in part)).hexdigest()
        shards.append(Shard(f"{side}-{number:05d}-{content[:16]}.npy", part))
    return shards


def _write(
    images: RawImages, out: Path, shards: list[Shard], fit: Any, identity: str, report: Report
) -> tuple[dict[str, str], int]:
    """Writes the missing shards; returns the checksums of all, and how many images were decoded."""
    known = (shards_named_in(read_json(out / META)) if (out / META).exists() else None) or {}
    old = _ShardReader(out, bytes.fromhex(identity), known)
    checksums: dict[str, str] = {}
    total, started = sum(len(s.frames) for s in shards), time.monotonic()
    done = decoded = 0

    def tell(fresh: int) -> None:
        report(Progress("prepare", done + fresh, total, "images", time.monotonic() - started))

    with ThreadPoolExecutor(os.cpu_count()) as pool, _one_thread_each():
        for shard in shards:
            path = out / shard.name
            found = sha256_of(path) if path.exists() and path.with_suffix(KEYS).exists() else None
            if found is None or known.get(shard.name, found) != found:
                missing = [k for k, frame in enumerate(shard.frames) if not old.has(frame.key)]
                decoded += len(missing)
                rows = partial(_write_rows, images, shard, missing, old, fit, pool, tell)
                _write_shard(path, shard, identity, rows)
                found = sha256_of(path)
            checksums[shard.name] = found
            done += len(shard.frames)
            tell(0)
    return checksums, decoded


def _write_shard(path: Path, shard: Shard, identity: str, write_rows: Callable[[Path], None]) -> None:
    """Writes a shard's keys and its rows, by `write_rows` into an unfinished file; whole or not at all."""
    unfinished = path.with_suffix(".partial")
    try:
        write_rows(unfinished)
        write_bytes(
            path.with_suffix(KEYS), bytes.fromhex(identity) + b"".join(frame.key for frame in shard.frames)
        )
        unfinished.rename(path)
    except Exception:
        unfinished.unlink(missing_ok=True)  # it would keep a full disk full
        raise
    fsync_folder(path.parent)


def _write_rows(
    images: RawImages,
    shard: Shard,
    missing: list[int],
    old: _ShardReader,
    fit: Any,
    pool: ThreadPoolExecutor,
    tell: Callable[[int], None],
    path: Path,
) -> None:
    shape = fit.shape
    rows = open_memmap(
        path, "w+", np.uint8, (len(shard.frames), shape.height_px, shape.width_px, shape.channels)
    )
    with path.open("rb+") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)  # else a full disk kills by SIGBUS
    for k in set(range(len(shard.frames))) - set(missing):
        rows[k] = old.image(shard.frames[k].key)
    _fill(rows, images, [shard.frames[k] for k in missing], missing, fit, pool, tell)
    rows.flush()
    del rows
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _fill(
    rows: Pixels,
    images: RawImages,
    frames: list[Frame],
    places: list[int],
    fit: Any,
    pool: ThreadPoolExecutor,
    tell: Callable[[int], None],
) -> None:
    """Decodes each record once, on all cores, and writes its images to their rows."""
    by_record: dict[str, list[tuple[int, Frame]]] = {}
    for place, frame in zip(places, frames, strict=True):
        by_record.setdefault(frame.record.sha256, []).append((place, frame))

    def fill(part: list[tuple[int, Frame]]) -> int:
        fitted = _resize_record(images, part[0][1].record, fit)
        for place, frame in part:
            rows[place] = fitted[frame.crop]
        return len(part)

    done = told = 0
    for count in pool.map(fill, by_record.values()):
        done += count
        if done - told >= 64:
            told = done
            tell(done)


class _ShardReader:
    """Reads images by key from existing shards, of an earlier version or a killed preparation."""

    def __init__(self, out: Path, identity: bytes, checksums: dict[str, str]) -> None:
        self._places: dict[bytes, tuple[Path, int]] = {}
        self._arrays: dict[Path, Pixels] = {}
        for file in sorted(out.glob(f"*{KEYS}")):
            data, path = file.read_bytes(), file.with_suffix(".npy")
            if (
                data[:32] == identity
                and path.exists()
                and checksums.get(path.name) in (None, sha256_of(path))
            ):
                keys = [data[k : k + 32] for k in range(32, len(data), 32)]
                self._places |= {key: (path, row) for row, key in enumerate(keys)}

    def has(self, key: bytes) -> bool:
        return key in self._places

    def image(self, key: bytes) -> Pixels:
        path, row = self._places[key]
        if path not in self._arrays:
            self._arrays[path] = np.load(path, mmap_mode="r")
        return self._arrays[path][row]


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Limits torch to one thread while several threads decode."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _resize_record(images: RawImages, record: Record, fit: Any) -> list[Pixels]:
    from ganpipe.data.resize import resize_pixels, shrink_for

    return resize_pixels(images.pixels(record, partial(shrink_for, fit)), fit)


def _sweep(out: Path, named: set[str]) -> None:
    """Removes shards of earlier versions and leftovers of a kill."""
    kept = {META} | named | {Path(name).with_suffix(KEYS).name for name in named}
    for path in out.iterdir():
        if path.is_file() and path.name not in kept:
            path.unlink()


def prepare_entry(settings: DataSettings) -> dict[str, Any]:
    """The settings that the DVC stage depends on."""
    return {name: getattr(settings, name) for name in PREPARED_BY}


def preparation_key(name: str, settings: DataSettings) -> str:
    """The folder name of a preparation; one raw dataset can have several."""
    digest = sha256_of_json(prepare_entry(settings))
    return f"{name}-{settings.width_px}x{settings.height_px}-{digest[:8]}"


def is_prepared(raw: Path, out: Path, settings: DataSettings) -> bool:
    """Whether `out` was made from exactly these raw images with exactly these settings (bytes not read)."""
    return (out / META).exists() and is_prepared_from(out, manifest_hash(raw), settings)


def is_prepared_from(out: Path, manifest_sha256: str, settings: DataSettings) -> bool:
    """The same for the raw images that have this manifest."""
    if not (out / META).exists():
        return False
    meta = read_json(out / META)
    shards = shards_named_in(meta)
    return (
        shards is not None
        and meta.get("manifest_sha256") == manifest_sha256
        and meta.get("settings") == prepare_entry(settings)
        and meta.get("results") == RESULTS
        and all((out / shard).exists() for shard in shards)
    )


def main() -> None:
    """Runs the DVC stage: prepares the key on the command line, in the current folder."""
    if BEHALF_OF in os.environ:
        exit_with_parent(int(os.environ[BEHALF_OF]))
    key = sys.argv[1]
    entry = read_prepare_file(PREPARE_FILE)[key]
    name = entry.pop("dataset")
    try:
        with InspectionCache(CACHE_FILE) as cache:
            prepare(Path("data/raw", name), Path("data/prepared", key), DataSettings(**entry), cache=cache)
    except Exception as error:
        why = str(error) if isinstance(error, GanpipeError) else explain_storage_error(error)
        if why is None:
            raise
        sys.exit(f"{FAILED}{why}")


if __name__ == "__main__":
    main()
