"""Calls to a server that may be away: work goes on without it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ganpipe.errors import STORAGE_SENTENCES, Interrupted, classify_storage_error, first_line

log = logging.getLogger(__name__)

RETRY_EVERY_S = 20.0
MOST_SHARE = 0.05  # of the time is spent on attempts while a server is away


class BestEffort:
    """Calls a server; while it is away, at most once in RETRY_EVERY_S, and it is said once.

    `meanwhile`: half a sentence on what becomes of what cannot be delivered.
    """

    def __init__(self, server: str, meanwhile: str) -> None:
        self.server, self.meanwhile = server, meanwhile
        self.is_away, self._next_attempt = False, 0.0

    def __call__(self, call: Callable[[], object], now: bool = False) -> bool:
        """Makes the call unless the server was away a moment ago (`now`: even then); whether it succeeded."""
        started = time.monotonic()
        if started < self._next_attempt and not now:
            return False
        try:
            call()
        except Interrupted:
            raise
        except (
            Exception
        ) as error:  # a server, its client and a disk fail in many ways; none may stop the work
            ended = time.monotonic()
            self._next_attempt = ended + max(RETRY_EVERY_S, (ended - started) / MOST_SHARE)
            if not self.is_away:
                log.warning(f"{self.server} cannot be reached ({_why(error)}); {self.meanwhile}.")
            self.is_away = True
            return False
        if self.is_away:
            log.warning(f"{self.server} can be reached again.")
        self.is_away, self._next_attempt = False, 0.0
        return True


def _why(error: Exception) -> str:
    fault = classify_storage_error(error)
    return STORAGE_SENTENCES[fault].partition(";")[0] if fault else first_line(error)
