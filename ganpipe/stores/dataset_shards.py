"""The shards of one version of a dataset, for the runs that use it while the dataset itself moves on.

data/prepared/KEY follows the dataset. A run reads .ganpipe/prepared/KEY/VERSION: hard links to those shards, which take no
room of their own. Once the dataset has changed, they are made again from DVC's cache if they are needed and gone.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ganpipe.data.manifest import MANIFEST, manifest_hash, read_manifest, split_records
from ganpipe.data.prepare import is_prepared_from, preparation_key, prepare
from ganpipe.data.shards import META, damaged_shards
from ganpipe.errors import GanpipeError
from ganpipe.files import fsync_folder, plain_disk_errors, read_json, sha256_of
from ganpipe.settings.schema import DataSettings
from ganpipe.stores.dataset_summaries import first_version, intent_file, read_note
from ganpipe.stores.dataset_versions import DatasetVersion, data_lock, describe_version
from ganpipe.stores.datasets import open_inspection_cache, prepare_locked, prepared_folder
from ganpipe.stores.dvc import ensure_repository
from ganpipe.stores.dvc_cache import DatasetCache
from ganpipe.stores.workspace import Workspace, check_name

if TYPE_CHECKING:
    from ganpipe.data.shards import PreparedData

log = logging.getLogger(__name__)

FEATURES = "features"  # beside the shards of all versions that were prepared alike


def version_shards(workspace: Workspace, name: str, version: str, settings: DataSettings) -> Path:
    """The folder of a version's shards for these settings."""
    return workspace.state / "prepared" / preparation_key(name, settings) / version.removesuffix(".dir")


def prepare_version(workspace: Workspace, version: DatasetVersion, settings: DataSettings) -> Path:
    """The shards of exactly this version, made if they are not there; the dataset may have changed since.

    Raises:
        GanpipeError: neither the version's shards nor its images are to be had.
    """
    out = version_shards(workspace, version.name, version.version, settings)
    with data_lock(workspace):
        if not is_prepared_from(out, version.manifest_sha256, settings):
            _make_shards(workspace, version, settings, out)
            _remove_unneeded(workspace, version)
    return out


def load_dataset(workspace: Workspace, version: DatasetVersion, settings: DataSettings) -> PreparedData:
    """Exactly this version, ready to train on: prepared, its checksums compared; damaged shards are made again.

    Raises:
        GanpipeError: as `prepare_version`.
    """
    from ganpipe.data.shards import DamagedShards, load_prepared

    out = prepare_version(workspace, version, settings)
    try:
        data = load_prepared(out, version.version)
    except DamagedShards as damage:
        log.warning("%s; it is made again.", str(damage).split(":")[0])
        with data_lock(workspace):
            for folder in (out, prepared_folder(workspace, version.name, settings)):
                for shard in damaged_shards(folder) if (folder / META).exists() else []:
                    (folder / shard).unlink(missing_ok=True)
            _make_shards(workspace, version, settings, out)
        data = load_prepared(out, version.version)
    keys = _first_holdout_keys(workspace, version, settings)
    return replace(data, first_holdout_keys=keys, features=out.parent / FEATURES)


def _first_holdout_keys(
    workspace: Workspace, version: DatasetVersion, settings: DataSettings
) -> tuple[bytes, ...]:
    """The keys of the images that the dataset's first version held out; none if DVC's cache no longer has that version."""
    first = first_version(workspace, version.name)
    if first is None:
        return ()
    if first == version.version and _is_at(workspace, version.name, version.manifest_sha256):
        records = read_manifest(workspace.raw(version.name))  # without DVC, whose import costs a second
    else:
        try:
            records = DatasetCache(workspace).listing(first).records
        except GanpipeError as error:
            log.warning("%s is not compared on its first version's images: %s.", version.name, error)
            return ()
    _, held_out = split_records(records, settings.holdout_fraction)
    return tuple(bytes.fromhex(record.sha256) for record in held_out)


def _make_shards(workspace: Workspace, version: DatasetVersion, settings: DataSettings, out: Path) -> None:
    """Makes `out` from the dataset's shards if it is at this version, else from DVC's cache."""
    if _is_at(workspace, version.name, version.manifest_sha256):
        prepare_locked(workspace, version.name, settings)
    shared = prepared_folder(workspace, version.name, settings)
    with workspace.scratch_folder() as scratch, plain_disk_errors(out):
        made = scratch / "shards"
        made.mkdir()
        if (shared / META).exists():
            _link_files(shared, made)
        if not is_prepared_from(made, version.manifest_sha256, settings):
            raw = _check_out(workspace, version, scratch)
            with open_inspection_cache(workspace) as cache:
                prepare(raw, made, settings, cache=cache)
        shutil.rmtree(out, ignore_errors=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        made.rename(out)
        fsync_folder(out.parent)


def _link_files(source: Path, target: Path) -> None:
    """Hard links, since a shard is never changed in its place; copies on a file system that has none."""
    for path in source.iterdir():
        try:
            os.link(path.resolve(), target / path.name)
        except OSError:
            shutil.copyfile(path, target / path.name)


def _is_at(workspace: Workspace, name: str, manifest_sha256: str) -> bool:
    """Whether the dataset's own folder holds the version that has this manifest."""
    raw = workspace.raw(name)
    whole = (raw / MANIFEST).exists() and not intent_file(workspace, name).exists()
    return whole and manifest_hash(raw) == manifest_sha256


def _check_out(workspace: Workspace, version: DatasetVersion, scratch: Path) -> Path:
    """The version's images in a folder below `scratch`; the dataset's own folder is left as it is."""
    ensure_repository(workspace)
    cache, raw = DatasetCache(workspace), scratch / version.name
    cache.check_out(cache.bring(version.version), raw, {})
    return raw


def _remove_unneeded(workspace: Workspace, version: DatasetVersion) -> None:
    """Removes the shards of the dataset's other versions, unless a run on them has not ended or is not evaluated yet."""
    from ganpipe.stores.run_records import all_records

    kept = {version.version.removesuffix(".dir")}
    try:
        for record in all_records(workspace):
            over = record.state == "failed" or (record.state == "finished" and record.evaluation)
            if not over and not record.is_ended_trial:
                kept.add(record.version.removesuffix(".dir"))
        for meta in (workspace.state / "prepared").glob(f"*/*/{META}"):
            if meta.parent.name not in kept and read_json(meta).get("dataset") == version.name:
                shutil.rmtree(meta.parent, ignore_errors=True)
                with suppress(OSError):
                    meta.parent.parent.rmdir()
    except GanpipeError as error:
        log.warning("Shards of earlier versions of %s stay: %s", version.name, error)


@contextmanager
def version_images(workspace: Workspace, version: DatasetVersion) -> Iterator[Path]:
    """A folder with the images of exactly this version: the dataset's own, or a scratch checkout if it has changed."""
    with data_lock(workspace):
        if _is_at(workspace, version.name, version.manifest_sha256):
            yield workspace.raw(version.name)
            return
        with workspace.scratch_folder() as scratch:
            yield _check_out(workspace, version, scratch)


def open_version_at(workspace: Workspace, name: str, version: str, settings: DataSettings) -> DatasetVersion:
    """Opens a version by its hash, such as the one that a run was trained on; the dataset is left as it is.

    Raises:
        GanpipeError: neither its shards nor its images are to be had.
    """
    check_name(name)
    raw = workspace.raw(name)
    with data_lock(workspace):
        known = read_note(workspace, name)
        manifest = str(known.get("manifest_sha256"))
        if known.get("version") == version and _is_at(workspace, name, manifest):
            return describe_version(name, version, read_manifest(raw), manifest, settings)
        shards = version_shards(workspace, name, version, settings)
        meta = read_json(shards / META) if (shards / META).exists() else {}
        if is_prepared_from(shards, str(meta.get("manifest_sha256")), settings):
            train, holdout = meta["images"]["train"], meta["images"]["holdout"]
            labels, manifest = len(meta["label_names"]), meta["manifest_sha256"]
            return DatasetVersion(name, version, train + holdout, train, holdout, labels, manifest)
        ensure_repository(workspace)
        cache = DatasetCache(workspace)
        listing = cache.bring(version)
        manifest = sha256_of(cache.path(listing.files[MANIFEST]))
        return describe_version(name, version, listing.records, manifest, settings)
