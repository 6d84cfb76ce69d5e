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
    return f"{socket.gethostname()}/{_boot()}/{pid}/{started(pid)}"


@lru_cache(maxsize=1)
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:  # not Linux
        return "unknown"


def started(pid: int) -> str | None:
    """When a process began, in the kernel's ticks since the boot; None if there is none (or it is a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() or not _answers(pid) else "unknown"
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


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
        return boot != _boot() or started(int(pid)) != start
    except ValueError:
        return False


def began_at(pid: int) -> float | None:
    """The time at which a process began, in seconds since 1970; None if it has ended, 0 if that is not known."""
    ticks = started(pid)
    if ticks is None:
        return None
    try:
        uptime_s = float(Path("/proc/uptime").read_text().split()[0])
        return time.time() - uptime_s + int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return 0.0
