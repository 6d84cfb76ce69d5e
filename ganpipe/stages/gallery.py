"""Stylized images of the workspace's runs, the latest first, and what each was made of. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganpipe.errors import GanpipeError
from ganpipe.imaging.provenance import read_origin
from ganpipe.stores.workspace import Workspace
from ganpipe.style.batch.manifest import read_entries


@dataclass(frozen=True)
class Stylized:
    """A stylized image: how it was made, in how many seconds, and when (seconds since 1970)."""

    path: Path
    preset: str
    seconds: float
    quality: dict[str, float]
    made_at: float


@dataclass(frozen=True)
class Source:
    """A content or a style: its name, and the file if the workspace has it."""

    name: str
    path: Path | None


@dataclass(frozen=True)
class Made:
    """What a stylized image was made of: None where the image does not say."""

    content: Source | None
    style: Source | None
    run: str | None


def list_stylized(workspace: Workspace) -> list[Stylized]:
    """Every stylized image that is still there, once, the latest first."""
    found: dict[Path, Stylized] = {}
    for folder in (workspace.state / "stylized").glob("*/"):
        for entry in read_entries(folder):
            path = folder / Path(entry.output).name  # a manifest names no file outside its folder
            try:
                made_at = path.stat().st_mtime
            except OSError:  # it was deleted, or never finished
                continue
            found[path] = Stylized(path, entry.preset, entry.seconds, entry.quality, made_at)
    return sorted(found.values(), key=lambda image: (-image.made_at, str(image.path)))


def made_of(workspace: Workspace, path: Path) -> Made:
    """What the file of a stylized image says about itself."""
    try:
        origin = read_origin(path)
    except GanpipeError:
        return Made(None, None, None)
    run = origin.get("run")
    return Made(
        _source(workspace, origin.get("content")),
        _source(workspace, origin.get("style")),
        run if isinstance(run, str) else None,
    )


def _source(workspace: Workspace, described: Any) -> Source | None:
    """`described`: name and SHA-256, as an origin has them; it may be a stranger's."""
    if not isinstance(described, dict) or not isinstance(described.get("name"), str):
        return None
    name = described["name"]
    sample = workspace.styles / Path(name).name
    return Source(name, sample if sample.is_file() else None)
