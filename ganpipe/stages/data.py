"""The data stage: dataset versions, shards and pages."""

from __future__ import annotations

from pathlib import Path

from ganpipe.data.ingest import facts_of_records, facts_of_rows
from ganpipe.data.manifest import (
    read_manifest,
)
from ganpipe.data.raw_store import RawImages
from ganpipe.files import read_json, sha256_of_json, write_text
from ganpipe.progress import Report, ignore
from ganpipe.settings.schema import DataSettings
from ganpipe.stores.datasets import DatasetVersion, open_inspection_cache
from ganpipe.stores.workspace import Workspace


def write_page(
    workspace: Workspace, version: DatasetVersion, settings: DataSettings, report: Report = ignore
) -> Path:
    """Writes the page of a dataset version, with `dataset.json` beside it; returns its path."""
    from ganpipe.data.profile import profile_records
    from ganpipe.reports.dataset_page import write_dataset_page

    name = version.name
    raw, size = workspace.raw(name), f"{settings.width_px}x{settings.height_px}"
    folder = workspace.reports / name / f"{version.version[:12]}-{size}"
    note = workspace.reports / f"{name}-add.json"
    added = read_json(note) if note.exists() else None
    if added is not None and added["version"] != version.version:
        added = None
    stamp = sha256_of_json({"added": added, "settings": settings.model_dump()})
    if (folder / "stamp").exists() and (folder / "stamp").read_text() == stamp:
        return folder / "dataset.html"
    records = read_manifest(raw)
    with open_inspection_cache(workspace) as cache:
        facts = facts_of_records(raw, records, cache, report) | facts_of_rows(raw, records)
    profile = profile_records(name, version.version, records, facts, settings)
    page = write_dataset_page(profile, folder, RawImages(raw), records, added)
    write_text(folder / "stamp", stamp)
    return page
