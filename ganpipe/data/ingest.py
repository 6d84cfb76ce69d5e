"""Adds the images of a source to a dataset, and counts every file found."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ganpipe.data.inspect import Facts, Inspected, facts_of_image, inspect_file, storage_path
from ganpipe.data.inspection_cache import InspectionCache
from ganpipe.data.manifest import MANIFEST, Record, read_manifest, write_manifest
from ganpipe.data.near_duplicates import group_near, groups_of
from ganpipe.data.raw_store import RawImages, remove_empty_folders
from ganpipe.data.source_listing import Settled, SourceListing, settle_replacement
from ganpipe.data.sources.items import ArrayItem, FileItem, Item, RefusedItem, SidecarItem
from ganpipe.data.worker_pool import KnownResult, WorkerPool
from ganpipe.errors import GanpipeError
from ganpipe.files import replacing
from ganpipe.imaging.decode import read_image_file
from ganpipe.imaging.image import RejectedImage
from ganpipe.progress import Progress, Report, ignore

REPORT_EVERY_S = 0.2
REMOVED = RejectedImage("removed", "`ganpipe data remove` has taken it out")


@dataclass
class AddReport:
    """The counts of all files found: `found == accepted + len(quarantined) + duplicates`."""

    name: str
    version: str = ""
    found: int = 0
    accepted: int = 0
    quarantined: list[dict[str, str]] = field(default_factory=list)
    duplicates: int = 0
    replaced: int = 0  # images that are gone because their file was edited since the source was added
    removed: int = 0  # images that are gone because the source no longer has them (mirror, replace)
    same_names: int = 0  # accepted images called like an image of another source; both are kept
    train: int = 0
    holdout: int = 0
    labels: int = 0  # labels of the whole dataset
    unlabeled: int = 0  # images of the whole dataset that have no label
    newly_labeled: int = 0  # images that had no label, and of which a copy in a folder brought one
    read: int = 0  # files that were read and decoded; the others were in the cache
    near_duplicates: int = 0  # accepted, unless `data.near_duplicates` is drop: then among `duplicates`
    duplicate_groups: list[list[str]] = field(
        default_factory=list
    )  # files with equal bytes, the kept one first
    near_groups: list[list[str]] = field(default_factory=list)  # of the whole dataset
    aside: list[str] = field(default_factory=list)  # files of others that lay in the dataset's folder
    sidecars: int = 0  # files of labels and captions, which `found` does not count
    page: str | None = None

    def reject(self, name: str, rejected: RejectedImage) -> None:
        """Counts a rejected file."""
        self.quarantined.append({"file": printable(name), "code": rejected.code, "reason": str(rejected)})

    @property
    def changed(self) -> bool:
        """Whether the addition changed the dataset."""
        return bool(self.accepted or self.newly_labeled or self.replaced or self.removed)

    @property
    def same_names_note(self) -> str:
        """The sentence on accepted images that have the names of others."""
        return (
            "Images with the same name and other bytes that came from another folder or archive are kept beside each "
            f"other. If they are edits, make the dataset hold the new source alone: ganpipe data replace {self.name} SOURCE"
        )

    @property
    def label_note(self) -> str:
        """The consequence of some images having a label and others none; empty if that is not so."""
        if not (self.labels and self.unlabeled):
            return ""
        few = "1 image has" if self.unlabeled == 1 else f"{self.unlabeled:,} images have"
        return (
            f"{few} no label, others have one. A model whose training images include one without a label is trained on "
            "all images, without labels. For a class-conditional model, move each image into the folder of its label and "
            "add the source again, or remove it."
        )


@dataclass(frozen=True)
class IngestPolicy:
    """Which images are accepted: `data.min_edge_px`, `data.near_duplicates` and `data.max_megapixels`."""

    min_edge_px: int = 4
    drop_near: bool = False
    max_megapixels: int = 200


def add_items(
    folder: Path,
    items: Iterable[Item],
    report: Report = ignore,
    cache: InspectionCache | None = None,
    policy: IngestPolicy = IngestPolicy(),
    replace: bool = False,
    listing: SourceListing | None = None,
    removed: Collection[str] = (),
) -> AddReport:
    """Adds the new images among `items` to the raw dataset in `folder`, and counts every file.

    With `replace`, the dataset then holds only these items. `listing`: what the source held last time, by which edited
    images replace their earlier bytes; what it holds now is noted there. `removed`: hashes of images that a person has
    taken out, and that are not taken again. Files of images that are not taken, or no longer, are left for `sweep`.

    Raises:
        GanpipeError: no image was accepted or known; the dataset is unchanged.
    """
    result = AddReport(name=folder.name)
    before = read_manifest(folder) if (folder / MANIFEST).exists() else []
    listing = listing or SourceListing()
    addition = _Addition(
        folder,
        [] if replace else before,
        result,
        cache or InspectionCache(),
        policy,
        report,
        listing,
        removed,
    )
    try:
        addition.take(items)
        addition.settle(before if replace else None)
        records = addition.group_records({r.sha256: r.group for r in before})
    except BaseException:
        remove_empty_folders(folder)
        raise
    if not records:
        remove_empty_folders(folder)
        why = f"; the first of them: {result.quarantined[0]['reason']}" if result.quarantined else ""
        raise GanpipeError(f"No image was found for {folder.name} ({result.found} files checked{why}).")
    if records != before:
        write_manifest(folder, records)
    result.labels = len({r.label for r in records} - {None})
    result.unlabeled = sum(r.label is None for r in records)
    return result


class _Addition:
    """One pass over the items of a source."""

    def __init__(
        self,
        folder: Path,
        records: list[Record],
        result: AddReport,
        cache: InspectionCache,
        policy: IngestPolicy,
        report: Report,
        listing: SourceListing,
        removed: Collection[str],
    ) -> None:
        self.folder, self.result, self.cache, self.policy = folder, result, cache, policy
        self.report, self.listing, self.removed = report, listing, removed
        self.successors: set[str] = set()
        self.records = list(records)
        self.first_new = len(records)
        self.place = {record.sha256: k for k, record in enumerate(records)}
        self.copies: dict[str, list[str]] = {}
        self.started = self.told = time.monotonic()

    def take(self, items: Iterable[Item]) -> None:
        """Inspects every item and keeps new images, in the order of the source."""
        limit = self.policy.max_megapixels * 1_000_000
        with WorkerPool(partial(inspect_file, keep_in=self.folder, max_pixels=limit)) as workers:
            passed: deque[tuple[FileItem | RefusedItem, bool]] = deque()  # and whether it is inspected now

            def tasks() -> Iterator[Any]:
                for item in items:
                    if isinstance(item, ArrayItem):
                        self._take_array(item)
                    elif isinstance(item, SidecarItem):
                        self.result.sidecars += 1
                    else:
                        task = self._task(item)
                        passed.append((item, not isinstance(task, KnownResult)))
                        yield task

            for result in workers.ordered(tasks(), _bytes_held):
                self._take_file(*passed.popleft(), result)
        self._tell(always=True)

    def _task(self, item: FileItem | RefusedItem) -> Any:
        """Returns the task for a worker, or the known result."""
        if isinstance(item, RefusedItem):
            return KnownResult(item.rejected)
        known = self._known_already(item)
        if known is not None:
            return KnownResult(known)
        if not item.streamed:
            return item.read
        try:
            return HeldBytes(item.read())
        except RejectedImage as rejected:
            return KnownResult(rejected)

    def _known_already(self, item: FileItem) -> Inspected | RejectedImage | None:
        found = self.cache.verdict(item.stamp)
        if isinstance(found, Inspected):
            file = self.folder / storage_path(found)  # if the file is lost or not here yet, it is read again
            if not (file.exists() and file.stat().st_size == found.bytes):
                found = None
        if found is None:
            self.result.read += 1
        return found

    def _take_file(
        self, item: FileItem | RefusedItem, is_news: bool, found: Inspected | RejectedImage
    ) -> None:
        self.result.found += 1
        self._tell()
        if isinstance(item, FileItem) and is_news:
            self.cache.remember(item.settled_stamp(), found)
        if isinstance(item, RefusedItem) or isinstance(found, RejectedImage):
            assert isinstance(found, RejectedImage)
            self._reject(item.name, found)
            return
        smallest = min(found.facts.width_px, found.facts.height_px)
        if smallest < self.policy.min_edge_px:
            size = f"it is {found.facts.width_px}×{found.facts.height_px} pixels"
            self._reject(
                item.name,
                RejectedImage("too_small", f"{size}; data.min_edge_px asks for {self.policy.min_edge_px}"),
            )
            return
        if self._is_removed(found.sha256):
            self._reject(item.name, REMOVED)
            return
        name, label = printable(item.name), None if item.label is None else printable(item.label)
        self.listing.note(name, found.sha256, label)
        if found.sha256 in self.place:
            self._count_copy(found.sha256, name, label, item.holdout)
            return
        self.place[found.sha256] = len(self.records)
        self.records.append(Record(found.sha256, name, storage_path(found), None, label, item.holdout))
        self.result.accepted += 1

    def _is_removed(self, sha256: str) -> bool:
        return sha256 in self.removed and sha256 not in self.place

    def _reject(self, name: str, rejected: RejectedImage) -> None:
        self.result.reject(name, rejected)
        self.listing.reject(printable(name))

    def _count_copy(self, sha256: str, name: str, label: str | None, holdout: bool | None) -> None:
        """Counts a copy. It may bring a label; and a copy in a test split keeps the image out of training."""
        self.result.duplicates += 1
        record = self.records[self.place[sha256]]
        if record.name != name:  # the same file again is no news
            self.copies.setdefault(sha256, [record.name]).append(name)
        if record.label is None and label is not None:
            self.records[self.place[sha256]] = replace(record, label=label)
            self.result.newly_labeled += 1
        if holdout and not record.holdout:
            place = self.place[sha256]
            self.records[place] = replace(self.records[place], holdout=True)

    def _take_array(self, item: ArrayItem) -> None:
        digests = [hashlib.sha256(row.tobytes()).hexdigest() for row in np.ascontiguousarray(item.pixels)]
        self.result.found += len(digests)
        labels: Sequence[str | None] = item.labels or [None] * len(digests)
        keep: list[int] = []
        copies: list[int] = []
        for k, digest in enumerate(digests):
            if self._is_removed(digest):
                self._reject(f"{item.name}[{k}]", REMOVED)
                continue
            self.listing.note(f"{item.name}[{k}]", digest, labels[k])
            if digest in self.place:
                copies.append(k)
            else:
                self.place[digest] = len(self.records) + len(keep)
                keep.append(k)
        if keep:
            rows = np.ascontiguousarray(item.pixels[keep])
            file = f"arrays/{hashlib.sha256(rows.tobytes()).hexdigest()}.npy"
            with replacing(self.folder / file) as out:
                np.save(out, rows)
            self.records += [
                Record(digests[k], f"{item.name}[{k}]", file, row, labels[k], item.holdout)
                for row, k in enumerate(keep)
            ]
            self.result.accepted += len(keep)
        for k in copies:
            self._count_copy(digests[k], f"{item.name}[{k}]", labels[k], item.holdout)

    def settle(self, replaced: Sequence[Record] | None) -> None:
        """Edited images take the place of what their files held before. `replaced`: the records of a dataset that is
        replaced as a whole; None for an addition.

        Raises:
            GanpipeError: a mirror of a source without images would remove all that came from it.
        """
        if self.listing.mirror and not self.listing.now:
            raise GanpipeError(
                f"The source has no image ({self.result.found} files checked), and --mirror would remove all that came "
                "from it; nothing was changed. Is its disk mounted? Take images out with: ganpipe data remove"
            )
        if replaced is None:
            settled = self.listing.settle(self.records, self.first_new)
        else:
            settled = settle_replacement(self.records, replaced)
        self.result.replaced, self.result.removed = len(settled.replaced), len(settled.removed)
        self.result.same_names = self._count_same_names(settled)
        self.records, self.successors = settled.records, settled.successors

    def _count_same_names(self, settled: Settled) -> int:
        new = {r.sha256 for r in self.records[self.first_new :]} - settled.successors
        names = {r.name for r in settled.records if r.sha256 not in new}
        return sum(r.sha256 in new and r.name in names for r in settled.records)

    def group_records(self, earlier: dict[str, str | None]) -> list[Record]:
        """Groups near duplicates, and drops them if the policy says so; returns all records.

        `earlier`: groups by hash, which images keep when a dataset is replaced.
        """
        self.result.duplicate_groups = list(self.copies.values())
        records = [
            Record(**{**vars(r), "group": earlier[r.sha256]}) if earlier.get(r.sha256) else r
            for r in self.records
        ]
        self.result.near_groups = [[r.name for r in members] for members in groups_of(records)]
        settled = [k for k, r in enumerate(records) if r.sha256 in earlier or r.sha256 in self.successors]
        if len(settled) == len(records):
            return records
        facts = facts_of_records(self.folder, records, self.cache, self.report)
        groups = group_near(records, facts, settled)
        self.result.near_duplicates = len(groups.repeats)
        self.result.near_groups = [[r.name for r in members] for members in groups_of(groups.records)]
        if not self.policy.drop_near:
            return groups.records
        dropped = set(groups.repeats)
        self.result.accepted -= len(dropped)
        self.result.duplicates += len(dropped)
        return [r for k, r in enumerate(groups.records) if k not in dropped]

    def _tell(self, always: bool = False) -> None:
        now = time.monotonic()
        if always or now - self.told > REPORT_EVERY_S:
            self.told = now
            self.report(Progress("add", self.result.found, 0, "files", now - self.started))


@dataclass(frozen=True)
class HeldBytes:
    """A picklable task that returns bytes already read."""

    data: bytes

    def __call__(self) -> bytes:
        return self.data


def _bytes_held(read: Any) -> int:
    return len(read.data) if isinstance(read, HeldBytes) else 0


def facts_of_records(
    folder: Path, records: Iterable[Record], cache: InspectionCache, report: Report = ignore
) -> dict[str, Facts]:
    """Facts by hash of the records that are files; inspects files that are not in the cache."""
    files = [r for r in records if r.row is None]
    known = cache.facts(r.sha256 for r in files)
    missing = [r for r in files if r.sha256 not in known]
    started = time.monotonic()
    with WorkerPool(partial(inspect_file, keep_in=None)) as workers:
        reads = (partial(read_image_file, folder / r.file) for r in missing)
        for done, (record, found) in enumerate(zip(missing, workers.ordered(reads), strict=True), start=1):
            if isinstance(found, Inspected):
                cache.remember(None, found)
                known[record.sha256] = found.facts
            report(Progress("facts", done, len(missing), "images", time.monotonic() - started))
    return known


def facts_of_rows(folder: Path, records: Iterable[Record]) -> dict[str, Facts]:
    """Facts by hash of the records that are array rows."""
    images = RawImages(folder)
    images_by_hash = ((r.sha256, images.decode(r)) for r in records if r.row is not None)
    return {sha256: facts_of_image(image, *image.size) for sha256, image in images_by_hash}


def printable(name: str) -> str:
    """Converts a file name to valid UTF-8 text: other bytes become \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
