"""The callbacks of a training, and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ganpipe.progress import Report, ignore
from ganpipe.training.summary import TrainSummary

if TYPE_CHECKING:  # points of a curve are read without torch
    from torch import nn


@dataclass(frozen=True)
class Point:
    """One point of the logged curve: means over the steps since the last one."""

    nimg: int
    values: dict[str, float]


@dataclass
class Callbacks:
    """Receivers of results. `points` gets all points since the last checkpoint, before the next one is written."""

    points: Callable[[list[Point]], None] = lambda points: None
    picture: Callable[[Path, int], None] = lambda path, nimg: None
    report: Report = ignore


@dataclass(frozen=True)
class TrainResult:
    """The result of a finished training."""

    model: nn.Module  # the moving average of the exported network
    summary: TrainSummary
    grids: list[Path]
    labels: dict[str, int] = field(default_factory=dict)  # of a conditional model, with their training images
