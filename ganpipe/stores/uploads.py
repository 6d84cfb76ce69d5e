"""Photos and styles that a page has received: checked, and kept in the workspace under names that are made here."""

from __future__ import annotations

import hashlib
import re
from io import BytesIO
from pathlib import Path
from typing import Literal

from ganpipe.errors import GanpipeError
from ganpipe.files import write_bytes
from ganpipe.imaging.decode import decode_image, open_image, reject_damage, shrink_large
from ganpipe.imaging.image import RejectedImage
from ganpipe.stores.workspace import Workspace

Kind = Literal["photo", "style"]
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}  # formats that every browser shows
MOST_BYTES = 64 * 2**20
STEM_CHARACTERS, HASH_CHARACTERS = 40, 12
CHECKED_PX = 1024  # a large JPEG is reduced while it is decoded


def uploads_folder(workspace: Workspace, kind: Kind) -> Path:
    """The folder of one kind; only what is in it came from a page."""
    return workspace.uploads / f"{kind}s"


def list_uploads(workspace: Workspace, kind: Kind) -> list[Path]:
    """Lists the received images of one kind, the latest first."""
    found = [path for path in uploads_folder(workspace, kind).glob("*") if is_shown(path)]
    return sorted(found, key=lambda path: (-path.stat().st_mtime, path.name))


def is_shown(path: Path) -> bool:
    """Whether a file's name ends like an image's that browsers show, and is not hidden."""
    return path.suffix.lower() in (*SUFFIXES.values(), ".jpeg") and not path.name.startswith(".")


def keep_upload(workspace: Workspace, kind: Kind, name: str, data: bytes) -> Path:
    """Checks an image that calls itself `name`, and keeps it; the same bytes are kept once.

    Raises:
        GanpipeError: it is too large, no image that a browser shows, damaged, or cannot be written.
    """
    if len(data) > MOST_BYTES:
        raise GanpipeError(too_large(name, len(data)))
    suffix = _check(name, data)
    digest = hashlib.sha256(data).hexdigest()[:HASH_CHARACTERS]
    path = uploads_folder(workspace, kind) / f"{_plain(name) or kind}-{digest}{suffix}"
    if not path.is_file():
        write_bytes(path, data)
    return path


def without_hash(stem: str) -> str:
    """The name of an upload as people know it; any other name as it is."""
    return re.sub(rf"-[0-9a-f]{{{HASH_CHARACTERS}}}$", "", stem)


def too_large(name: str, size: int) -> str:
    """The sentence about a file of `size` bytes."""
    return f"{name} has {size / 2**20:,.1f} MiB; at most {MOST_BYTES // 2**20} MiB are taken here. Make it smaller."


def _check(name: str, data: bytes) -> str:
    """Decodes an image, and returns the suffix of its format."""
    try:
        with reject_damage():
            image_format = str(open_image(BytesIO(data)).format)
        if image_format not in SUFFIXES:
            raise GanpipeError(
                f"{name} is {image_format}; {', '.join(SUFFIXES)} are taken here. `ganpipe stylize` reads it, too."
            )
        decode_image(data, shrink_large(CHECKED_PX))
    except RejectedImage as rejected:
        raise GanpipeError(f"{name} cannot be used: {rejected.sentence}.") from None
    return SUFFIXES[image_format]


def _plain(name: str) -> str:
    """The name without folder and suffix, in letters, digits and '-'."""
    stem = re.split(r"[/\\]", name)[-1].rpartition(".")[0]
    return re.sub(r"[^A-Za-z0-9]+", "-", stem)[:STEM_CHARACTERS].strip("-")
