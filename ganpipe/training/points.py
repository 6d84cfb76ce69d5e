"""The loss curve in a file of the run folder: on the disk before the checkpoint that would not compute it again."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from ganpipe.files import plain_disk_errors
from ganpipe.training.callbacks import Point

POINTS = "points.jsonl"


def append_points(path: Path, points: list[Point]) -> None:
    """Adds points to a file, on the disk before this returns."""
    with plain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():  # a line that a kill has cut would spoil the next one
            text = path.read_bytes()
            os.truncate(path, text.rfind(b"\n") + 1)
        with path.open("a") as file:
            for point in points:
                file.write(json.dumps(asdict(point)) + "\n")
            file.flush()
            os.fsync(file.fileno())


def append_new_points(path: Path, points: list[Point]) -> None:
    """Adds the points that lie after the last one of the file: a resumed training computes some of them again."""
    if points:
        last = max((p.nimg for p in read_points(path)), default=-1)
        append_points(path, [p for p in points if p.nimg > last])


def read_points(path: Path) -> list[Point]:
    """The points of the file; a line that a kill or a damage has cut is left out."""
    found = []
    for line in path.read_text(errors="replace").split("\n")[:-1] if path.exists() else []:
        try:
            found.append(Point(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found
