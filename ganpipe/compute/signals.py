"""Ctrl-C, SIGTERM and SIGHUP (a closed terminal) as a request that the loop reads between two steps."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class StopRequest:
    """Which signal asked for the end; None while nobody did."""

    signum: int | None = None


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """Inside the block stop signals only set the request; a second Ctrl-C or SIGTERM acts as before.

    A closed terminal may send SIGHUP twice, so a second one changes nothing. SIGHUP that is ignored stays ignored (nohup).
    Off the main thread Python delivers no signals, and the request stays empty.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS if not is_ignored(signum)}

    def note(signum: int, _: FrameType | None) -> None:
        request.signum = signum
        if signum == signal.SIGHUP:
            leave_terminal()
        else:
            signal.signal(signum, before[signal.Signals(signum)])

    for signum in before:
        signal.signal(signum, note)
    try:
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def is_ignored(signum: int) -> bool:
    """Whether a closed terminal is to be ignored, as below nohup.

    SIGINT is never ignored: a shell script ignores it for what it starts with `&`, and may send it with `kill -INT`.
    """
    return signum == signal.SIGHUP and signal.getsignal(signum) is signal.SIG_IGN


def leave_terminal() -> None:
    """Sends what is still printed to nowhere if the terminal was closed: writing to it would fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for fd in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(fd).st_mode) and not os.isatty(fd):
                os.dup2(nowhere, fd)
    os.close(nowhere)
