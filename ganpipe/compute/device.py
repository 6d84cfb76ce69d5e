"""Device and precision, chosen by rules instead of timings, so that a resumed run chooses the same."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from ganpipe.errors import GanpipeError
from ganpipe.settings.schema import TrainingSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compute:
    """A device and the precision of its matrix products; weights and optimizer state stay float32."""

    device: torch.device
    precision: str  # bf16 or fp32

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Matrix products in bf16 where that was chosen."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            yield

    def place(self, module: nn.Module) -> nn.Module:
        """The module on the device, channels last in memory.

        Channels last was faster for every 4×4 convolution of DCGAN that we measured in bf16 on a CPU
        (1.7× for the whole step; LOG.md).
        """
        return module.to(self.device).to(memory_format=torch.channels_last)


def sees_gpu() -> bool:
    """Whether a CUDA device is visible."""
    return torch.cuda.is_available()


def multiplies_in_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than float32 here: GPUs from Ampere on, CPUs with bf16 instructions.

    On a CPU without them, or where ATEN_CPU_CAPABILITY keeps torch from them, bf16 is emulated and slower.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    capabilities = torch.cpu.get_capabilities()
    if torch.backends.cpu.get_cpu_capability() == "AVX2":
        return False
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def choose_compute(device: str, precision: str) -> Compute:
    """The device and precision that the settings ask for.

    Raises:
        GanpipeError: a GPU was asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise GanpipeError(
            "training.device=cuda, and no CUDA device is visible; use training.device=auto or cpu."
        )
    if device == "cpu" and torch.cuda.is_available():
        log.warning("A GPU is there and training.device=cpu leaves it unused.")
    if device == "cpu" or not torch.cuda.is_available():
        keep_freed_memory()
    chosen = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    if precision == "auto":
        precision = "bf16" if multiplies_in_bf16(chosen) else "fp32"
    return Compute(chosen, precision)


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Tells glibc to keep large blocks for the next step instead of returning them to the system.

    A step then faults 40% fewer pages, and is 3% faster (LOG.md). Elsewhere than on glibc nothing happens.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(m_mmap_threshold, 1 << 30)
    mallopt(m_trim_threshold, (1 << 31) - 1)


LONG_TRAINING_IMAGES = 500_000  # compiling takes minutes: below this it does not pay


def should_compile(
    settings: TrainingSettings, model: str, networks: Sequence[nn.Module], compute: Compute
) -> bool:
    """Whether the step is compiled: as `training.compile` asks, if it is possible.

    A compiled step is a function of the weights alone; batch and spectral normalization and networks that grow keep other
    state.
    """
    asked = settings.compile
    wanted = asked in ("yes", "cuda-graphs") or (
        asked == "auto" and compute.device.type == "cuda" and settings.total_images >= LONG_TRAINING_IMAGES
    )
    if asked == "cuda-graphs" and compute.device.type != "cuda":
        log.warning("training.compile=cuda-graphs needs a GPU; the step is compiled without.")
    stateful = any(_persistent(network) for network in networks)
    if wanted and stateful:
        log.warning(
            "model.name=%s keeps state beside its weights (running statistics, growth), which a compiled step cannot; "
            "it runs uncompiled.",
            model,
        )
    if wanted and not stateful and not can_compile(compute.device):
        log.warning(
            "torch.compile needs a C++ compiler (g++) or Triton here and found none; the step runs uncompiled."
        )
        return False
    return wanted and not stateful


def _persistent(module: nn.Module) -> bool:
    """Whether a module has state beside its weights."""
    return len(module.state_dict()) > sum(1 for _ in module.parameters())


def can_compile(device: torch.device) -> bool:
    """Whether what torch.compile needs is installed."""
    if device.type == "cuda":
        return importlib.util.find_spec("triton") is not None
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def training_compute(settings: TrainingSettings) -> Compute:
    """`choose_compute` for a training run."""
    return choose_compute(settings.device, settings.precision)


def tune(compute: Compute, deterministic: bool) -> None:
    """Lets cuDNN choose the fastest algorithms, or allows only those that give the same bits each time."""
    if compute.device.type != "cuda":
        return
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when its handle is made
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
