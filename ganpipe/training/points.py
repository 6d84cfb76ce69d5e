"""The loss curve in a file of the run folder: on the disk before the checkpoint that would not compute it again."""

from __future__ import annotations

from pathlib import Path

from ganpipe.files import append_json_lines, read_json_lines
from ganpipe.training.callbacks import Point

POINTS = "points.jsonl"


def append_new_points(path: Path, points: list[Point]) -> None:
    """Adds the points that lie after the last one of the file: a resumed training computes some of them again."""
    if points:
        last = max((p.nimg for p in read_points(path)), default=-1)
        append_json_lines(path, [p for p in points if p.nimg > last])


def read_points(path: Path) -> list[Point]:
    """The points of the file; a line that a kill or a damage has cut is left out."""
    return read_json_lines(path, Point)
