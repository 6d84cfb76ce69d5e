"""One dataset as people look at it: its versions and who used them, its contact sheet, and what was refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ganpipe.data.manifest import read_manifest
from ganpipe.data.near_duplicates import groups_of
from ganpipe.errors import GanpipeError
from ganpipe.files import read_dataclass
from ganpipe.stores.dataset_summaries import require_dataset, versions_of
from ganpipe.stores.registered_models import CHAMPION, read_registered_models, registered_name
from ganpipe.stores.run_records import read_records
from ganpipe.stores.workspace import Workspace

T = TypeVar("T")
MOST_GROUPS = 12  # of near copies, on a page


@dataclass(frozen=True)
class VersionDetails:
    """A version: when it was made, how many images it has, and how many more than the version before (None: the first).

    `runs`: those that were trained on it. `champion`: whether the champion was. `drift`: how much the data had changed since
    the training before, in a sentence; empty if no run has measured it.
    """

    version: str
    made_at: str
    images: int
    change: int | None
    runs: list[str]
    champion: bool
    drift: str


@dataclass(frozen=True)
class Spread:
    """The distribution of a number over the images."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Profile:
    """The numbers of `dataset.json` that a page shows."""

    images: int
    train: int
    holdout: int
    color: int
    gray: int
    dark: int
    bright: int
    blurred: int
    near_copies: int
    width_px: Spread
    height_px: Spread
    advice: list[str]
    labels: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Quarantined:
    """A file that was refused, and why."""

    file: str
    reason: str
    code: str = ""


@dataclass(frozen=True)
class Addition:
    """The account of the latest addition."""

    version: str
    found: int
    accepted: int
    duplicates: int
    quarantined: list[Quarantined]


@dataclass(frozen=True)
class NearCopy:
    """An image of a group of near copies: its name in its source, and its file; None for a row of an array."""

    name: str
    file: Path | None


@dataclass(frozen=True)
class DatasetDetails:
    """A dataset. `sheet` and `profile`: of the newest page that a run or `ganpipe data show` wrote; None: none yet.

    `near_groups`: images that nearly are copies of each other, the kept one first; at most MOST_GROUPS groups.
    """

    name: str
    versions: list[VersionDetails]  # the latest first
    sheet: Path | None
    profile: Profile | None
    addition: Addition | None
    near_groups: list[list[NearCopy]]


def dataset_details(workspace: Workspace, name: str) -> DatasetDetails:
    """The dataset called so; nothing is decoded, locked or written.

    Raises:
        GanpipeError: there is none.
    """
    require_dataset(workspace, name)
    page = _newest_page(workspace, name)
    account = workspace.reports / f"{name}-add.json"
    return DatasetDetails(
        name,
        _versions(workspace, name),
        page.with_name("contact-sheet.png") if page else None,
        _read(page, Profile) if page else None,
        _read(account, Addition),
        _near_groups(workspace, name),
    )


def _near_groups(workspace: Workspace, name: str) -> list[list[NearCopy]]:
    raw = workspace.raw(name)
    try:
        groups = groups_of(read_manifest(raw))[:MOST_GROUPS]
    except (GanpipeError, OSError):  # not here yet, or damaged: the status says so
        return []
    return [[NearCopy(r.name, raw / r.file if r.row is None else None) for r in group] for group in groups]


def _versions(workspace: Workspace, name: str) -> list[VersionDetails]:
    used: dict[str, list[str]] = {}
    drift: dict[str, str] = {}
    for record in read_records(workspace).whole:
        if record.dataset == name:
            used.setdefault(record.version, []).append(record.run_id)
            if record.drift:
                drift[record.version] = record.drift.sentence()
    champion, found, before = _champion_version(workspace, name), list[VersionDetails](), None
    for entry in versions_of(workspace, name):
        version, images = entry["version"], entry["images"]
        change = images - before if before is not None else None
        runs = used.get(version, [])
        is_champions = version == champion
        found.append(
            VersionDetails(version, entry["when"], images, change, runs, is_champions, drift.get(version, ""))
        )
        before = images
    return found[::-1]


def _champion_version(workspace: Workspace, name: str) -> str | None:
    try:
        models = read_registered_models(workspace)
    except GanpipeError:  # the status says so
        return None
    model = next((m for m in models if m.name == registered_name(name)), None)
    champion = model.with_alias(CHAMPION) if model else None
    return champion.dataset_version if champion else None


def _newest_page(workspace: Workspace, name: str) -> Path | None:
    pages = (workspace.reports / name).glob("*/dataset.json")
    return max(pages, key=lambda path: path.stat().st_mtime, default=None)


def _read(path: Path, kind: type[T]) -> T | None:
    """Reads a file of a report; None if it is not there or not readable: the next run writes it again."""
    try:
        return read_dataclass(path, kind)
    except GanpipeError:
        return None
