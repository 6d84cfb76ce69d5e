"""Child processes: started in a group of their own, stopped as a group, gone when their parent is."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

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


def start_process(command: list[str], environment: dict[str, str], log_file: Path) -> subprocess.Popen[bytes]:
    """Starts a process in a group of its own, with its output in a log file; Linux ends it if we are killed."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        return subprocess.Popen(
            command,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=terminate_with_parent,
        )


def signal_with_parent(signum: int) -> None:
    """Asks the kernel to send this process a signal when its parent dies (Linux, prctl(2))."""
    set_parent_death_signal = 1
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(set_parent_death_signal, signum)


def terminate_with_parent() -> None:
    """SIGTERM when the parent dies: there is something to clean up."""
    signal_with_parent(signal.SIGTERM)


def die_with_parent() -> None:
    """SIGKILL when the parent dies, so that no trainer is left behind."""
    signal_with_parent(signal.SIGKILL)


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
