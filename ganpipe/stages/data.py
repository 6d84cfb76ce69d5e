"""The data stage: dataset versions, shards and pages."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from ganpipe.data.ingest import REMOVED, facts_of_records, facts_of_rows
from ganpipe.data.inspection_cache import InspectionCache
from ganpipe.data.manifest import read_manifest
from ganpipe.data.profile import DatasetProfile
from ganpipe.data.raw_store import RawImages
from ganpipe.data.sources.items import ARRIVING
from ganpipe.files import read_json, sha256_of_json, write_text
from ganpipe.imaging.paths import HIDDEN, MACOS_FILE, OWN_OUTPUT
from ganpipe.progress import Report, ignore
from ganpipe.settings.schema import DataSettings
from ganpipe.stages.requests import FolderImport, Imported, RunRequest
from ganpipe.stores.dataset_shards import version_images
from ganpipe.stores.dataset_summaries import DatasetSummary
from ganpipe.stores.dataset_versions import DatasetVersion
from ganpipe.stores.datasets import WatchedFiles, add_dataset, open_inspection_cache
from ganpipe.stores.workspace import Workspace

# Codes of files that a watched folder may hold without anybody having to know.
EXPECTED = tuple(fault.code for fault in (ARRIVING, REMOVED, HIDDEN, MACOS_FILE, OWN_OUTPUT))


def profile_dataset(
    workspace: Workspace, name: str, version: str, settings: DataSettings, report: Report = ignore
) -> DatasetProfile:
    """The profile of a dataset as it lies there; every image is decoded, and nothing is written."""
    from ganpipe.data.profile import profile_records

    raw = workspace.raw(name)
    records = read_manifest(raw)
    facts = facts_of_records(raw, records, InspectionCache(), report) | facts_of_rows(raw, records)
    return profile_records(name, version, records, facts, settings)


def write_page(
    workspace: Workspace,
    version: DatasetVersion | DatasetSummary,
    settings: DataSettings,
    report: Report = ignore,
) -> Path:
    """Writes the page of a dataset version, with `dataset.json` beside it; returns its path."""
    from ganpipe.data.profile import profile_records
    from ganpipe.reports.dataset_page import write_dataset_page

    name, number = version.name, str(version.version)
    size = f"{settings.width_px}x{settings.height_px}"
    folder = workspace.reports / name / f"{number[:12]}-{size}"
    note = workspace.reports / f"{name}-add.json"
    added = read_json(note) if note.exists() else None
    if added is not None and added["version"] != number:
        added = None
    stamp = sha256_of_json({"added": added, "settings": settings.model_dump()})
    if (folder / "stamp").exists() and (folder / "stamp").read_text() == stamp:
        return folder / "dataset.html"
    # Of what is only looked at, no lock is taken.
    images = version_images(workspace, version) if isinstance(version, DatasetVersion) else None
    with images or nullcontext(workspace.raw(name)) as raw:
        records = read_manifest(raw)
        with open_inspection_cache(workspace) as cache:
            facts = facts_of_records(raw, records, cache, report) | facts_of_rows(raw, records)
        profile = profile_records(name, number, records, facts, settings)
        page = write_dataset_page(profile, folder, RawImages(raw), records, added)
    write_text(folder / "stamp", stamp)
    return page


def import_folder(workspace: Workspace, request: FolderImport, report: Report = ignore) -> Imported:
    """Adds what is new in a watched folder to its dataset; of a mirror, takes out what is gone there."""
    settings = RunRequest(request.workspace, request.dataset, request.preset, request.overrides).settings()
    watched = WatchedFiles(frozenset(request.arriving))
    found = add_dataset(
        workspace,
        request.folder,
        request.dataset,
        settings.data,
        report,
        mirror=request.mirror,
        watched=watched,
    )
    refused = [entry for entry in found.quarantined if entry["code"] not in EXPECTED]
    why = f"{refused[0]['file']}: {refused[0]['reason']}" if refused else ""
    return Imported(
        dataset=request.dataset,
        version=found.version,
        images=found.train + found.holdout,
        accepted=found.accepted,
        replaced=found.replaced,
        removed=found.removed,
        refused=len(refused),
        why=why,
    )


def page_files(page: Path) -> list[Path]:
    """A dataset's page with its numbers and its contact sheet."""
    return [page.with_name(name) for name in (page.name, "dataset.json", "contact-sheet.png")]
