"""How near a training step comes to what the machine can multiply, and where the rest of its time goes.

    python -m benchmarks.step [--models dcgan,r3gan,...] [--preset NAME] [--set KEY=VALUE ...] [--batch N] [--compiled]

The limits are measured in the same run: the rate of matrix products of 2048² (8192² on a GPU) in the precision of the step,
the bandwidth of a copy in memory, and for each model the rate of its own convolutions and products, forward and backward,
each alone. The work of a step is counted by torch's own formulas in an eager step: convolutions and matrix products forward,
backward and twice backward; nothing else counts as work. Peak memory is the process's (CPU) or the allocator's (GPU).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.flop_counter import flop_registry

from ganpipe.compute.device import Compute, training_compute
from ganpipe.compute.distributed import Distributed
from ganpipe.compute.memory import measure_step
from ganpipe.data.shards import PreparedData, Split
from ganpipe.imaging.image import ImageShape
from ganpipe.models.registry import build_gan
from ganpipe.settings.params import Params, resolve
from ganpipe.settings.schema import Settings
from ganpipe.training.gan_batch import GanBatches
from ganpipe.training.gan_step import GanStep, adam
from ganpipe.training.schedules import values_at

ROUNDS = 5


@dataclass(frozen=True)
class Operand:
    """A tensor without its values."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def tensor(self) -> Tensor:
        """A tensor of noise in its place."""
        size = 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        return torch.randn(size, device=self.device).to(self.dtype).as_strided(self.shape, self.stride)


class CountedWork(TorchDispatchMode):
    """FLOP of every convolution and matrix product, and how often each was computed of which operands.

    (FlopCounterMode's hooks and `autograd.grad` exclude each other.)
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.calls: Counter[Any] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=out)
            leaves, spec = tree_flatten((args, kwargs or {}))
            self.calls[func, spec, tuple(_without_values(leaf) for leaf in leaves)] += 1
        return out


def _without_values(leaf: Any) -> Any:
    return Operand(leaf.shape, leaf.stride(), leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else leaf


def seconds_alone(calls: Counter[Any], compute: Compute) -> float:
    """The sum over calls of the best time of each, computed by itself again and again."""
    total = 0.0
    for (func, spec, leaves), count in calls.items():
        operands = [leaf.tensor() if isinstance(leaf, Operand) else leaf for leaf in leaves]
        args, kwargs = tree_unflatten(operands, spec)
        total += count * best_time(lambda: func(*args, **kwargs), compute, rounds=ROUNDS)  # noqa: B023
    return total


def best_time(work: Callable[[], object], compute: Compute, rounds: int) -> float:
    """Seconds of the fastest of some rounds, after one that does not count."""
    times = []
    for _ in range(1 + rounds):
        synchronize(compute)
        started = time.perf_counter()
        work()
        synchronize(compute)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def synchronize(compute: Compute) -> None:
    """Waits for a GPU to have done what it was given."""
    if compute.device.type == "cuda":
        torch.cuda.synchronize()


def matrix_rate(compute: Compute) -> float:
    """The best of several rates of a square matrix product, FLOP/s."""
    n = 8192 if compute.device.type == "cuda" else 2048
    kind = torch.bfloat16 if compute.precision == "bf16" else torch.float32
    a, b = (torch.randn(n, n, device=compute.device).to(kind) for _ in range(2))
    return 2 * n**3 / best_time(lambda: a @ b, compute, rounds=12)


def memory_rate(compute: Compute) -> float:
    """Bytes per second that a copy of 256 MiB reads and writes."""
    source = torch.zeros(2**26, device=compute.device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / best_time(lambda: target.copy_(source), compute, rounds=ROUNDS)


def noise(settings: Settings, images: int) -> PreparedData:
    """Noise images of the settings' size: the work does not depend on what they show."""
    shape = ImageShape(settings.data.channels or 3, settings.data.height_px, settings.data.width_px)
    pixels = torch.randint(
        0, 256, (images, shape.height_px, shape.width_px, shape.channels), dtype=torch.uint8
    )
    split = Split.of(pixels, torch.full((images,), -1))
    return PreparedData("noise", "bench", shape, (), split, split)


def one_step(settings: Settings, compute: Compute, batch: int, compiled: bool) -> Any:
    """A function that computes a step of the batch."""
    data = noise(settings, 2 * batch)
    gan = build_gan(settings.model, data.shape, 0)
    G, D = compute.place(gan.G), compute.place(gan.D)
    t = settings.training
    phases = GanStep(G, D, adam(G, t.g_lr, t), adam(D, t.d_lr, t), settings, compute, compiled=compiled)
    stream, scheduled_values = (
        GanBatches(data, settings, 0, compute.device, Distributed(), phases.values_per_image(data.shape)),
        values_at(0, settings).changed(1, 1, 1, 0.3),
    )
    return lambda number: phases.step(stream.batch(0, batch, number), scheduled_values, number)


def count_work(step: Any, cycle: int) -> CountedWork:
    """The work of as many steps as a lazy penalty takes to come round again."""
    with CountedWork() as counter:
        for number in range(cycle):
            step(number)
    return counter


def seconds_a_step(step: Any, compute: Compute, cycle: int) -> float:
    """Median over rounds of a step, over whole cycles of a lazy penalty."""
    for number in range(max(2, cycle)):
        step(number)
    times = []
    for _ in range(ROUNDS):
        synchronize(compute)
        started = time.perf_counter()
        for number in range(2 * cycle):
            step(number)
        synchronize(compute)
        times.append((time.perf_counter() - started) / (2 * cycle))
    return statistics.median(times)


# The name of an operation begins with one of these; the first row that fits counts.
KINDS = {
    "products": (
        "aten::convolution",
        "aten::mkldnn_conv",
        "aten::_convolution",
        "aten::mm",
        "aten::addmm",
        "aten::bmm",
    ),
    "normalization": ("aten::native_batch_norm", "aten::native_layer_norm"),
    "activations": (
        "aten::leaky_relu",
        "aten::threshold",
        "aten::relu",
        "aten::clamp",
        "aten::tanh",
        "aten::sigmoid",
    ),
    "copies": ("aten::copy", "aten::cat", "aten::fill", "aten::zero", "_Fold", "_Patches", "aten::index"),
    "sums": (
        "aten::add",
        "aten::sum",
        "aten::mul",
        "aten::mean",
        "aten::div",
        "aten::sub",
        "aten::pow",
        "aten::_foreach",
    ),
    "optimizer": ("aten::_fused_adam", "Optimizer"),
}


def shares_by_kind(step: Any, compute: Compute, cycle: int) -> dict[str, float]:
    """The share of the operations' own time that each kind takes."""
    device = ProfilerActivity.CUDA if compute.device.type == "cuda" else ProfilerActivity.CPU
    with profile(activities=[device]) as profiled:
        for number in range(cycle):
            step(number)
    spent = dict.fromkeys([*KINDS, "rest"], 0.0)
    for event in profiled.key_averages():
        kind = next((k for k, names in KINDS.items() if event.key.startswith(names)), "rest")
        spent[kind] += (
            event.self_cpu_time_total if device is ProfilerActivity.CPU else event.self_device_time_total
        )
    total = sum(spent.values())
    return {kind: time_us / total for kind, time_us in spent.items()}


@dataclass(frozen=True)
class Measured:
    """A model's step: the work of an image, images per second, FLOP per second in the step and of its products alone."""

    flop_per_image: float
    images_per_second: float
    rate: float
    rate_alone: float
    peak_bytes: int
    shares: dict[str, float]


def measure(settings: Settings, compute: Compute, batch: int, compiled: bool) -> Measured:
    """Measures a model's step."""
    cycle = settings.loss.penalty_every
    step = one_step(settings, compute, batch, compiled=False)
    step(0)
    counted = count_work(step, cycle)
    work = counted.total / cycle
    timed = one_step(settings, compute, batch, compiled=True) if compiled else step
    seconds = seconds_a_step(timed, compute, cycle)
    _, peak = measure_step(lambda _: step(0), batch, compute.device)
    return Measured(
        work / batch,
        batch / seconds,
        work / seconds,
        counted.total / seconds_alone(counted.calls, compute),
        peak,
        shares_by_kind(timed, compute, cycle),
    )


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="small")
    parser.add_argument("--models", default="dcgan", help="names joined by commas")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--compiled", action="store_true", help="the compiled step instead of the eager one")
    given = parser.parse_args()
    compute = training_compute(resolve(Params(), given.preset, given.overrides).training)
    peak = matrix_rate(compute)
    where = compute.device if compute.device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    print(
        f"{where} in {compute.precision}: matrix products reach {peak / 1e9:,.0f} GFLOP/s, copies "
        f"{memory_rate(compute) / 1e9:,.1f} GB/s. Own rate: the model's convolutions and products alone."
    )
    columns = (
        "image",
        "batch",
        "GFLOP/image",
        "images/s",
        "GFLOP/s",
        "own rate",
        "of own",
        "of matrix",
        "MiB",
    )
    print(f"{'model':<10}" + "".join(f"{name:>12}" for name in columns))
    rows = []
    for model in given.models.split(","):
        settings = resolve(Params(), given.preset, [f"model.name={model}", *given.overrides])
        batch = given.batch or settings.training.batch_images
        measured = measure(settings, compute, batch, given.compiled)
        rows.append((model, measured.shares))
        print(
            f"{model:<10}{f'{settings.data.height_px}×{settings.data.width_px}':>12}{batch:>12}"
            f"{measured.flop_per_image / 1e9:>12.2f}{measured.images_per_second:>12.1f}{measured.rate / 1e9:>12.1f}"
            f"{measured.rate_alone / 1e9:>12.1f}{measured.rate / measured.rate_alone:>12.0%}"
            f"{measured.rate / peak:>12.0%}{measured.peak_bytes / 2**20:>12.0f}",
            flush=True,
        )
    print("\nShare of the operations' time:\n" + f"{'model':<10}" + "".join(f"{k:>15}" for k in rows[0][1]))
    for model, shares in rows:
        print(f"{model:<10}" + "".join(f"{share:>15.0%}" for share in shares.values()))


if __name__ == "__main__":
    main()
