"""Datasets: images are added, replaced, removed, prepared, verified. DVC owns their identity (dataset_versions) and,
through dvc.yaml, that of the prepared shards."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ganpipe.data.ingest import AddReport, IngestPolicy, add_items
from ganpipe.data.inspection_cache import InspectionCache
from ganpipe.data.manifest import (
    MANIFEST,
    Record,
    count_records,
    read_manifest,
)
from ganpipe.data.prepare import (
    CACHE_FILE,
    is_prepared,
    preparation_key,
    prepare_entry,
)
from ganpipe.data.prepare_file import PREPARE_FILE, read_prepare_file, write_prepare_file
from ganpipe.data.raw_store import (
    find_damaged,
    new_aside_folder,
    remove_images,
    set_aside,
)
from ganpipe.data.shards import damaged_shards
from ganpipe.data.sources.items import without_arriving
from ganpipe.data.sources.registry import read_any_folder, read_source
from ganpipe.errors import GanpipeError
from ganpipe.files import write_bytes, write_json
from ganpipe.progress import Report, ignore
from ganpipe.settings.schema import DataSettings
from ganpipe.stores.dataset_sources import note_removed, read_listing, read_removed, write_listing
from ganpipe.stores.dataset_summaries import (
    dataset_names,
    versions_of,
)
from ganpipe.stores.dataset_versions import (
    DatasetVersion,
    check_own_folder,
    commit_dataset,
    data_lock,
    open_version,
    set_foreign_aside,
    sweep_folder,
)
from ganpipe.stores.dvc import (
    check_stage,
    default_remote,
    dvc,
    ensure_repository,
    pointer_file,
    read_pointer,
)
from ganpipe.stores.dvc_cache import AbsentVersion, DatasetCache, RefusedVersion
from ganpipe.stores.workspace import Workspace, check_name, ignore_in_git


@dataclass(frozen=True)
class WatchedFiles:
    """The state of a watched folder: the files that still change, by their names in it."""

    arriving: frozenset[str] = frozenset()


SAMPLE_SOURCES = {"flowers": "sample:flowers", "digits": "sklearn:digits"}


def open_inspection_cache(workspace: Workspace) -> InspectionCache:
    """Opens the cache of inspected files and images."""
    return InspectionCache(workspace.root / CACHE_FILE)


def add_dataset(
    workspace: Workspace,
    source: str,
    name: str,
    settings: DataSettings,
    report: Report = ignore,
    replace: bool = False,
    mirror: bool = False,
    watched: WatchedFiles | None = None,
) -> AddReport:
    """Adds a source's images to dataset `name`, or replaces them by it, and commits the result to DVC.

    An image that was edited in the source takes the place of the earlier one. `mirror`: images that are gone from the
    source are removed; those of other sources stay. `watched`: the source is a watched folder. Nobody has asked for its
    images by name, so that those that `data remove` has taken out stay out; and what is dropped into it is meant, an
    archive among images, too.
    """
    check_name(name)
    _check_source(workspace, source, name)
    ensure_repository(workspace)
    DatasetCache(workspace).check_folder()
    policy = IngestPolicy(settings.min_edge_px, settings.near_duplicates == "drop", settings.max_megapixels)
    if replace or pointer_file(workspace, name).exists():
        # In a fresh clone it is brought; what is there becomes a version first.
        open_version(workspace, name, settings)
    with (
        data_lock(workspace),
        workspace.scratch_folder() as scratch,
        open_inspection_cache(workspace) as cache,
    ):
        if watched:
            items = without_arriving(read_any_folder(Path(source), archives=True), watched.arriving)
        else:
            items = read_source(source, scratch)
        removed = read_removed(workspace, name) if watched else set[str]()
        aside = set_foreign_aside(workspace, name)
        listing = read_listing(workspace, name, source, mirror)
        result = add_items(workspace.raw(name), items, report, cache, policy, replace, listing, removed)
        write_listing(workspace, name, source, listing, alone=replace)
        result.aside = [*aside, *sweep_folder(workspace, name)]
        result.version = commit_dataset(workspace, name)
        records = read_manifest(workspace.raw(name))
        note_removed(workspace, name, present=(r.sha256 for r in records))
        result.train, result.holdout, _ = count_records(records, settings.holdout_fraction)
        write_json(workspace.reports / f"{name}-add.json", asdict(result))
    return result


def remove_from_dataset(
    workspace: Workspace, name: str, patterns: list[str], settings: DataSettings
) -> tuple[list[Record], DatasetVersion]:
    """Takes images out of a dataset, as a new version; returns them and what is left."""
    open_version(workspace, name, settings)
    with data_lock(workspace):
        gone = remove_images(workspace.raw(name), patterns)
        note_removed(workspace, name, gone=(r.sha256 for r in gone))
        sweep_folder(workspace, name)
        commit_dataset(workspace, name)
    return gone, open_version(workspace, name, settings)


def _check_source(workspace: Workspace, source: str, name: str) -> None:
    """Raises GanpipeError for a source in the folders of ganpipe's own datasets, or for a folder that is a link.

    Of a folder above them, the reader leaves them out.
    """
    check_own_folder(workspace, name)
    place = Path(source).expanduser()
    if not os.path.lexists(place):
        return  # a name such as sample:flowers, or nothing
    raw, given = workspace.raw(name).resolve(), place.resolve()
    if given in (raw, raw.parent) or raw in given.parents:
        where = "is" if given == raw else "lies in" if raw in given.parents else "holds"
        raise GanpipeError(
            f"{source} {where} the folder in which ganpipe itself keeps the dataset {name} ({workspace.raw(name)}): "
            f"move your images to another folder, and add that: ganpipe data add FOLDER --name {name}"
        )


def ensure_dataset(
    workspace: Workspace, name: str, settings: DataSettings, report: Report = ignore
) -> DatasetVersion:
    """The dataset; `flowers` and `digits` are made if they are not there yet."""
    if name in SAMPLE_SOURCES and name not in dataset_names(workspace):
        add_dataset(workspace, SAMPLE_SOURCES[name], name, settings, report)
    return open_version(workspace, name, settings)


def prepared_folder(workspace: Workspace, name: str, settings: DataSettings) -> Path:
    """The folder of a dataset's shards for these settings."""
    return workspace.prepared(preparation_key(name, settings))


def prepare_dataset(workspace: Workspace, name: str, settings: DataSettings) -> Path:
    """The prepared shards of a dataset, made by the DVC stage `prepare@KEY` if they are not there."""
    with data_lock(workspace):
        return prepare_locked(workspace, name, settings)


def prepare_locked(workspace: Workspace, name: str, settings: DataSettings) -> Path:
    """The same for a caller who holds the lock of whoever changes datasets."""
    out = prepared_folder(workspace, name, settings)
    if not is_prepared(workspace.raw(name), out, settings):
        _run_stage(workspace, name, settings)
    return out


def _run_stage(workspace: Workspace, name: str, settings: DataSettings) -> None:
    ensure_repository(workspace)
    check_stage(workspace)
    read_pointer(workspace, name)
    ignore_in_git(prepared_folder(workspace, name, settings).parent)
    path, key = workspace.root / PREPARE_FILE, preparation_key(name, settings)
    entries = {
        k: e for k, e in read_prepare_file(path).items() if pointer_file(workspace, e["dataset"]).exists()
    }
    write_prepare_file(path, entries | {key: {"dataset": name, **prepare_entry(settings)}})
    dvc(workspace, "repro", "--no-run-cache", "--force", "--single-item", f"prepare@{key}")


@dataclass(frozen=True)
class VerifyResult:
    """Names of the damaged or missing files that were repaired, of those that are lost, and of others' files that were
    moved out of the dataset's folder."""

    repaired: list[str]
    lost: list[str]
    aside: list[str] = field(default_factory=list)


def verify_dataset(
    workspace: Workspace, name: str, settings: DataSettings, report: Report = ignore
) -> VerifyResult:
    """Hashes every byte of the raw dataset and its shards; brings back what is damaged.

    A raw image comes from DVC's cache where its bytes are whole there, else from the remote; shards are made again.
    """
    _restore_manifest(workspace, name)
    open_version(workspace, name, settings)
    raw = workspace.raw(name)
    with data_lock(workspace):
        aside = sweep_folder(workspace, name)
    damaged = find_damaged(raw, report)
    if damaged:
        with data_lock(workspace):
            _restore_files(workspace, name, sorted({r.file for r in damaged}))
    still = find_damaged(raw, report) if damaged else []
    lost = [r.name for r in still]
    repaired = [r.name for r in damaged if r.name not in set(lost)]
    out = prepared_folder(workspace, name, settings)
    if not lost and is_prepared(raw, out, settings) and (bad := damaged_shards(out)):
        with data_lock(workspace):
            for shard in bad:
                (out / shard).unlink(missing_ok=True)
            _run_stage(workspace, name, settings)
        repaired += [str((out / shard).relative_to(workspace.root)) for shard in bad]
    return VerifyResult(repaired, lost, aside)


def _restore_manifest(workspace: Workspace, name: str) -> None:
    """Brings a damaged manifest back from the cache or the remote, where the pointer says what it was."""
    check_name(name)
    check_own_folder(workspace, name)
    raw = workspace.raw(name)
    if not pointer_file(workspace, name).exists() or not raw.exists():
        return
    try:
        read_manifest(raw)
    except GanpipeError:
        with data_lock(workspace):
            _restore_files(workspace, name, [MANIFEST])


def _restore_files(workspace: Workspace, name: str, files: list[str]) -> None:
    """Puts files in place again, as far as cache and remote have them whole in this version or an earlier one."""
    cache = DatasetCache(workspace)
    present = read_pointer(workspace, name)
    versions = [
        present,
        *(e["version"] for e in reversed(versions_of(workspace, name)) if e["version"] != present),
    ]
    left = _restore_cached(workspace, name, cache, versions, set(files))
    if default_remote(workspace) is None:
        with suppress(AbsentVersion):  # what is lost is told by name; a forged listing is told here
            cache.listing(present)
        return
    if not left:
        return
    refused = None
    try:
        cache.bring(present)
    except AbsentVersion:
        pass
    except RefusedVersion as error:
        refused = error
    if _restore_cached(workspace, name, cache, versions, left) and refused is not None:
        raise refused


def _restore_cached(
    workspace: Workspace, name: str, cache: DatasetCache, versions: list[str], wanted: set[str]
) -> set[str]:
    """Puts in place what the cache has whole; returns what it has not. A manifest is of the first version alone.

    What is in its place is damaged; it is moved aside, since only its owner knows whether it is worth something.
    """
    raw, left = workspace.raw(name), set(wanted)
    for version in versions:
        try:
            listing = cache.listing(version)
        except (AbsentVersion, RefusedVersion):
            continue
        for file in sorted(left & set(listing.files)):
            data = cache.whole(file, listing.files[file])
            if data is None or (file == MANIFEST and version != versions[0]):
                continue
            if os.path.lexists(raw / file):
                set_aside(raw, [file], new_aside_folder(workspace.root, name))
            write_bytes(raw / file, data)
            left.discard(file)
    return left
