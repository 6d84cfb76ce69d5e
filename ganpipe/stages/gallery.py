"""Stylized images of the workspace's runs, the latest first, what each was made of, and what can be stylized next.

Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from ganpipe.errors import GanpipeError
from ganpipe.imaging.provenance import origin_kind, read_origin
from ganpipe.stages.trace import remaking_command, style_overrides
from ganpipe.stores.uploads import Kind, is_shown, list_uploads, uploads_folder, without_hash
from ganpipe.stores.workspace import Workspace
from ganpipe.style.batch.manifest import read_entries

SAMPLES: dict[Kind, tuple[str, str]] = {
    "photo": ("sample:photos", "both sample photos"),
    "style": ("sample:styles", "both painted styles"),
}
SCALED = ("content_weight", "style_weight")  # a recipe has them with its strength applied


@dataclass(frozen=True)
class Stylized:
    """A stylized image: how it was made, in how many seconds, and when (seconds since 1970)."""

    path: Path
    preset: str
    seconds: float
    quality: dict[str, float]
    made_at: float

    @property
    def title(self) -> str:
        """Content and style, as the file's name has them."""
        return " in ".join(map(without_hash, self.path.stem.split("__")))

    @property
    def style(self) -> str:
        """The style, as the file's name has it."""
        return self.path.stem.rpartition("__")[2]

    @property
    def day(self) -> date:
        """The day on which it was made, in this machine's time zone."""
        return date.fromtimestamp(self.made_at)


@dataclass(frozen=True)
class Choice:
    """Something that can be stylized, or a style: the word for the settings, its name, and the file unless there are several."""

    word: str
    name: str
    path: Path | None


@dataclass(frozen=True)
class Source:
    """A content or a style: its name, and the file if the workspace has it."""

    name: str
    path: Path | None

    @property
    def title(self) -> str:
        """The name as people know it."""
        stem, dot, suffix = self.name.rpartition(".")
        return without_hash(stem) + dot + suffix


@dataclass(frozen=True)
class Made:
    """The content, style and run of a stylized image: None where the image does not say."""

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
    """Reads the content, style and run from the file of a stylized image."""
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
    folders = (workspace.styles, uploads_folder(workspace, "photo"), uploads_folder(workspace, "style"))
    places = (folder / Path(name).name for folder in folders)
    return Source(name, next((path for path in places if path.is_file()), None))


def find_stylized(workspace: Workspace, folder: str, name: str) -> Stylized | None:
    """The stylized image of this name; None if the gallery has none, whatever else lies there."""
    found = list_stylized(workspace)
    return next(
        (image for image in found if (image.path.parent.name, image.path.name) == (folder, name)), None
    )


def filter_stylized(
    images: Sequence[Stylized], style: str = "", since: date | None = None, until: date | None = None
) -> list[Stylized]:
    """Those of one style, if it is named, made on or after `since` and on or before `until`."""
    return [
        image
        for image in images
        if style in ("", image.style) and (since or image.day) <= image.day <= (until or image.day)
    ]


def choices(workspace: Workspace, kind: Kind) -> list[Choice]:
    """The photos or styles that a run from the gallery can take: uploads, then files in data/styles, then the samples."""
    own = [path for path in sorted(workspace.styles.glob("*")) if is_shown(path)]
    is_photo = [origin_kind(path) == "sample photo" for path in own]
    files = [
        *list_uploads(workspace, kind),
        *(path for path, photo in zip(own, is_photo, strict=True) if photo == (kind == "photo")),
    ]
    return [*(_choice(workspace, path) for path in files), Choice(*SAMPLES[kind], None)]


def _choice(workspace: Workspace, path: Path) -> Choice:
    return Choice(str(path.relative_to(workspace.root)), without_hash(path.stem), path)


def overrides_of(photo: str, style: str, strength: float, preset: str = "") -> list[str]:
    """The settings of a run that stylizes one choice in another."""
    named = {"style.contents": photo, "style.styles": style} | ({"style.preset": preset} if preset else {})
    quoted = [f"{key}={json.dumps(word, ensure_ascii=False)}" for key, word in named.items()]
    return [*quoted, f"style.strength={strength:.2f}"]


def restyle_overrides(workspace: Workspace, origin: dict[str, Any], strength: float) -> list[str] | None:
    """The settings of a run that makes a stylized image again with another strength; None if the workspace does not have
    both its content and its one style."""
    content, style = _source(workspace, origin.get("content")), _source(workspace, origin.get("style"))
    if not content or not content.path or not style or not style.path:
        return None
    try:
        recipe = style_overrides(_without_strength(origin))
    except (KeyError, TypeError, AttributeError):
        return None
    photo, painted = (_choice(workspace, path).word for path in (content.path, style.path))
    return [*recipe, *overrides_of(photo, painted, strength)]


def restyle_command(origin: dict[str, Any]) -> str | None:
    """The command that does so, whose strength and files a person then changes; None if no single command does."""
    command = remaking_command(_without_strength(origin))
    return command and command.replace(" --out ", " --set style.strength=0.7 --out ")


def _without_strength(origin: dict[str, Any]) -> dict[str, Any]:
    recipe = origin.get("recipe")
    if not isinstance(recipe, dict):
        return origin
    return origin | {"recipe": {key: value for key, value in recipe.items() if key not in SCALED}}
