"""The runner of `ganpipe up`: Prefect's, whose runs end on their own terms."""

from __future__ import annotations

import os
import traceback
from typing import Any

from prefect.runner import Runner


class PatientRunner(Runner):
    """Starts every run at once: a run itself waits for its turn, or ends as skipped (`flows.turns`).

    Prefect's own would stop and cancel its runs when it stops, and kill them when it loses the server.
    """

    def __init__(self) -> None:
        super().__init__(limit=None, pause_on_shutdown=False)

    def handle_sigterm(self, *_args: Any, **_kwargs: Any) -> None:
        """Starts no more runs and waits for those at work: they have received the same signal."""
        self.stopping = True
        if self._loop:
            self._loop.call_soon_threadsafe(self._stop_polling)

    def _stop_polling(self) -> None:
        self._scheduled_run_poller.stopping = True
        self._loops_task_group.cancel_scope.cancel()

    async def __aexit__(self, *exc_info: Any) -> None:
        """Leaves the runs at work alone if this runner dies; `ganpipe up` starts another one."""
        if exc_info[0] is not None:
            traceback.print_exception(*exc_info)
            os._exit(1)
        await super().__aexit__(*exc_info)
