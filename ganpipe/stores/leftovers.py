"""Files that a killed process has left in a workspace: temporary ones, scratch folders, parts of checkpoints."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from ganpipe.compute.process_identity import began_at
from ganpipe.stores.run_files import TRAINING_PICTURES
from ganpipe.stores.workspace import Workspace

# ".NAME.PID.random.tmp" (ganpipe.files.replacing), "scratch-PID-random", "reproduction-PID", "activity-PID-number.json"
OWNED = re.compile(
    r"^(?:\..+\.(\d+)\.[^.]+\.tmp|scratch-(\d+)-.+|reproduction-(\d+)|activity-(\d+)-\d+\.json)$"
)
UNNAMED = re.compile(r"^(?:\..+\.tmp|scratch-.+|reproduction)$")  # as earlier versions named them
UNNAMED_AGE_S = 3600.0
PLACES = (
    "",
    "locks",
    "activities",
    "results",
    "versions",
    "features",
    "prepared/*/features",
    "reports",
    "reports/*",
    "reports/*/*",
    "stylized/*",
    "sweeps/*",
    "feedforward/*",
)
CHECKPOINTED = ("checkpoints", "checkpoints/best")
RUN_PLACES = ("", "model", *TRAINING_PICTURES, *CHECKPOINTED, "checkpoints/averages")


def find_leftovers(workspace: Workspace, live_runs: set[str]) -> list[Path]:
    """Files and folders that ended processes have left. Runs that are trained right now are passed over."""
    folders = [p for place in PLACES for p in (workspace.state.glob(place) if place else [workspace.state])]
    found = [path for folder in folders for path in _gone_in(folder)]
    for run in workspace.runs.iterdir() if workspace.runs.is_dir() else []:
        found += [path for place in RUN_PLACES for path in _gone_in(run / place)]
        if run.name not in live_runs:
            found += [path for place in CHECKPOINTED for path in _parts_in(run / place)]
    return found


def delete_leftover(path: Path) -> None:
    """Deletes a file or a folder."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _gone_in(folder: Path) -> Iterator[Path]:
    for entry in _entries(folder):
        if owned := OWNED.match(entry.name):
            began = began_at(int(next(pid for pid in owned.groups() if pid)))
            if began is None or began > entry.stat().st_mtime + 2:  # the number belongs to another one by now
                yield Path(entry.path)
        elif UNNAMED.match(entry.name) and time.time() - entry.stat().st_mtime > UNNAMED_AGE_S:
            yield Path(entry.path)


def _parts_in(checkpoints: Path) -> Iterator[Path]:
    """Checkpoints without the note that makes them count."""
    names = {entry.name for entry in _entries(checkpoints)}
    for name in names:
        if name.endswith(".pt") and name.removesuffix(".pt") + ".json" not in names:
            yield checkpoints / name


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
