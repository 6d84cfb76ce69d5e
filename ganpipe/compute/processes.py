"""Child processes: started in a group of their own, stopped as a group, gone when their parent is."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO

WATCH_EVERY_S = 0.2


def exit_with_parent(process: int) -> None:
    """Makes this process end soon after another, of which a kill -9 would tell nothing."""
    threading.Thread(target=_watch, args=(process,), daemon=True).start()


def _watch(process: int) -> None:
    while _lives(process):
        time.sleep(WATCH_EVERY_S)
    os._exit(1)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def start_process(command: list[str], environment: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """A process with a group of its own, which Linux ends if we die without a word (kill -9)."""
    return subprocess.Popen(
        command,
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=_terminate_with_parent,
    )


def _terminate_with_parent() -> None:
    set_parent_death_signal = 1  # prctl(2)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def stop_process(process: subprocess.Popen[bytes], patience_s: float = 10.0) -> None:
    """Ends a process with its whole group and waits for all of them; after `patience_s` without asking again.

    The group, because a runner that dies leaves the run it started behind, training on.
    """
    signal_group(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    while signal_group(process.pid, 0):
        process.poll()  # takes the ended leader out of the group
        if time.monotonic() > deadline:
            signal_group(process.pid, signal.SIGKILL)
            break
        time.sleep(0.05)
    process.wait()


def signal_group(pgid: int, signum: int) -> bool:
    """Sends a signal to a process group; whether there was anybody to receive it."""
    try:
        os.killpg(pgid, signum)
    except ProcessLookupError:
        return False
    return True


def die_with_parent() -> None:
    """Asks the kernel to kill this process when its parent dies (Linux), so that no trainer is left behind."""
    pr_set_pdeathsig = 1
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").prctl(pr_set_pdeathsig, signal.SIGKILL)
