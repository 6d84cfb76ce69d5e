"""Versions of a raw dataset: made by DVC from the folder as it is, opened, checked out, pushed and pulled.

DVC is called only when something changed: the manifest's hash answers that in milliseconds. What only reads is in
dataset_summaries: it neither locks, writes nor fetches.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ganpipe.data.ingest import printable
from ganpipe.data.manifest import (
    MANIFEST,
    Record,
    count_records,
    is_dataset_file,
    manifest_hash,
    read_manifest,
)
from ganpipe.data.raw_store import (
    OUR_TEMPORARY,
    files_in,
    find_foreign,
    new_aside_folder,
    set_aside,
    sweep,
)
from ganpipe.errors import GanpipeError
from ganpipe.files import escape_control, write_json, write_text
from ganpipe.settings.schema import DataSettings
from ganpipe.stores.dataset_events import emit_update
from ganpipe.stores.dataset_summaries import (
    first_version,
    intent_file,
    note_file,
    read_note,
    require_dataset,
    versions_of,
)
from ganpipe.stores.dvc import (
    VERSION,
    dvc,
    ensure_repository,
    new_pointer,
    pointer_file,
    read_pointer,
    require_remote,
    version_in,
)
from ganpipe.stores.dvc_cache import AbsentVersion, DatasetCache, Listing, RefusedVersion, is_whole
from ganpipe.stores.workspace import Workspace, check_name

log = logging.getLogger(__name__)

MOST_NAMED = 10  # files in one sentence


@dataclass(frozen=True)
class DatasetVersion:
    """A raw dataset at one version (its DVC hash): opened once per run, then passed on."""

    name: str
    version: str
    images: int
    train: int
    holdout: int
    labels: int
    manifest_sha256: str

    def as_dict(self) -> dict[str, Any]:
        """The fields that `--json` prints."""
        return {name: value for name, value in vars(self).items() if name != "manifest_sha256"}


def data_lock(workspace: Workspace) -> AbstractContextManager[None]:
    """The lock of whoever changes datasets; who must wait is told for whom."""
    return workspace.lock("data", say=log.warning)


def check_own_folder(workspace: Workspace, name: str) -> None:
    """Raises GanpipeError if the dataset's folder is a link or a file: what is written there would lie elsewhere."""
    raw = workspace.raw(name)
    if raw.is_symlink():
        raise GanpipeError(
            f"{raw} is a link to {os.readlink(raw)}; ganpipe keeps a dataset in a folder of its own. Remove the link, and "
            f"add what it leads to: ganpipe data add FOLDER --name {name}"
        )
    if raw.exists() and not raw.is_dir():
        raise GanpipeError(
            f"{raw} is a file; ganpipe keeps the dataset {name} in a folder there: move it away."
        )


def set_foreign_aside(workspace: Workspace, name: str) -> list[str]:
    """Moves files that are not ganpipe's out of the dataset's folder; says which, and returns their new places."""
    raw, aside = workspace.raw(name), new_aside_folder(workspace.root, name)
    return _tell_aside(workspace, name, aside, set_aside(raw, find_foreign(raw), aside))


def sweep_folder(workspace: Workspace, name: str) -> list[str]:
    """Takes away what no record names: of ganpipe's own files; others are moved aside, said and returned."""
    raw, aside = workspace.raw(name), new_aside_folder(workspace.root, name)
    return _tell_aside(workspace, name, aside, sweep(raw, read_manifest(raw), aside))


def _tell_aside(
    workspace: Workspace, name: str, aside: Path, files: list[str], what: str = "what is not ganpipe's"
) -> list[str]:
    if files:
        named = ", ".join(escape_control(file) for file in files[:MOST_NAMED])
        more = f" and {len(files) - MOST_NAMED} more" if len(files) > MOST_NAMED else ""
        place = aside.relative_to(workspace.root)
        log.warning(f"data/raw/{name} held {what}: {named}{more}. Moved to {place}.")
    return [printable(str(aside.relative_to(workspace.root) / file)) for file in files]


def commit_dataset(workspace: Workspace, name: str) -> str:
    """Makes DVC know the raw dataset as it is now; returns its hash. Does nothing if it knows it already."""
    check_own_folder(workspace, name)
    _complete_checkout(workspace, name)
    raw = workspace.raw(name)
    pointer = pointer_file(workspace, name)
    known = read_note(workspace, name)
    if pointer.exists() and known.get("manifest_sha256") == manifest_hash(raw):
        version = read_pointer(workspace, name)
        if version == known.get("version"):
            return version
        raise GanpipeError(
            f"{pointer.relative_to(workspace.root)} names version {version}, and the folder holds {known.get('version')}: "
            f"bring the new one with: ganpipe data checkout {name}@{version}"
        )
    records = read_manifest(raw)
    sweep_folder(workspace, name)  # what a killed change left must not become part of the version
    if gone := next((r for r in records if not (raw / r.file).exists()), None):
        raise GanpipeError(
            f"{gone.name} of {name} is missing; bring it back with: ganpipe data verify {name}"
        )
    earlier = read_pointer(workspace, name) if pointer.exists() else known.get("version")
    ensure_repository(workspace)
    cache = DatasetCache(workspace)
    listing = cache.keep(raw, records, earlier)
    write_text(pointer, new_pointer(name, listing.version, cache.bytes_of(listing), len(listing.files)))
    _keep_out_of_git(workspace, name)
    cache.link(listing, raw)
    _note_version(workspace, name, listing.version, len(records))
    return listing.version


def _note_version(workspace: Workspace, name: str, version: str, images: int) -> None:
    """Notes that the raw folder is at this version now, and tells Prefect if it is another one than before."""
    raw, pointer, note = workspace.raw(name), pointer_file(workspace, name), note_file(workspace, name)
    known = read_note(workspace, name)
    past = [entry for entry in known.get("versions", []) if entry["version"] != version]
    now = {
        "version": version,
        "images": images,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "pointer": pointer.read_text(),
    }
    versions = {"first": first_version(workspace, name) or version, "versions": [*past, now]}
    write_json(note, {"version": version, "manifest_sha256": manifest_hash(raw)} | versions)
    if known.get("version") != version:
        emit_update(workspace, name, known.get("version"), version)


def open_version(workspace: Workspace, name: str, settings: DataSettings) -> DatasetVersion:
    """Opens the present version of a dataset; checks it out of DVC's cache if only the pointer is there.

    Raises:
        GanpipeError: no such dataset; the sentence names those that are there.
    """
    require_dataset(workspace, name)
    raw = workspace.raw(name)
    if not (raw / MANIFEST).exists():
        with data_lock(workspace):
            _checkout_version(workspace, name, read_pointer(workspace, name))
    with data_lock(workspace):
        # Version and manifest belong together: read under one lock, or an addition in between would be mislabeled.
        version, manifest, records = commit_dataset(workspace, name), manifest_hash(raw), read_manifest(raw)
    return describe_version(name, version, records, manifest, settings)


def describe_version(
    name: str, version: str, records: Sequence[Record], manifest_sha256: str, settings: DataSettings
) -> DatasetVersion:
    """A version that has these images."""
    train, holdout, labels = count_records(records, settings.holdout_fraction)
    return DatasetVersion(name, version, len(records), train, holdout, labels, manifest_sha256)


def push_dataset(workspace: Workspace, name: str, settings: DataSettings) -> str:
    """Copies the dataset's version to the remote, whose name is returned.

    Raises:
        GanpipeError: no remote, or one that cannot be reached.
    """
    remote = require_remote(workspace)
    open_version(workspace, name, settings)
    with data_lock(workspace):
        read_pointer(workspace, name)
        dvc(workspace, "push", f"data/raw/{name}.dvc")
    return remote


def pull_dataset(workspace: Workspace, name: str, settings: DataSettings) -> str:
    """Brings the version that the pointer names from the remote, whose name is returned."""
    remote = require_remote(workspace)
    check_name(name)
    if not pointer_file(workspace, name).exists():
        raise GanpipeError(
            f"There is no data/raw/{name}.dvc, which says what to bring; take it from git, or from a run: "
            "ganpipe data checkout --run RUN"
        )
    with data_lock(workspace):
        _checkout_version(workspace, name, read_pointer(workspace, name))
    return remote


def checkout_dataset(workspace: Workspace, name: str, version: str, settings: DataSettings) -> DatasetVersion:
    """Makes an earlier version the present one; `version` is its hash or the first characters of it.

    Raises:
        GanpipeError: there is no such version, or its files are neither in the cache nor in the remote.
    """
    check_name(name)
    known = versions_of(workspace, name)
    matches = [entry for entry in known if entry["version"].startswith(version)]
    if len(matches) != 1:
        full = f"{version.removesuffix('.dir')}.dir"
        found = [full] if VERSION.fullmatch(full) else DatasetCache(workspace).versions_like(version)
        if len(found) == 1:
            matches = [{"version": found[0], "pointer": new_pointer(name, found[0])}]
    if len(matches) != 1:
        there = ", ".join(entry["version"][:12] for entry in known) or "none"
        which = "is none" if not matches else "fits several"
        raise GanpipeError(f"{name}@{version} {which} of this workspace's versions ({there}).")
    return checkout_pointer(workspace, name, matches[0]["pointer"], settings)


def checkout_pointer(workspace: Workspace, name: str, text: str, settings: DataSettings) -> DatasetVersion:
    """Makes the version that a pointer's text names the present one.

    Raises:
        GanpipeError: it is not to be had, or is no dataset; what was there is there again.
    """
    check_name(name)
    raw, wanted = workspace.raw(name), version_in(text)
    ensure_repository(workspace)
    if (raw / MANIFEST).exists() and (
        not pointer_file(workspace, name).exists() or read_pointer(workspace, name) != wanted
    ):
        open_version(workspace, name, settings)  # what is there now becomes a version first
    with data_lock(workspace):
        _checkout_version(workspace, name, wanted)
    return open_version(workspace, name, settings)


def _checkout_version(workspace: Workspace, name: str, version: str) -> None:
    """Makes the raw folder hold a version, and the pointer name it.

    The version is brought and checked before anything is changed; begun, the checkout is finished by whoever comes next.
    """
    check_own_folder(workspace, name)
    ensure_repository(workspace)
    cache, raw = DatasetCache(workspace), workspace.raw(name)
    try:
        listing = cache.bring(version)
    except RefusedVersion as error:
        raise RefusedVersion(f"{name} was left as it is. {error}.") from None
    except AbsentVersion as error:
        raise AbsentVersion(f"{name}: {error}.") from None
    pointer = pointer_file(workspace, name)
    is_named = pointer.exists() and read_pointer(workspace, name) == version
    text = new_pointer(name, version, cache.bytes_of(listing), len(listing.files))
    write_text(intent_file(workspace, name), text)
    if not is_named:
        write_text(pointer, text)
    _keep_out_of_git(workspace, name)
    _mark_manifest_changed(workspace, name)
    cache.check_out(listing, raw, _make_room(workspace, name, listing, cache))
    read_manifest(raw)
    _note_version(workspace, name, version, len(listing.records))
    intent_file(workspace, name).unlink()


def _keep_out_of_git(workspace: Workspace, name: str) -> None:
    """Lists the raw folder in data/raw/.gitignore, as `dvc add` does: there may be a repository above, or one day."""
    path, line = workspace.raw(name).parent / ".gitignore", f"/{name}"
    lines = path.read_text().splitlines() if path.exists() else []
    if line not in lines:
        write_text(path, "\n".join([*lines, line]) + "\n")


def _make_room(workspace: Workspace, name: str, listing: Listing, cache: DatasetCache) -> dict[str, str]:
    """Moves aside what a checkout would delete and nobody else has; returns the files that are left, with their MD5.

    That is every file that is not ganpipe's, and every file of ganpipe's whose bytes are not in DVC's cache.
    """
    raw = workspace.raw(name)
    foreign, uncached, left = set(find_foreign(raw)), [], {}
    for file in list(files_in(raw)):
        if OUR_TEMPORARY.fullmatch(file):
            (raw / file).unlink()
        elif file not in foreign and is_dataset_file(file):
            md5 = _md5_of(raw / file)
            if md5 and (md5 == listing.files.get(file) or is_whole(cache.path(md5), file, md5)):
                left[file] = md5
            else:
                uncached.append(file)
    aside = new_aside_folder(workspace.root, name)
    _tell_aside(workspace, name, aside, set_aside(raw, foreign, aside))
    _tell_aside(workspace, name, aside, set_aside(raw, uncached, aside), "what DVC's cache does not have")
    return left


def _md5_of(path: Path) -> str | None:
    """The MD5 of a file's bytes; None for a pipe, or a link to nothing."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _complete_checkout(workspace: Workspace, name: str) -> None:
    intent = intent_file(workspace, name)
    if intent.exists():
        _checkout_version(workspace, name, version_in(intent.read_text()))


def _mark_manifest_changed(workspace: Workspace, name: str) -> None:
    """The folder has just been changed on purpose: the note's manifest no longer says which version it holds."""
    note = note_file(workspace, name)
    if note.exists():
        write_json(note, read_note(workspace, name) | {"manifest_sha256": ""})


def pointer_text(workspace: Workspace, name: str, version: str) -> str:
    """The DVC pointer of a version: with it and the remote, this version of the data can be brought back."""
    noted = versions_of(workspace, name)
    seen = [e["pointer"] for e in noted if e.get("version") == version and e.get("pointer")]
    return str(seen[-1]) if seen else new_pointer(name, version)
