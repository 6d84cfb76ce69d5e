"""What all open pages share: the status, read once in MOST_AGE_S beside the event loop, curves, and what pages may do."""

from __future__ import annotations

import asyncio
import time

from ganpipe.dashboard.actions import Actions
from ganpipe.stages.run_details import GrowingCurve, thin_out
from ganpipe.stages.status import WorkspaceStatus, read_status
from ganpipe.stores.workspace import Workspace
from ganpipe.training.callbacks import Point

MOST_AGE_S = 1.5


class Readings:
    """The workspace's status, at most MOST_AGE_S old, and the curves of the runs that train.

    `actions`: what the pages may do; None: they only show. `decoding`: is held while an upload is decoded; two at once
    would take the memory twice.
    """

    def __init__(self, workspace: Workspace, actions: Actions | None = None) -> None:
        self.workspace, self.actions = workspace, actions
        self._status: WorkspaceStatus | None = None
        self._read_at = 0.0
        self._curves: dict[str, GrowingCurve] = {}
        self._lock, self.decoding = asyncio.Lock(), asyncio.Lock()

    async def status(self) -> WorkspaceStatus:
        """The status; who asks while it is being read waits for the same reading."""
        async with self._lock:
            if self._status is None or time.monotonic() - self._read_at > MOST_AGE_S:
                self._status = await asyncio.to_thread(read_status, self.workspace)
                self._read_at = time.monotonic()
                trained = {activity.subject for activity in self._status.activities}
                self._curves = {run: curve for run, curve in self._curves.items() if run in trained}
            return self._status

    async def forget_status(self) -> None:
        """Lets the next `status` read anew, since something was changed; a reading that began before is waited for."""
        async with self._lock:
            self._status = None

    async def curve(self, run: str) -> list[Point]:
        """The curve of a run that trains, thinned out."""
        async with self._lock:
            curve = self._curves.setdefault(run, GrowingCurve(self.workspace, run))
            return thin_out(await asyncio.to_thread(curve.read))
