"""Summaries of a workspace's datasets, read only: no lock is taken, nothing is written, nothing is fetched.

One dataset that is absent, damaged or half checked out says so, and stops no other.
"""

from __future__ import annotations

import io
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganpipe.data.manifest import MANIFEST, Record, count_records, read_manifest
from ganpipe.data.raw_store import RawImages
from ganpipe.errors import GanpipeError
from ganpipe.files import read_json, sha256_of
from ganpipe.imaging.decode import decode_image
from ganpipe.imaging.grid import to_pil
from ganpipe.settings.schema import DataSettings
from ganpipe.stores.dvc import pointer_file, read_pointer
from ganpipe.stores.dvc_cache import AbsentVersion, DatasetCache, RefusedVersion
from ganpipe.stores.workspace import Workspace, check_name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetSummary:
    """A dataset as it lies there: its version, whether its images are here, how many (None: not known).

    `problem`: one sentence on what is not as it should be; None if all is well.
    """

    name: str
    version: str | None = None
    present: bool = False
    images: int | None = None
    train: int | None = None
    holdout: int | None = None
    labels: int | None = None
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields that `--json` prints."""
        return asdict(self)


def dataset_names(workspace: Workspace) -> list[str]:
    """Datasets that this workspace has or has a pointer to."""
    folder = workspace.root / "data" / "raw"
    names = {p.parent.name for p in folder.glob(f"*/{MANIFEST}")} | {p.stem for p in folder.glob("*.dvc")}
    return sorted(names)


def note_file(workspace: Workspace, name: str) -> Path:
    """Which versions this workspace has seen, and which manifest the present one has."""
    return workspace.state / "versions" / f"{name}.json"


def read_note(workspace: Workspace, name: str) -> dict[str, Any]:
    """The contents of the note; empty if there is none, or if it is damaged: the next command that changes the
    dataset makes it again."""
    note = note_file(workspace, name)
    try:
        found = read_json(note) if note.exists() else {}
    except GanpipeError as error:
        log.warning(f"{error} It is made again from the dataset as it is.")
        return {}
    return found if isinstance(found, dict) else {}


def intent_file(workspace: Workspace, name: str) -> Path:
    """The pointer of a checkout that has begun: a kill in the middle leaves a folder that is no version."""
    return workspace.state / "versions" / f"{name}.checkout"


def versions_of(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    """The versions that this workspace has seen of a dataset, the newest last: version, images, when, pointer."""
    return list(read_note(workspace, name).get("versions", []))


def first_version(workspace: Workspace, name: str) -> str | None:
    """The version that this workspace saw first of a dataset, also if it was checked out again since; None if unknown."""
    note, seen = read_note(workspace, name), versions_of(workspace, name)
    first = note.get("first") or (seen[0]["version"] if seen else None)
    return str(first) if first else None


def summarized_files(workspace: Workspace) -> list[Path]:
    """The files that the summaries are made from."""
    return [
        path
        for name in dataset_names(workspace)
        for path in (
            workspace.raw(name) / MANIFEST,
            pointer_file(workspace, name),
            note_file(workspace, name),
            intent_file(workspace, name),
        )
    ]


def summarize_datasets(workspace: Workspace, settings: DataSettings) -> list[DatasetSummary]:
    """Every dataset of the workspace."""
    return [summarize_dataset(workspace, name, settings) for name in dataset_names(workspace)]


def summarize_dataset(workspace: Workspace, name: str, settings: DataSettings) -> DatasetSummary:
    """One dataset that the workspace has or has a pointer to."""
    version = None
    try:
        check_name(name)
        version = read_pointer(workspace, name) if pointer_file(workspace, name).exists() else None
        if not (workspace.raw(name) / MANIFEST).exists():
            bring = f"not here; bring it with: ganpipe data pull {name}"
            return DatasetSummary(name, version, problem=bring)
        records = read_manifest(workspace.raw(name))
        problem = _unsettled(workspace, name, version)
    except (GanpipeError, OSError, ValueError) as error:
        return DatasetSummary(name, version, problem=str(error))
    train, holdout, labels = count_records(records, settings.holdout_fraction)
    return DatasetSummary(name, version, True, len(records), train, holdout, labels, problem)


def _unsettled(workspace: Workspace, name: str, version: str | None) -> str | None:
    """Why the folder is not, or may not be, the version that the pointer names; None if it is."""
    if intent_file(workspace, name).exists():
        return f"half checked out; finish it with: ganpipe data verify {name}"
    if version is None:
        return f"not a version yet; make it one with: ganpipe data verify {name}"
    known = read_note(workspace, name)
    if known.get("version") != version:
        return (
            f"the folder may not be this version; bring it with: ganpipe data checkout {name}@{version[:12]}"
        )
    if known.get("manifest_sha256") != sha256_of(workspace.raw(name) / MANIFEST):
        return f"changed since this version; make it a new one with: ganpipe data verify {name}"
    return None


def require_dataset(workspace: Workspace, name: str) -> None:
    """Raises GanpipeError if the workspace neither has the dataset nor a pointer to it; the sentence names what it has."""
    check_name(name)
    if not (workspace.raw(name) / MANIFEST).exists() and not pointer_file(workspace, name).exists():
        there = ", ".join(dataset_names(workspace)) or "none yet"
        raise GanpipeError(
            f"There is no dataset {name} (there are: {there}); add it with: "
            f"ganpipe data add SOURCE --name {name}"
        )


def records_at(workspace: Workspace, reference: str) -> list[Record]:
    """The images of `NAME` as it is now, or of `NAME@VERSION` from DVC's cache.

    Raises:
        GanpipeError: its manifest is not here, or is not what the version says.
    """
    name, at, version = reference.partition("@")
    require_dataset(workspace, name)
    if at:
        return _cached(workspace, reference, name, version)[1]
    if not (workspace.raw(name) / MANIFEST).exists():
        raise GanpipeError(f"{name} is not here; bring it with: ganpipe data pull {name}")
    return read_manifest(workspace.raw(name))


def _cached(
    workspace: Workspace, reference: str, name: str, version: str
) -> tuple[DatasetCache, list[Record], dict[str, str]]:
    cache = DatasetCache(workspace)
    known = [e["version"] for e in versions_of(workspace, name) if e["version"].startswith(version)]
    found = known if len(known) == 1 else cache.versions_like(version)
    bring = f"bring it with: ganpipe data checkout {reference}"
    if len(found) != 1:
        raise GanpipeError(f"{reference} is {'not here' if not found else 'not one version alone'}; {bring}")
    try:
        listing = cache.listing(found[0])
    except (AbsentVersion, RefusedVersion) as error:
        raise type(error)(f"{error}; {bring}") from None
    return cache, listing.records, listing.files


def pictures_at(workspace: Workspace, reference: str, records: list[Record]) -> list[Image.Image]:
    """Images of `NAME` or `NAME@VERSION`: those whose files are here, or in DVC's cache with the bytes they had."""
    name, _, version = reference.partition("@")
    if not version:
        images = RawImages(workspace.raw(name))
        return [images.decode(r) for r in records]
    cache, _, files = _cached(workspace, reference, name, version)
    pictures, arrays = [], dict[str, Any]()
    for record in records:
        if record.row is None:
            data = cache.whole(record.file, files[record.file])
            pictures += [decode_image(data)] if data is not None else []
            continue
        if record.file not in arrays:
            data = cache.whole(record.file, files[record.file])
            arrays[record.file] = None if data is None else np.load(io.BytesIO(data))
        if arrays[record.file] is not None:
            pictures.append(to_pil(arrays[record.file][record.row]))
    return pictures
