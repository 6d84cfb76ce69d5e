"""DVC owns the identity of data: the raw data sets and, through dvc.yaml, the prepared shards.

DVC is used through its command, whose interface is the stable one. It is called only where something changed:
whether anything did is read from the manifest's hash, in milliseconds.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from ganpipe.config import DataSettings
from ganpipe.data.prepare import (
    PREPARE_FILE,
    PreparedData,
    damaged_shards,
    is_prepared,
    load_prepared,
    prepare_entry,
    read_prepare_file,
    write_prepare_file,
)
from ganpipe.data.raw import (
    MANIFEST,
    AddReport,
    Record,
    add_items,
    damaged_records,
    manifest_hash,
    parse_manifest,
    read_manifest,
    split_records,
)
from ganpipe.data.sources import read_source
from ganpipe.errors import GanpipeError
from ganpipe.files import read_json, write_json, write_text
from ganpipe.progress import Report, ignore
from ganpipe.workspace import Workspace, check_name

SAMPLE_SOURCES = {"flowers": "sample:flowers", "digits": "sklearn:digits"}


@dataclass(frozen=True)
class DatasetInfo:
    """A raw data set: its DVC hash and how many images it has."""

    name: str
    version: str
    images: int
    train: int
    holdout: int
    labels: int


def dvc(workspace: Workspace, *arguments: str) -> str:
    """Runs a dvc command in the workspace and returns what it printed.

    Raises:
        GanpipeError: dvc failed; its last line says why.
    """
    _ensure_repository(workspace)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=workspace.root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("ERROR")]
        why = (lines or (done.stderr or done.stdout).strip().splitlines() or ["no message"])[0]
        if "No space left" in done.stderr:
            why = "the disk is full; free some room and run again"
        raise GanpipeError(f"dvc {' '.join(arguments[:2])} failed: {why.removeprefix('ERROR: ')}")
    return done.stdout


def _ensure_repository(workspace: Workspace) -> None:
    """What `dvc init` writes, and our stages; nothing that is there already is touched."""
    folder = workspace.root / ".dvc"
    if not (folder / "config").exists():
        write_text(folder / ".gitignore", "/config.local\n/tmp\n/cache\n")
        write_text(folder / "config", "[core]\n    analytics = false\n")
    if not (workspace.root / ".git").exists() and not (folder / "config.local").exists():
        write_text(folder / "config.local", "[core]\n    no_scm = true\n")
    if not (workspace.root / "dvc.yaml").exists():
        write_text(workspace.root / "dvc.yaml", dvc_yaml_template())
    if not (workspace.root / PREPARE_FILE).exists():
        write_prepare_file(workspace.root / PREPARE_FILE, {})


def dvc_yaml_template() -> str:
    """The data stages of a workspace. (DVC reads every file called dvc.yaml below its root: ours must not be.)"""
    return resources.files("ganpipe").joinpath("templates/dvc-stages.txt").read_text()


def add_dataset(
    workspace: Workspace, source: str, name: str, settings: DataSettings, report: Report = ignore
) -> AddReport:
    """Adds a source's images to data set `name` and commits the result to DVC."""
    check_name(name)
    with workspace.lock("data"), TemporaryDirectory(dir=workspace.state, prefix="scratch-") as scratch:
        items = read_source(source, Path(scratch), report)
        result = add_items(workspace.raw(name), items, report)
        result.version = _commit(workspace, name)
        train, holdout = split_records(read_manifest(workspace.raw(name)), settings.holdout_fraction)
        result.train, result.holdout = len(train), len(holdout)
        write_json(workspace.state / "reports" / f"{name}-add.json", asdict(result))
    return result


def _commit(workspace: Workspace, name: str) -> str:
    """Makes DVC know the raw data set as it is now; returns its hash. Does nothing where it knows it already."""
    raw = workspace.raw(name)
    pointer, note = Path(f"{raw}.dvc"), workspace.state / "versions" / f"{name}.json"
    known = read_json(note) if note.exists() else {}
    if pointer.exists() and known.get("manifest_sha256") == manifest_hash(raw):
        version = _pointer_version(pointer)
        if version == known.get("version"):
            return version
    dvc(workspace, "add", str(raw.relative_to(workspace.root)))
    version = _pointer_version(pointer)
    write_json(note, {"version": version, "manifest_sha256": manifest_hash(raw)})
    return version


def _pointer_version(pointer: Path) -> str:
    try:
        return str(yaml.safe_load(pointer.read_text())["outs"][0]["md5"])
    except (OSError, yaml.YAMLError, KeyError, IndexError, TypeError):
        raise GanpipeError(
            f"{pointer} is damaged; bring it back from git, or delete it and add the data again."
        ) from None


def dataset_names(workspace: Workspace) -> list[str]:
    """Data sets that this workspace has or has a pointer to."""
    folder = workspace.root / "data" / "raw"
    names = {p.parent.name for p in folder.glob(f"*/{MANIFEST}")} | {p.stem for p in folder.glob("*.dvc")}
    return sorted(names)


def dataset_info(workspace: Workspace, name: str, settings: DataSettings) -> DatasetInfo:
    """Version and size of a data set; brought from DVC's cache where only the pointer is there.

    Raises:
        GanpipeError: no such data set; the sentence names those that are there.
    """
    check_name(name)
    raw = workspace.raw(name)
    if not (raw / MANIFEST).exists():
        if not Path(f"{raw}.dvc").exists():
            there = ", ".join(dataset_names(workspace)) or "none yet"
            raise GanpipeError(
                f"There is no data set {name} (there are: {there}); add it with: "
                f"ganpipe data add SOURCE --name {name}"
            )
        with workspace.lock("data"):
            dvc(workspace, "checkout", f"{raw.relative_to(workspace.root)}.dvc")
    with workspace.lock("data"):
        version = _commit(workspace, name)
    records = read_manifest(raw)
    train, holdout = split_records(records, settings.holdout_fraction)
    labels = len({r.label for r in records if r.label is not None})
    return DatasetInfo(name, version, len(records), len(train), len(holdout), labels)


def ensure_dataset(
    workspace: Workspace, name: str, settings: DataSettings, report: Report = ignore
) -> DatasetInfo:
    """The data set; `flowers` and `digits` are made where they are not there yet."""
    if name in SAMPLE_SOURCES and name not in dataset_names(workspace):
        add_dataset(workspace, SAMPLE_SOURCES[name], name, settings, report)
    return dataset_info(workspace, name, settings)


def prepare_dataset(workspace: Workspace, name: str, settings: DataSettings) -> Path:
    """The prepared shards of a data set, made by the DVC stage `prepare@NAME` where they are not there."""
    raw, out = workspace.raw(name), workspace.prepared(name)
    with workspace.lock("data"):
        if not is_prepared(raw, out, settings):
            _ensure_repository(workspace)
            path = workspace.root / PREPARE_FILE
            entries = {
                n: e for n, e in read_prepare_file(path).items() if Path(f"{workspace.raw(n)}.dvc").exists()
            }
            write_prepare_file(path, entries | {name: prepare_entry(settings)})
            dvc(workspace, "repro", "--no-run-cache", "--force", "--single-item", f"prepare@{name}")
    return out


def load_dataset(workspace: Workspace, name: str, settings: DataSettings) -> PreparedData:
    """A data set ready to train on: versioned, prepared, its checksums compared."""
    info = dataset_info(workspace, name, settings)
    return load_prepared(prepare_dataset(workspace, name, settings), info.version)


def verify_dataset(
    workspace: Workspace, name: str, settings: DataSettings, report: Report = ignore
) -> list[str]:
    """Hashes every byte of the raw and the prepared data set; the names of what is damaged or gone."""
    dataset_info(workspace, name, settings)
    lost = damaged_records(workspace.raw(name), report)
    out = workspace.prepared(name)
    if (out / "meta.json").exists():
        lost += [f"data/prepared/{name}/{shard}" for shard in damaged_shards(out)]
    return lost


def records_at(workspace: Workspace, reference: str, settings: DataSettings) -> list[Record]:
    """The images of `NAME` as it is now, or of `NAME@VERSION` from DVC's cache."""
    name, at, version = reference.partition("@")
    if not at:
        dataset_info(workspace, name, settings)
        return read_manifest(workspace.raw(name))
    listing = _cached(workspace, version if version.endswith(".dir") else f"{version}.dir")
    if listing is None:
        raise GanpipeError(f"Version {version} of {name} is not in DVC's cache; fetch it with: dvc pull")
    entries: list[dict[str, Any]] = read_json(listing)
    manifest = next((e["md5"] for e in entries if e["relpath"] == MANIFEST), "")
    path = _cached(workspace, manifest) if manifest else None
    if path is None:
        raise GanpipeError(
            f"Version {version} of {name} has no manifest in DVC's cache; fetch it with: dvc pull"
        )
    return parse_manifest(path.read_text())


def _cached(workspace: Workspace, md5: str) -> Path | None:
    matches = sorted(
        (workspace.root / ".dvc/cache/files/md5" / md5[:2]).glob(f"{md5[2:].removesuffix('.dir')}*")
    )
    return matches[0] if len(md5) > 4 and len(matches) == 1 else None


def pointer_text(workspace: Workspace, name: str) -> str:
    """The DVC pointer: with it and the remote, this version of the data can be brought back."""
    return Path(f"{workspace.raw(name)}.dvc").read_text()
