"""State shared by all open pages: the status, read once in MOST_AGE_S beside the event loop, trainings, and actions."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ganpipe.dashboard.actions import Actions
from ganpipe.dashboard.figures import CURVES, curve_options, present
from ganpipe.stages.run_details import GrowingCurve, newest_grid, thin_out
from ganpipe.stages.status import StatusReader, WorkspaceStatus
from ganpipe.stores.workspace import Workspace
from ganpipe.training.callbacks import Point

MOST_AGE_S = 1.5
LOSSES = CURVES[0][2]
LIVE_POINTS = 150  # of a curve that is sent to every open page every two seconds


@dataclass(frozen=True)
class Training:
    """A run that trains: its curve so far, thinned out, and its newest grid. Another object once one of them has changed."""

    points: list[Point]
    grid: Path | None

    @cached_property
    def chart(self) -> dict[str, Any] | None:
        """The options of the chart of its losses, the same for every page; None if there is nothing to draw."""
        others = tuple(self.points[-1].values)[:2] if self.points else ()
        names = present(self.points, LOSSES) or present(self.points, others)
        return curve_options(self.points, names, zoom=False) if names else None


class Readings:
    """The workspace's status, at most MOST_AGE_S old, and the runs that train.

    `actions`: what the pages may do; None: they only show. `decoding`: is held while an upload is decoded; two at once
    would take the memory twice.
    """

    def __init__(self, workspace: Workspace, actions: Actions | None = None) -> None:
        self.workspace, self.actions = workspace, actions
        self._reader = StatusReader(workspace)
        self._status: WorkspaceStatus | None = None
        self._read_at = 0.0
        self._curves: dict[str, GrowingCurve] = {}
        self._trainings: dict[str, Training] = {}
        self._lock, self.decoding = asyncio.Lock(), asyncio.Lock()

    async def status(self) -> WorkspaceStatus:
        """The status; who asks while it is being read waits for the same reading."""
        async with self._lock:
            if self._status is None or time.monotonic() - self._read_at > MOST_AGE_S:
                self._status = await asyncio.to_thread(self._read)
                self._read_at = time.monotonic()
            return self._status

    async def forget_status(self) -> None:
        """Lets the next `status` read anew, since something was changed; a reading that began before is waited for."""
        async with self._lock:
            self._status = None

    def training(self, run: str) -> Training | None:
        """A run that trained when the status was read; None if it is none."""
        return self._trainings.get(run)

    def _read(self) -> WorkspaceStatus:
        status = self._reader.read()
        subjects = [activity.subject for activity in status.activities]
        trained = [s for s in subjects if "/" not in s and (self.workspace.runs / s).is_dir()]
        self._curves = {run: self._curves.get(run) or GrowingCurve(self.workspace, run) for run in trained}
        self._trainings = {run: self._read_training(run) for run in trained}
        return status

    def _read_training(self, run: str) -> Training:
        points = thin_out(self._curves[run].read(), LIVE_POINTS)
        now, before = Training(points, newest_grid(self.workspace, run)), self._trainings.get(run)
        return before if before == now else now
