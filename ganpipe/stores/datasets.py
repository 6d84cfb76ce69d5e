"""Dataset versions: DVC owns the identity of the raw images and, through dvc.yaml, of the prepared shards.

DVC is called only when something changed: the manifest's hash answers that in milliseconds."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from PIL import Image

from ganpipe.data.ingest import AddReport, IngestPolicy, add_items
from ganpipe.data.inspection_cache import InspectionCache
from ganpipe.data.manifest import (
    MANIFEST,
    Record,
    manifest_hash,
    parse_manifest,
    read_manifest,
    split_records,
)
from ganpipe.data.prepare import (
    CACHE_FILE,
    PREPARE_FILE,
    is_prepared,
    preparation_key,
    prepare_entry,
    read_prepare_file,
    write_prepare_file,
)
from ganpipe.data.raw_store import RawImages, find_damaged, remove_images, sweep
from ganpipe.data.shards import META, damaged_shards
from ganpipe.data.sources.registry import read_source
from ganpipe.errors import GanpipeError
from ganpipe.files import read_json, sha256_of, write_bytes, write_json, write_text
from ganpipe.imaging.decode import decode_image
from ganpipe.imaging.grid import to_pil
from ganpipe.progress import Report, ignore
from ganpipe.settings.schema import DataSettings
from ganpipe.stores.dvc import (
    cache_folder,
    cached_file,
    default_remote,
    dvc,
    ensure_repository,
    md5_of,
    read_listing,
    require_remote,
)
from ganpipe.stores.workspace import Workspace, check_name

if TYPE_CHECKING:
    from ganpipe.data.shards import PreparedData


SAMPLE_SOURCES = {"flowers": "sample:flowers", "digits": "sklearn:digits"}


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
) -> AddReport:
    """Adds a source's images to dataset `name`, or replaces them by it, and commits the result to DVC."""
    check_name(name)
    policy = IngestPolicy(settings.min_edge_px, settings.near_duplicates == "drop")
    if replace or _pointer(workspace, name).exists():
        # In a fresh clone it is brought; what is there becomes a version first.
        open_version(workspace, name, settings)
    with (
        workspace.lock("data"),
        TemporaryDirectory(dir=workspace.state, prefix="scratch-") as scratch,
        open_inspection_cache(workspace) as cache,
    ):
        items = read_source(source, Path(scratch))
        result = add_items(workspace.raw(name), items, report, cache, policy, replace)
        result.version = _commit(workspace, name)
        train, holdout = split_records(read_manifest(workspace.raw(name)), settings.holdout_fraction)
        result.train, result.holdout = len(train), len(holdout)
        write_json(workspace.reports / f"{name}-add.json", asdict(result))
    return result


def remove_from_dataset(
    workspace: Workspace, name: str, patterns: list[str], settings: DataSettings
) -> tuple[list[Record], DatasetVersion]:
    """Takes images out of a dataset, as a new version; returns them and what is left."""
    open_version(workspace, name, settings)
    with workspace.lock("data"):
        gone = remove_images(workspace.raw(name), patterns)
        _commit(workspace, name)
    return gone, open_version(workspace, name, settings)


def _commit(workspace: Workspace, name: str) -> str:
    """Makes DVC know the raw dataset as it is now; returns its hash. Does nothing where it knows it already."""
    _complete_checkout(workspace, name)
    raw = workspace.raw(name)
    pointer, note = _pointer(workspace, name), _note(workspace, name)
    known = read_json(note) if note.exists() else {}
    if pointer.exists() and known.get("manifest_sha256") == manifest_hash(raw):
        version = _pointer_version(pointer)
        if version == known.get("version"):
            return version
        raise GanpipeError(
            f"{pointer.relative_to(workspace.root)} names version {version}, and the folder holds {known.get('version')}: "
            f"bring the new one with: ganpipe data checkout {name}@{version}"
        )
    records = read_manifest(raw)
    sweep(raw, records)  # what a killed change left must not become part of the version
    if gone := next((r for r in records if not (raw / r.file).exists()), None):
        raise GanpipeError(
            f"{gone.name} of {name} is missing; bring it back with: ganpipe data verify {name}"
        )
    dvc(workspace, "add", str(raw.relative_to(workspace.root)))
    version = _pointer_version(pointer)
    past = [entry for entry in known.get("versions", []) if entry["version"] != version]
    now = {
        "version": version,
        "images": len(records),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "pointer": pointer.read_text(),
    }
    write_json(note, {"version": version, "manifest_sha256": manifest_hash(raw), "versions": [*past, now]})
    return version


def versions_of(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    """The versions that this workspace has seen of a dataset, the newest last: version, images, when, pointer."""
    note = _note(workspace, name)
    return list(read_json(note).get("versions", [])) if note.exists() else []


def _note(workspace: Workspace, name: str) -> Path:
    """Which versions this workspace has seen, and which manifest the present one has."""
    return workspace.state / "versions" / f"{name}.json"


def _pointer(workspace: Workspace, name: str) -> Path:
    return Path(f"{workspace.raw(name)}.dvc")


def _pointer_version(pointer: Path) -> str:
    try:
        return _version_in(pointer.read_text())
    except (OSError, GanpipeError):
        raise GanpipeError(
            f"{pointer} is damaged; bring it back from git, or delete it and add the data again."
        ) from None


def dataset_names(workspace: Workspace) -> list[str]:
    """Datasets that this workspace has or has a pointer to."""
    folder = workspace.root / "data" / "raw"
    names = {p.parent.name for p in folder.glob(f"*/{MANIFEST}")} | {p.stem for p in folder.glob("*.dvc")}
    return sorted(names)


def open_version(workspace: Workspace, name: str, settings: DataSettings) -> DatasetVersion:
    """Opens the present version of a dataset; checks it out of DVC's cache if only the pointer is there.

    Raises:
        GanpipeError: no such dataset; the sentence names those that are there.
    """
    check_name(name)
    raw = workspace.raw(name)
    if not (raw / MANIFEST).exists():
        if not _pointer(workspace, name).exists():
            there = ", ".join(dataset_names(workspace)) or "none yet"
            raise GanpipeError(
                f"There is no dataset {name} (there are: {there}); add it with: "
                f"ganpipe data add SOURCE --name {name}"
            )
        with workspace.lock("data"):
            _checkout(workspace, name)
    with workspace.lock("data"):
        # Version and manifest belong together: read under one lock, or an addition in between would be mislabeled.
        version, manifest, records = _commit(workspace, name), manifest_hash(raw), read_manifest(raw)
    train, holdout = split_records(records, settings.holdout_fraction)
    labels = len({r.label for r in records if r.label is not None})
    return DatasetVersion(name, version, len(records), len(train), len(holdout), labels, manifest)


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
    raw, out = workspace.raw(name), prepared_folder(workspace, name, settings)
    with workspace.lock("data"):
        if not is_prepared(raw, out, settings):
            _run_stage(workspace, name, settings)
    return out


def _run_stage(workspace: Workspace, name: str, settings: DataSettings) -> None:
    ensure_repository(workspace)
    path, key = workspace.root / PREPARE_FILE, preparation_key(name, settings)
    entries = {k: e for k, e in read_prepare_file(path).items() if _pointer(workspace, e["dataset"]).exists()}
    write_prepare_file(path, entries | {key: {"dataset": name, **prepare_entry(settings)}})
    dvc(workspace, "repro", "--no-run-cache", "--force", "--single-item", f"prepare@{key}")


def load_dataset(workspace: Workspace, version: DatasetVersion, settings: DataSettings) -> PreparedData:
    """A dataset version ready to train on: prepared, its checksums compared.

    Raises:
        GanpipeError: the dataset was changed since the version was opened.
    """
    from ganpipe.data.shards import load_prepared

    out = prepare_dataset(workspace, version.name, settings)
    if read_json(out / META)["manifest_sha256"] != version.manifest_sha256:
        now = open_version(workspace, version.name, settings).version
        raise GanpipeError(
            f"{version.name} was changed to version {now} while this run was waiting or working; run again to use that."
        )
    return load_prepared(out, version.version)


@dataclass(frozen=True)
class VerifyResult:
    """Names of the damaged or missing files that were repaired, and of those that are lost."""

    repaired: list[str]
    lost: list[str]


def verify_dataset(
    workspace: Workspace, name: str, settings: DataSettings, report: Report = ignore
) -> VerifyResult:
    """Hashes every byte of the raw dataset and its shards; brings back what is damaged.

    A raw image comes from DVC's cache where its bytes are whole there, else from the remote; shards are made again.
    """
    _restore_manifest(workspace, name)
    open_version(workspace, name, settings)
    raw = workspace.raw(name)
    damaged = find_damaged(raw, report)
    if damaged:
        with workspace.lock("data"):
            _restore_files(workspace, name, sorted({r.file for r in damaged}))
    still = find_damaged(raw, report) if damaged else []
    lost = [r.name for r in still]
    repaired = [r.name for r in damaged if r.name not in set(lost)]
    out = prepared_folder(workspace, name, settings)
    if not lost and is_prepared(raw, out, settings) and (bad := damaged_shards(out)):
        with workspace.lock("data"):
            for shard in bad:
                (out / shard).unlink(missing_ok=True)
            _run_stage(workspace, name, settings)
        repaired += [str((out / shard).relative_to(workspace.root)) for shard in bad]
    return VerifyResult(repaired, lost)


def _restore_manifest(workspace: Workspace, name: str) -> None:
    """Brings a damaged manifest back from the cache or the remote, where the pointer says what it was."""
    check_name(name)
    raw, pointer = workspace.raw(name), _pointer(workspace, name)
    if not pointer.exists():
        return
    try:
        read_manifest(raw)
    except GanpipeError:
        with workspace.lock("data"):
            _restore_files(workspace, name, [MANIFEST])


def _restore_files(workspace: Workspace, name: str, files: list[str]) -> None:
    """Puts files in place again, as far as cache and remote have them whole in this version or an earlier one."""
    present = _pointer_version(_pointer(workspace, name))
    versions = [
        present,
        *(e["version"] for e in reversed(versions_of(workspace, name)) if e["version"] != present),
    ]
    wanted = set(files)
    for fetched in (False, True):
        if fetched:
            if not wanted or default_remote(workspace) is None:
                return
            with suppress(GanpipeError):  # what it has not got is told by name afterwards
                dvc(workspace, "fetch", f"data/raw/{name}.dvc")
        for version in versions:
            if cached_file(workspace, version) is None:
                continue
            listing = read_listing(workspace, version)
            for file in sorted(wanted & set(listing)):
                cached = cache_folder(workspace) / listing[file][:2] / listing[file][2:]
                if _is_whole(cached, file, listing[file]):
                    write_bytes(workspace.raw(name) / file, cached.read_bytes())
                    wanted.discard(file)
                elif version == present:
                    cached.unlink(missing_ok=True)  # DVC would check a damaged one out without a word


def _is_whole(cached: Path, file: str, md5: str) -> bool:
    """Whether a cached file has the bytes that its MD5 and, for an image, its own name promise."""
    if not cached.exists() or md5_of(cached) != md5:
        return False
    return not file.startswith("files/") or sha256_of(cached) == Path(file).stem


def push_dataset(workspace: Workspace, name: str, settings: DataSettings) -> str:
    """Copies the dataset's version to the remote, whose name is returned.

    Raises:
        GanpipeError: no remote, or one that cannot be reached.
    """
    remote = require_remote(workspace)
    open_version(workspace, name, settings)
    with workspace.lock("data"):
        dvc(workspace, "push", f"data/raw/{name}.dvc")
    return remote


def pull_dataset(workspace: Workspace, name: str, settings: DataSettings) -> str:
    """Brings the version that the pointer names from the remote, whose name is returned."""
    remote = require_remote(workspace)
    check_name(name)
    if not _pointer(workspace, name).exists():
        raise GanpipeError(
            f"There is no data/raw/{name}.dvc, which says what to bring; take it from git, or from a run: "
            "ganpipe data checkout --run RUN"
        )
    with workspace.lock("data"):
        _checkout_version(workspace, name, _pointer(workspace, name).read_text())
        read_manifest(workspace.raw(name))
        _commit(workspace, name)
    return remote


def checkout_dataset(workspace: Workspace, name: str, version: str, settings: DataSettings) -> DatasetVersion:
    """Makes an earlier version the present one; `version` is its hash or the first characters of it.

    Raises:
        GanpipeError: there is no such version, or its files are neither in the cache nor in the remote.
    """
    check_name(name)
    known = versions_of(workspace, name)
    matches = [entry for entry in known if entry["version"].startswith(version)]
    if (
        len(matches) != 1
        and (listing := cached_file(workspace, f"{version.removesuffix('.dir')}.dir")) is not None
    ):
        full = f"{listing.parent.name}{listing.name}"
        matches = [{"version": full, "pointer": _new_pointer(name, full)}]
    if len(matches) != 1:
        there = ", ".join(entry["version"][:12] for entry in known) or "none"
        which = "is none" if not matches else "fits several"
        raise GanpipeError(f"{name}@{version} {which} of this workspace's versions ({there}).")
    return checkout_pointer(workspace, name, matches[0]["pointer"], settings)


def _new_pointer(name: str, version: str) -> str:
    return yaml.safe_dump({"outs": [{"md5": version, "hash": "md5", "path": name}]}, sort_keys=False)


def _version_in(text: str) -> str:
    """The hash that a pointer's text names; nothing else in it is trusted, since it may come from elsewhere."""
    try:
        version = str(yaml.safe_load(text)["outs"][0]["md5"])
    except (yaml.YAMLError, KeyError, IndexError, TypeError):
        version = ""
    if not re.fullmatch(r"[0-9a-f]{32}\.dir", version):
        raise GanpipeError("The DVC pointer that was recorded is damaged: it names no version.")
    return version


def checkout_pointer(workspace: Workspace, name: str, text: str, settings: DataSettings) -> DatasetVersion:
    """Makes the version that a pointer's text names the present one.

    Raises:
        GanpipeError: it is not to be had, or is no dataset; what was there is there again.
    """
    check_name(name)
    pointer, raw = _pointer(workspace, name), workspace.raw(name)
    wanted = _new_pointer(name, _version_in(text))
    ensure_repository(workspace)
    if (raw / MANIFEST).exists() and (
        not pointer.exists() or _version_in(pointer.read_text()) != _version_in(wanted)
    ):
        open_version(workspace, name, settings)  # what is there now becomes a version first
    with workspace.lock("data"):
        before = pointer.read_text() if pointer.exists() else None
        try:
            _checkout_version(workspace, name, wanted)
            read_manifest(raw)
            _commit(workspace, name)
        except BaseException:
            if before is not None:
                _checkout_version(workspace, name, before)
            else:
                pointer.unlink(missing_ok=True)
                _intent(workspace, name).unlink(missing_ok=True)
            raise
    return open_version(workspace, name, settings)


def _intent(workspace: Workspace, name: str) -> Path:
    """The pointer of a checkout that has begun: a kill in the middle leaves a folder that is no version."""
    return workspace.state / "versions" / f"{name}.checkout"


def _checkout_version(workspace: Workspace, name: str, text: str) -> None:
    """Makes the raw folder what a pointer names, and the pointer that one; begun, it is finished by whoever comes next."""
    write_text(_intent(workspace, name), text)
    write_text(_pointer(workspace, name), text)
    _checkout(workspace, name, "--force")
    _mark_manifest_changed(workspace, name)
    _intent(workspace, name).unlink()


def _checkout(workspace: Workspace, name: str, *options: str) -> None:
    """Puts what the pointer names into the raw folder, from the remote if there is one."""
    dvc(workspace, "pull" if default_remote(workspace) else "checkout", *options, f"data/raw/{name}.dvc")


def _complete_checkout(workspace: Workspace, name: str) -> None:
    intent = _intent(workspace, name)
    if intent.exists():
        _checkout_version(workspace, name, intent.read_text())


def _mark_manifest_changed(workspace: Workspace, name: str) -> None:
    """The folder has just been changed on purpose: the note's manifest no longer says which version it holds."""
    note = _note(workspace, name)
    if note.exists():
        write_json(note, read_json(note) | {"manifest_sha256": ""})


def records_at(workspace: Workspace, reference: str, settings: DataSettings) -> list[Record]:
    """The images of `NAME` as it is now, or of `NAME@VERSION` from DVC's cache."""
    name, at, version = reference.partition("@")
    if not at:
        open_version(workspace, name, settings)
        return read_manifest(workspace.raw(name))
    listing = read_listing(workspace, version)
    path = cached_file(workspace, listing.get(MANIFEST, ""))
    if path is None:
        raise GanpipeError(
            f"Version {version} of {name} has no manifest in DVC's cache; bring it with: ganpipe data checkout {reference}"
        )
    return parse_manifest(path.read_text())


def pictures_at(workspace: Workspace, reference: str, records: list[Record]) -> list[Image.Image]:
    """Images of `NAME` or `NAME@VERSION`, those whose files are here or in DVC's cache."""
    name, _, version = reference.partition("@")
    if not version:
        images = RawImages(workspace.raw(name))
        return [images.decode(r) for r in records]
    listing = read_listing(workspace, version)
    pictures = []
    for record in records:
        path = cached_file(workspace, listing.get(record.file, ""))
        if path is not None and record.row is None:
            pictures.append(decode_image(path.read_bytes()))
        elif path is not None:
            pictures.append(to_pil(np.load(path, mmap_mode="r")[record.row]))
    return pictures


def pointer_text(workspace: Workspace, name: str) -> str:
    """The DVC pointer: with it and the remote, this version of the data can be brought back."""
    return _pointer(workspace, name).read_text()
