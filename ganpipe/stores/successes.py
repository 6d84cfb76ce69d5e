"""When each kind of work last succeeded for a dataset."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ganpipe.errors import GanpipeError
from ganpipe.files import read_json, write_json
from ganpipe.settings.schema import Work
from ganpipe.stores.workspace import Workspace


def note_success(workspace: Workspace, work: Work, dataset: str) -> None:
    """Notes that a work has succeeded now. The caller holds the turn of the workspace."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(_file(workspace), _read(workspace) | {f"{work}-{dataset}": now})


def last_success(workspace: Workspace, work: Work, dataset: str) -> datetime | None:
    """When a work last succeeded; None if it never has, or if the note is damaged."""
    try:
        return datetime.fromisoformat(_read(workspace)[f"{work}-{dataset}"])
    except (KeyError, TypeError, ValueError):
        return None


def _read(workspace: Workspace) -> dict[str, str]:
    try:
        found = read_json(_file(workspace))
    except GanpipeError:  # missing or damaged: the next success writes it
        return {}
    return found if isinstance(found, dict) else {}


def _file(workspace: Workspace) -> Path:
    return workspace.state / "successes.json"
