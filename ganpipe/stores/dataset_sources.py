"""The contents of each source of a dataset when it was last added, kept in the workspace's state.

It tells an edited image from a new one. Without it (a fresh clone) both are kept, and said.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

from ganpipe.data.source_listing import SourceListing, present
from ganpipe.errors import GanpipeError
from ganpipe.files import read_json, write_json
from ganpipe.stores.recorded_paths import path_for_record
from ganpipe.stores.workspace import Workspace

log = logging.getLogger(__name__)

Histories = dict[str, dict[str, list[str]]]


def sources_file(workspace: Workspace, name: str) -> Path:
    """Which images came from which source. (No dataset is called NAME.sources.)"""
    return workspace.state / "versions" / f"{name}.sources.json"


def source_key(workspace: Workspace, source: str) -> str:
    """A hash that names a source: of its path, wherever it is named from, or of its name if it is none."""
    path = Path(source).expanduser()
    place = path_for_record(workspace, str(path.resolve())) if path.exists() else source
    return hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:16]


def removed_file(workspace: Workspace, name: str) -> Path:
    """The images that a person has taken out. (No dataset is called NAME.removed.)"""
    return workspace.state / "versions" / f"{name}.removed.json"


def read_removed(workspace: Workspace, name: str) -> set[str]:
    """Hashes of the images that `data remove` has taken out of a dataset."""
    path = removed_file(workspace, name)
    try:
        return set(read_json(path)) if path.exists() else set()
    except (GanpipeError, TypeError) as error:
        log.warning(f"{path} is damaged ({error}); images that were removed from {name} may be taken again.")
        return set()


def note_removed(
    workspace: Workspace, name: str, gone: Iterable[str] = (), present: Iterable[str] = ()
) -> None:
    """Notes images that were taken out, and forgets those that a person has added again."""
    before = read_removed(workspace, name)
    after = (before | set(gone)) - set(present)
    if after != before:
        write_json(removed_file(workspace, name), sorted(after))


def read_listing(workspace: Workspace, name: str, source: str, mirror: bool) -> SourceListing:
    """The contents of the source when it was last added to the dataset."""
    found, key = _read(workspace, name), source_key(workspace, source)
    others = {sha256 for k, history in found.items() if k != key for sha256 in present(history).values()}
    return SourceListing(found.get(key, {}), others, mirror)


def write_listing(
    workspace: Workspace, name: str, source: str, listing: SourceListing, alone: bool = False
) -> None:
    """Keeps what the source holds now. `alone`: the dataset has no other source any more."""
    found, key = _read(workspace, name), source_key(workspace, source)
    kept = ({} if alone else found) | {key: listing.next_history()}
    if kept != found:
        write_json(sources_file(workspace, name), kept)


def _read(workspace: Workspace, name: str) -> Histories:
    path = sources_file(workspace, name)
    try:
        found: Histories = read_json(path) if path.exists() else {}
        return {key: dict(history) for key, history in found.items()}
    except (GanpipeError, AttributeError, TypeError, ValueError) as error:
        log.warning(
            f"{path} is damaged ({error}); edited images of {name} are added beside the earlier ones once."
        )
        return {}
