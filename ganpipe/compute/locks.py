"""One trainer per GPU, whatever its workspace."""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from ganpipe.errors import GanpipeError

ASK_AGAIN_S = 2.0


def gpu_names(count: int) -> list[str]:
    """Names of the first `count` visible GPUs that mean the same in every process of this machine."""
    visible = min(count, torch.cuda.device_count())
    return [str(getattr(torch.cuda.get_device_properties(k), "uuid", k)) for k in range(visible)]


@contextmanager
def lock_gpus(names: list[str], wait: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Holds the claims on all named devices; waits for a busy one, or leaves, as asked.

    Raises:
        GanpipeError: one is busy and `wait` is false; the sentence says who holds it.
    """
    with ExitStack() as stack:
        for name in sorted(names) if sys.platform == "linux" else []:
            stack.enter_context(_lock_gpu(name, wait, say))
        yield


def _address(name: str) -> str:
    return f"\0ganpipe-trainer-{name}"


@contextmanager
def _lock_gpu(name: str, wait: bool, say: Callable[[str], None]) -> Iterator[None]:
    told = False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as own:
        while True:
            try:
                own.bind(_address(name))
                break
            except OSError:
                sentence = f"The GPU {name} is busy with another ganpipe ({holder(name)})"
                if not wait:
                    raise GanpipeError(f"{sentence}; stop it, or wait with --if-busy wait.") from None
                if not told:
                    say(f"{sentence}; waiting for it.")
                    told = True
                time.sleep(ASK_AGAIN_S)
        own.listen(8)
        yield


def holder(name: str) -> str:
    """Who holds a claim: its process and command, as the kernel knows them."""
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
