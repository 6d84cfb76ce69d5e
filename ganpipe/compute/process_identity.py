"""Which process: its machine, boot, id and start time, so that a number that is used again is no one else's."""

from __future__ import annotations

import os
import socket
import time
from functools import lru_cache
from pathlib import Path


def this_process() -> str:
    """The name of this process, as records and tags hold it: machine, boot, pid, start."""
    return _name_of(os.getpid())


@lru_cache(maxsize=8)
def _name_of(pid: int) -> str:
    return f"{socket.gethostname()}/{_boot()}/{pid}/{start_time(pid)}"


@lru_cache(maxsize=1)
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:  # not Linux
        return "unknown"


def start_time(pid: int) -> str:
    """When a process started, in ticks since the boot: it tells two processes of the same number apart.

    Empty if there is none, or if it has died and nobody has asked how; "unknown" on a system without /proc.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    except OSError:
        return "unknown" if not Path("/proc/self/stat").exists() and _answers(pid) else ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def lives(pid: int, started: str) -> bool:
    """Whether the process with this number and start time is still there."""
    return bool(started) and start_time(pid) == started


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_gone(process: str | None) -> bool:
    """Whether the named process has ended. One of another machine, or an unreadable name, is not known to be gone.

    None, from records that name no process, is gone.
    """
    if process is None:
        return True
    try:
        host, boot, pid, start = process.split("/")
        if host != socket.gethostname():
            return False
        return boot != _boot() or not lives(int(pid), start)
    except ValueError:
        return False


def began_at(pid: int) -> float | None:
    """The time at which a process began, in seconds since 1970; None if it has ended, 0 if that is not known."""
    ticks = start_time(pid)
    if not ticks:
        return None
    try:
        uptime_s = float(Path("/proc/uptime").read_text().split()[0])
        return time.time() - uptime_s + int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return 0.0
