"""Objects of DVC's cache that no kept version names: of datasets and of shards, never those of somebody else's data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ganpipe.data.manifest import MANIFEST, is_dataset_file
from ganpipe.data.shards import META
from ganpipe.errors import GanpipeError
from ganpipe.settings.yaml_files import read_yaml
from ganpipe.stores.dvc import VERSION
from ganpipe.stores.dvc_cache import DatasetCache
from ganpipe.stores.workspace import Workspace

SHARD = re.compile(r"(train|holdout)-\d{5}-[0-9a-f]{16}\.(npy|keys)")
MD5 = re.compile(r"\b[0-9a-f]{32}(?:\.dir)?")
STAGE = "prepare@"


@dataclass(frozen=True)
class UnneededVersion:
    """The objects that only an unneeded folder of ganpipe's needs: `what` is `images` or `shards`.

    Its listing comes last: after a kill it still says what is left to delete.
    """

    version: str
    what: str
    objects: list[Path]

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.objects)

    def delete(self) -> None:
        """Deletes the objects."""
        for path in self.objects:
            path.unlink(missing_ok=True)


def find_unneeded(
    workspace: Workspace, kept: Iterable[str], listed: Iterable[str], dropped_keys: Iterable[str]
) -> list[UnneededVersion]:
    """`kept`: dataset versions; `listed`: those whose listing and manifest are kept. `dropped_keys`: preparations whose
    shards go. Nothing if the cache lies outside the workspace: it may serve others.

    Raises:
        GanpipeError: the listing of a kept version cannot be read, so that nobody knows what it needs.
    """
    cache = DatasetCache(workspace)
    if not cache.folder.resolve().is_relative_to(workspace.root.resolve()):
        return []
    needed = _mentioned(workspace, {f"{STAGE}{key}" for key in dropped_keys})
    for version in kept:
        needed |= {version, *cache.listing(version).files.values()}
    paths = sorted(cache.folder.glob("[0-9a-f][0-9a-f]/*.dir"))
    listings = {f"{path.parent.name}{path.name}": _files_in(path) for path in paths}
    ours = {
        v: files for v, files in listings.items() if VERSION.fullmatch(v) and v not in needed and _kind(files)
    }
    for version, files in listings.items():
        if version not in ours:
            needed |= {*files.values()}
    needed |= {hash for v in listed if v in ours for hash in (v, ours[v][MANIFEST])}
    found = []
    for version, files in ours.items():
        hashes = [md5 for md5 in dict.fromkeys([*files.values(), version]) if md5 not in needed]
        objects = [path for path in map(cache.path, hashes) if path.exists()]
        if objects:
            found.append(UnneededVersion(version, str(_kind(files)), objects))
        needed |= {*files.values()}  # what two of them share is counted and deleted once
    return found


def _files_in(listing: Path) -> dict[str, str]:
    """Paths and MD5s of any listing of DVC; empty if it is damaged."""
    try:
        return {str(entry["relpath"]): str(entry["md5"]) for entry in json.loads(listing.read_bytes())}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _kind(files: dict[str, str]) -> str | None:
    """Whether ganpipe wrote a folder with these files: `images` of a dataset, or `shards`; None if somebody else did."""
    if MANIFEST in files and all(map(is_dataset_file, files)):
        return "images"
    if META in files and all(SHARD.fullmatch(file) for file in files if file != META):
        return "shards"
    return None


def _mentioned(workspace: Workspace, dropped_stages: set[str]) -> set[str]:
    """The hashes in every file of DVC's in the workspace, whoever wrote it; without the outs of `dropped_stages`."""
    found: set[str] = set()
    places = [path for path in workspace.root.rglob("*.dvc") if path.is_file()]
    for path in places:
        found |= set(MD5.findall(path.read_text(errors="replace")))
    for path in workspace.root.rglob("dvc.lock"):
        text = path.read_text(errors="replace")
        stages = (read_yaml(path) or {}).get("stages") if path.parent == workspace.root else None
        if not isinstance(stages, dict):
            found |= set(MD5.findall(text))
            continue
        for name, stage in stages.items():
            outs = stage.get("outs") if name.startswith(STAGE) and isinstance(stage, dict) else stage
            if name not in dropped_stages:  # its deps are versions of datasets, kept or not for other reasons
                found |= set(MD5.findall(json.dumps(outs)))
    return found


def check_readable(workspace: Workspace, versions: Iterable[str]) -> str | None:
    """Why the images of some versions cannot be told from others; None if they can."""
    cache = DatasetCache(workspace)
    for version in versions:
        try:
            cache.listing(version)
        except GanpipeError as error:
            return str(error)
    return None
