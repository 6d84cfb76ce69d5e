"""Checkpoints that survive a kill at any instant: the last two and the best are kept, each with its checksum.

checkpoints/0-000012800.pt    tensors and plain numbers only (`weights_only=True` reads it); rollbacks, and images seen
checkpoints/0-000012800.json  {"sha256": …}, written last: a checkpoint without it does not count
checkpoints/best/…            the same, for the best validation score so far"""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path
from typing import Any

import torch

from ganpipe.errors import GanpipeError
from ganpipe.files import read_json, sha256_of, write_bytes, write_json

log = logging.getLogger(__name__)


KEEP = 2


def save_checkpoint(folder: Path, name: str, state: dict[str, Any], keep: int = KEEP) -> Path:
    """Writes a checkpoint, whole or not at all, and drops all but it and the last others, `keep` in all.

    Raises:
        GanpipeError: the disk is full; the earlier checkpoints are as they were.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    path = folder / f"{name}.pt"
    write_bytes(path, data)
    try:
        write_json(path.with_suffix(".json"), {"sha256": hashlib.sha256(data).hexdigest()})
    except GanpipeError:
        _delete(path.with_suffix(".json"))  # without its note it counts for nothing, and fills the disk
        raise
    others = [note for note in _listed(folder) if note.stem != name]
    for old in others[: max(0, len(others) - keep + 1)]:
        _delete(old)
    return path


def copy_newest_checkpoint(source: Path, target: Path) -> int | None:
    """Copies the newest undamaged checkpoint and the best one to another folder; returns the images seen, None if none.

    The newest is copied last: a folder without it has no checkpoint.
    """
    for note in reversed(_listed(source)):
        if not _is_whole(note):
            continue
        for best in _listed(best_folder(source)):
            _copy(best, best_folder(target))
        _copy(note, target)
        return int(note.stem.rpartition("-")[2])
    return None


def _is_whole(note: Path) -> bool:
    try:
        return sha256_of(note.with_suffix(".pt")) == read_json(note)["sha256"]
    except (OSError, GanpipeError, KeyError, TypeError):
        return False


def _copy(note: Path, folder: Path) -> None:
    """Copies a checkpoint; the note, without which it does not count, last."""
    for path in (note.with_suffix(".pt"), note):
        if path.exists():
            write_bytes(folder / path.name, path.read_bytes())


def best_folder(folder: Path) -> Path:
    """The folder of the best checkpoint."""
    return folder / "best"


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


def delete_checkpoints(folder: Path) -> None:
    """Deletes all checkpoints in `folder` but the best."""
    for note in _listed(folder):
        _delete(note)


def _delete(note: Path) -> None:
    note.unlink(missing_ok=True)
    note.with_suffix(".pt").unlink(missing_ok=True)


def load_checkpoint(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The newest undamaged checkpoint; None if there are none. Damaged newer ones are logged.

    Raises:
        GanpipeError: there are checkpoints, and all are damaged.
    """
    notes = _listed(folder)
    for note in reversed(notes):
        path = note.with_suffix(".pt")
        try:
            if sha256_of(path) == read_json(note)["sha256"]:
                return dict(torch.load(path, map_location=device, weights_only=True))
        except PermissionError as error:  # not damaged: an older one must not take its place
            raise GanpipeError(f"The checkpoint {path} cannot be read ({error.strerror}).") from None
        except (OSError, GanpipeError, KeyError, TypeError):
            pass
        log.warning("The checkpoint %s is damaged; falling back to the one before.", path)
    if notes:
        raise GanpipeError(
            f"All {len(notes)} checkpoints in {folder} are damaged; delete that folder to train from the start."
        )
    return None
