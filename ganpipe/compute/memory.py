"""Free memory, and the peak of a call."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

USABLE_SHARE = 0.8  # of the memory that is free now
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "DefaultCPUAllocator")


def free_memory(device: torch.device) -> int:
    """Bytes that a training may take on this device now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    # Processes that train together on one machine share its memory.
    return min([free, *_cgroup_room()]) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _cgroup_room() -> list[int]:
    """Bytes left below a container's memory limit, if there is one."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        cache = next(
            int(line.split()[1])
            for line in (folder / "memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        )
    except (OSError, ValueError, StopIteration):
        return []
    return [] if limit == "max" else [int(limit) - used + cache]


def measure_step(step: Callable[[int], None], images: int, device: torch.device) -> tuple[float, int]:
    """Seconds of a step, and the bytes that it had on top of what was there before, at most."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        before = reset_peak()
    started = time.monotonic()
    step(images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = _status("VmHWM")
    return time.monotonic() - started, max(0, peak - before)


def reset_peak() -> int:
    """Gives free heap back to the system, so that what a step needs can be seen; bytes that are left."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM (proc(5))
    except (OSError, AttributeError):
        pass
    return _status("VmRSS")


def _status(name: str) -> int:
    """A number of bytes from /proc/self/status; 0 if it is not known: then no batch is split."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
    except (OSError, StopIteration):
        return 0


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in str(error) for words in OUT_OF_MEMORY
    )
