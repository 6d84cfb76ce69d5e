"""How near a training step comes to what the machine can multiply, eager and compiled.

    python -m benchmarks.step [--model dcgan|r3gan] [--set KEY=VALUE ...] [--batch N] [--preset NAME] [--compiled]

The limit is measured in the same run: the largest rate of matrix products of 2048² (4096² on a GPU) in the precision of
the step. The work of a step is counted by torch's own formulas in an eager step: convolutions and matrix products
forward, backward and twice backward; nothing else counts as work, so pooling, activations and the optimizer lower
the share. Peak memory is the process's (CPU) or the allocator's (GPU).
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
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


class CountedWork(TorchDispatchMode):
    """FLOP of every convolution and matrix product. (FlopCounterMode's hooks and `autograd.grad` exclude each other.)"""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def synchronize(compute: Compute) -> None:
    """Waits for a GPU to have done what it was given."""
    if compute.device.type == "cuda":
        torch.cuda.synchronize()


def matrix_rate(compute: Compute) -> float:
    """The best of several rates of a square matrix product, FLOP/s."""
    n = 8192 if compute.device.type == "cuda" else 2048
    kind = torch.bfloat16 if compute.precision == "bf16" else torch.float32
    a, b = (torch.randn(n, n, device=compute.device).to(kind) for _ in range(2))
    best = 0.0
    for _ in range(12):
        synchronize(compute)
        started = time.perf_counter()
        a @ b
        synchronize(compute)
        best = max(best, 2 * n**3 / (time.perf_counter() - started))
    return best


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


def work_a_step(step: Any, cycle: int) -> float:
    """FLOP of a step, the mean over a cycle of a lazy penalty."""
    with CountedWork() as counter:
        for number in range(cycle):
            step(number)
    return counter.total / cycle


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


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="small")
    parser.add_argument("--model", default="dcgan")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--compiled", action="store_true", help="measure the compiled step, too")
    given = parser.parse_args()
    settings = resolve(Params(), given.preset, [f"model.name={given.model}", *given.overrides])
    compute = training_compute(settings.training)
    batch = given.batch or settings.training.batch_images
    cycle = settings.loss.penalty_every
    step = one_step(settings, compute, batch, compiled=False)
    step(0)
    work = work_a_step(step, cycle)
    _, peak = measure_step(lambda _: step(0), batch, compute.device)
    rate = matrix_rate(compute)
    print(
        f"{given.model} {settings.data.height_px}×{settings.data.width_px}, batch {batch}, {compute.device} in "
        f"{compute.precision}: {work / 1e9:.1f} GFLOP a step; matrix products reach {rate / 1e9:,.0f} GFLOP/s"
    )
    print(f"{'step':<10}{'ms':>9}{'images/s':>10}{'GFLOP/s':>10}{'share':>7}{'peak MiB':>10}")
    for name, compiled in (("eager", False), ("compiled", True))[: 1 + given.compiled]:
        seconds = seconds_a_step(
            one_step(settings, compute, batch, compiled) if compiled else step, compute, cycle
        )
        print(
            f"{name:<10}{seconds * 1e3:>9.1f}{batch / seconds:>10.1f}{work / seconds / 1e9:>10.1f}"
            f"{work / seconds / rate:>7.0%}{peak / 2**20 if not compiled else float('nan'):>10.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
