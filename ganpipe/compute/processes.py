"""Child processes: started in a group of their own, stopped as a group, gone when their parent is."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from ganpipe.compute.process_identity import lives, start_time

WATCH_EVERY_S = 0.2
HANG_UP_EVERY_S = 5.0  # between two SIGHUPs: enough to record that a training was interrupted

# A folder `ganpipe` or a file `yaml.py` that lies in the current folder is nobody's module.
SAFE_PATH = {"PYTHONSAFEPATH": "1"}


def exit_with_parent(process: int) -> None:
    """Makes this process end soon after another, of which a kill -9 would tell nothing."""
    call_when_gone(process, start_time(process), lambda: os._exit(1))


def hang_up_with(process: int, started: str, patience_s: float) -> None:
    """Sends this process SIGHUP when another has gone, until it ends; SIGKILL after `patience_s`.

    A training catches it, however often it comes, and writes its checkpoint; whatever else is running ends at once.
    """

    def hang_up() -> None:
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(HANG_UP_EVERY_S)
        os.kill(os.getpid(), signal.SIGKILL)

    call_when_gone(process, started, hang_up)


def call_when_gone(process: int, started: str, act: Callable[[], None]) -> None:
    """Calls `act` in a thread as soon as the process with this number and start time does not live."""

    def watch() -> None:
        while lives(process, started):
            time.sleep(WATCH_EVERY_S)
        act()

    threading.Thread(target=watch, daemon=True).start()


def start_process(
    command: list[str], environment: Mapping[str, str], log_file: Path
) -> subprocess.Popen[bytes]:
    """Starts a process in a group of its own, with its output in a log file; Linux ends it if we are killed.

    Python does not look for modules in its current folder.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        return subprocess.Popen(
            command,
            env={**environment, **SAFE_PATH},
            stdin=subprocess.DEVNULL,
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
    """SIGTERM when the parent dies: there is something to clean up. SIGHUP works even if `nohup` started us."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
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
