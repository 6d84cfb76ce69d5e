"""Locks: one process at a time for a named job of a workspace, one trainer per GPU whatever its workspace.

Both are freed by the kernel when the holder dies by whatever means, and children do not inherit them. A file lock lies in
the workspace. A GPU lock is a socket in Linux's abstract namespace, named by the GPU: it needs no file.
"""

from __future__ import annotations

import json
import math
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from ganpipe.errors import GanpipeError

ASK_AGAIN_S = 2.0  # for a GPU
FILE_ASK_AGAIN_S = 0.05
HOLDER = "<holder>"  # stands in a sentence for who holds a lock

Say = Callable[[str], None]


class Busy(GanpipeError):
    """Somebody else holds a lock. `holder`: who that is, in words."""

    def __init__(self, message: str, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


def _acquire(
    try_lock: Callable[[], bool],
    holder: Callable[[], str],
    busy: str,
    wait_s: float,
    every_s: float,
    say: Say,
    advice: str,
) -> None:
    """Tries until the lock is held or `wait_s` has passed; says once who holds it. `busy`: a sentence about HOLDER.

    Raises:
        Busy: somebody still holds it; the sentence says who and ends with `advice`.
    """
    if try_lock():
        return
    if wait_s > 0:
        say(f"{busy.replace(HOLDER, holder())}; waiting for it.")
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        time.sleep(every_s)
        if try_lock():
            return
    who = holder()
    raise Busy(f"{busy.replace(HOLDER, who)}; {advice}", who)


@contextmanager
def lock_file(folder: Path, what: str, wait_s: float, say: Say, holder: str = "") -> Iterator[None]:
    """Holds the lock on `what` in `folder`. `holder`: what others are told about the holder beside its process.

    Raises:
        Busy: another process still holds it after `wait_s`; the sentence says which.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None
    note, lock = folder / f"{what}.json", FileLock(folder / f"{what}.lock")

    def try_lock() -> bool:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        except OSError as error:
            raise _unwritable(folder, error) from None
        return True

    busy = f"Another ganpipe ({HOLDER}) is busy with {what} in this workspace"
    _acquire(
        try_lock, partial(_holder_in, note), busy, wait_s, FILE_ASK_AGAIN_S, say, "wait for it or stop it."
    )
    try:
        note.write_text(json.dumps({"pid": os.getpid(), "holder": holder}))
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def _unwritable(folder: Path, error: OSError) -> GanpipeError:
    return GanpipeError(
        f"{folder.parent} cannot be written ({error.strerror}), and this command would change it; "
        "make it writable, or work in a copy with --workspace."
    )


def _holder_in(note: Path) -> str:
    """Who holds a lock, in its own words. It writes them as soon as it has the lock."""
    for _ in range(10):
        try:
            content = json.loads(note.read_text())
            return str(content.get("holder") or f"process {content['pid']}")
        except (OSError, ValueError, KeyError, AttributeError):
            time.sleep(FILE_ASK_AGAIN_S)
    return "process unknown"


def gpu_names(count: int) -> list[str]:
    """Names of the first `count` visible GPUs that mean the same in every process of this machine."""
    import torch

    visible = min(count, torch.cuda.device_count())
    return [str(getattr(torch.cuda.get_device_properties(k), "uuid", k)) for k in range(visible)]


@contextmanager
def lock_gpus(names: list[str], wait: bool, say: Say) -> Iterator[None]:
    """Holds the locks on all named GPUs.

    Raises:
        GanpipeError: one is busy and `wait` is false; the sentence says who holds it.
    """
    with ExitStack() as stack:
        for name in sorted(names) if sys.platform == "linux" else []:
            stack.enter_context(_lock_gpu(name, wait, say))
        yield


@contextmanager
def _lock_gpu(name: str, wait: bool, say: Say) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as own:

        def try_lock() -> bool:
            try:
                own.bind(_address(name))
            except OSError:
                return False
            return True

        _acquire(
            try_lock,
            partial(holder, name),
            f"The GPU {name} is busy with another ganpipe ({HOLDER})",
            math.inf if wait else 0.0,
            ASK_AGAIN_S,
            say,
            "stop it, or wait with --if-busy wait.",
        )
        own.listen(8)
        yield


def _address(name: str) -> str:
    return f"\0ganpipe-trainer-{name}"


def holder(name: str) -> str:
    """The process and command that hold a GPU's lock, as the kernel knows them."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(1)
            asking.connect(_address(name))
            raw = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid = struct.unpack("3i", raw)[0]
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return f"process {pid}: {command.strip()[:120]}"
    except OSError:
        return "process unknown"
