"""Before training: what it will take, from two measured steps, and how a batch is split where it would not fit."""

from __future__ import annotations

import ctypes
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ganpipe.errors import GanpipeError
from ganpipe.files import read_json, write_json
from ganpipe.progress import spoken
from ganpipe.training.device import Compute

log = logging.getLogger(__name__)

PLAN = "plan.json"  # in the run folder
PROBE_IMAGES = 4
USABLE_SHARE = 0.8  # of the memory that is free now
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "DefaultCPUAllocator")


@dataclass(frozen=True)
class Plan:
    """How many images are computed at once, and what that is expected to take."""

    microbatch_images: int
    seconds_a_step: float
    peak_bytes: int
    free_bytes: int

    def sentence(self, images_left: int, batch_images: int, processes: int, where: str) -> str:
        """For people, before the first step."""
        seconds = images_left / batch_images * self.seconds_a_step
        each = batch_images // processes
        split = (
            f", each batch in parts of {self.microbatch_images} images"
            if self.microbatch_images < each
            else ""
        )
        return (
            f"On {where}: about {spoken(max(1.0, seconds))} and {self.peak_bytes / 2**30:.1f} of "
            f"{self.free_bytes / 2**30:.1f} GiB free{split}."
        )


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
    """What a container's limit leaves, where there is one."""
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


def make_plan(
    path: Path, batch_images: int, asked_micro: int, compute: Compute, step: Callable[[int], None]
) -> Plan:
    """A plan from two measured steps, written to `path` before the first real step.

    Where a batch is split changes the last digits of a gradient: a resumed training reads its first plan again.
    `step(n)` computes a step of n images on scratch copies.

    Raises:
        GanpipeError: not even the smallest part fits.
    """
    free = free_memory(compute.device)
    small = max(2, min(PROBE_IMAGES, batch_images // 2))
    try:
        for images in (small, 2 * small):  # allocates and tunes
            step(images)
        times, peaks = zip(*(_measured(step, n, compute.device) for n in (small, 2 * small)), strict=True)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise GanpipeError(
            f"{2 * small} images at once do not fit into the {free / 2**30:.1f} GiB that are free on {compute.device}; "
            "make the model (model.width, model.g_channels, model.d_channels) or the images smaller."
        ) from None
    per_image = max(0.0, (peaks[1] - peaks[0]) / small)
    fixed = max(0.0, peaks[1] - 2 * small * per_image)
    room = USABLE_SHARE * free
    fitting = int((room - fixed) / per_image) if per_image > 0 else batch_images
    micro = asked_micro or batch_images
    while micro > max(1, fitting) and not asked_micro:
        micro = -(-micro // 2)
    micro = min(micro, batch_images)
    # What grows with the images, and what every step pays once; small steps are noisy, so neither is negative.
    slope = max(0.0, min((times[1] - times[0]) / small, times[1] / (2 * small))) or times[1] / (2 * small)
    seconds = max(times[1] - 2 * small * slope, 0.0) + slope * batch_images
    plan = Plan(micro, seconds, int(fixed + per_image * micro), free)
    if micro < batch_images and not asked_micro:
        log.warning(
            "A batch of %s images would take %.1f GiB, and %.1f GiB are free: it is computed in parts of %s.",
            f"{batch_images:,}", (fixed + per_image * batch_images) / 2**30, free / 2**30, micro,
        )  # fmt: skip
    write_json(path, asdict(plan))
    return plan


def read_plan(path: Path) -> Plan:
    """The plan that was made before."""
    return Plan(**read_json(path))


def _measured(step: Callable[[int], None], images: int, device: torch.device) -> tuple[float, int]:
    """Seconds of a step, and the bytes that it had on top of what was there before, at most."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        before = _forget_peak()
    started = time.monotonic()
    step(images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = _status("VmHWM")
    return time.monotonic() - started, max(0, peak - before)


def _forget_peak() -> int:
    """Gives free heap back to the system, so that what a step needs can be seen; bytes that are left."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM (proc(5))
    except (OSError, AttributeError):
        pass
    return _status("VmRSS")


def _status(name: str) -> int:
    """A number of bytes from /proc/self/status; 0 where there is none: then nothing is split beforehand."""
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
