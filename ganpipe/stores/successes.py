"""When each deployment of `ganpipe up` last succeeded: a schedule, runs by hand, on new data, from the gallery."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ganpipe.errors import GanpipeError
from ganpipe.files import read_json, write_json
from ganpipe.settings.schema import Work
from ganpipe.stores.workspace import Workspace


def note_success(workspace: Workspace, work: Work, deployment: str) -> None:
    """Notes that a run of a deployment has succeeded now. The caller holds the turn of the workspace."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(_file(workspace), _read(workspace) | {_key(work, deployment): now})


def last_success(workspace: Workspace, work: Work, deployment: str) -> datetime | None:
    """When a deployment, such as the schedule of this name, last succeeded; None if it never has, or if the note is damaged."""
    try:
        return datetime.fromisoformat(_read(workspace)[_key(work, deployment)])
    except (KeyError, TypeError, ValueError):
        return None


def _key(work: Work, deployment: str) -> str:
    return f"{work} {deployment}"


def _read(workspace: Workspace) -> dict[str, str]:
    try:
        found = read_json(_file(workspace))
    except GanpipeError:  # missing or damaged: the next success writes it
        return {}
    return found if isinstance(found, dict) else {}


def _file(workspace: Workspace) -> Path:
    return workspace.state / "successes.json"
