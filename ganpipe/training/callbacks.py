"""What a training tells while it runs, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from ganpipe.progress import Report, ignore


@dataclass(frozen=True)
class Point:
    """One point of the logged curve: means over the steps since the last one."""

    nimg: int
    values: dict[str, float]


@dataclass
class Callbacks:
    """Where results go besides the run folder. `points` is called with whole batches before each checkpoint."""

    points: Callable[[list[Point]], None] = lambda points: None
    picture: Callable[[Path, int], None] = lambda path, nimg: None
    report: Report = ignore


@dataclass(frozen=True)
class TrainResult:
    """What a finished training leaves. `notes` are sentences that belong into the report."""

    model: nn.Module  # the moving average of the exported network
    nimg: int
    images_per_second: float
    device: str
    precision: str
    weights_sha256: str
    grids: list[Path]
    labels: dict[str, int] = field(default_factory=dict)  # of a conditional model, with their training images
    notes: tuple[str, ...] = ()
