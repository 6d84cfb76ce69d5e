"""The status as all open pages share it: read once in MOST_AGE_S, however many pages ask, beside the event loop."""

from __future__ import annotations

import asyncio
import time

from ganpipe.stages.status import WorkspaceStatus, read_status
from ganpipe.stores.workspace import Workspace

MOST_AGE_S = 1.5


class Readings:
    """The workspace's status, at most MOST_AGE_S old."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._status: WorkspaceStatus | None = None
        self._read_at = 0.0
        self._lock = asyncio.Lock()

    async def status(self) -> WorkspaceStatus:
        """The status; who asks while it is being read waits for the same reading."""
        async with self._lock:
            if self._status is None or time.monotonic() - self._read_at > MOST_AGE_S:
                self._status = await asyncio.to_thread(read_status, self.workspace)
                self._read_at = time.monotonic()
            return self._status
