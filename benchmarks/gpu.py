"""Everything that is claimed for GPUs, measured on one, as a short table.

    python -m benchmarks.gpu [--minutes 8] [--r3gan CHECKOUT] [--tiny]

Without a GPU the same lines are measured on the CPU, in bf16 only if it has the instructions; --tiny takes networks and
pictures of a size for tests. A measurement that would begin after the minutes are over is left out and named. The share is that
of the largest rate of matrix products in the same precision, measured first; FLOP are counted as `benchmarks.step` does. With a
checkout of brownvc/R3GAN, its code is timed beside ours at each size.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import distributed

from benchmarks.r3gan_peer import check_checkout, peer_step
from benchmarks.step import count_work, matrix_rate, noise, one_step, seconds_a_step, synchronize
from ganpipe.compute.device import Compute, choose_compute, multiplies_in_bf16
from ganpipe.compute.memory import measure_step
from ganpipe.progress import Progress
from ganpipe.settings.params import Params, resolve
from ganpipe.settings.schema import Settings
from ganpipe.style.objective import style_network
from ganpipe.style.optimize import StyleTask, stylize
from ganpipe.style.params import resolve_params
from ganpipe.training.callbacks import Callbacks
from ganpipe.training.trainer import train

MODELS = (
    ("dcgan", 64, 128),
    ("r3gan", 32, 128),
    ("r3gan", 64, 64),
    ("r3gan", 256, 16),
    ("stylegan2", 256, 16),
)
STYLE_PX, STYLE_BATCHES, STYLE_STEPS = 512, (1, 16), 10
EXCHANGED_BYTES = 2**28

LABELS = {"no": "", "yes": ", compiled", "cuda-graphs": ", CUDA graphs"}  # by training.compile

Row = tuple[str, str]  # what, and its figures


@dataclass(frozen=True)
class Sizes:
    """Sizes of what is measured: those of the claims, or tiny ones for a test."""

    models: tuple[tuple[str, int, int], ...]  # name, side in pixels, batch
    overrides: tuple[str, ...]
    style_px: int
    style_batches: tuple[int, ...]
    steps: int  # of a training that is interrupted
    exchanged_bytes: int

    @classmethod
    def choose(cls, tiny: bool) -> Sizes:
        if not tiny:
            return cls(MODELS, (), STYLE_PX, STYLE_BATCHES, 40, EXCHANGED_BYTES)
        channels = ("model.width=0.03125", "model.g_channels=4", "model.d_channels=4", "model.z_dim=8")
        narrow = (*channels, "loss.penalty_every=2")  # a round is some cycles of the penalty
        return cls((("dcgan", 16, 4), ("stylegan2", 16, 4)), narrow, 48, (1, 2), 4, 2**16)


def precisions() -> tuple[str, ...]:
    """Those of a GPU; a CPU that only emulates bf16 would take minutes to measure nothing of use."""
    gpu = torch.cuda.is_available()
    return ("fp32", "bf16") if gpu or multiplies_in_bf16(torch.device("cpu")) else ("fp32",)


def settings_of(
    model: str, side_px: int, batch: int, sizes: Sizes, *more: str, compiled: str = "no"
) -> Settings:
    """The GPU preset of a model at a size. `compiled`: training.compile."""
    words = [f"model.name={model}", f"data.height_px={side_px}", f"data.width_px={side_px}"]
    fixed = [f"training.batch_images={batch}", f"training.compile={compiled}", "model.conditional=no"]
    return resolve(Params(), "gpu", [*words, *fixed, *sizes.overrides, *more])


def measure_model(
    model: str, side_px: int, batch: int, sizes: Sizes, rates: dict[str, float]
) -> Iterator[Row]:
    """Images per second, share of the limit and memory: float32, bf16, bf16 compiled, and with CUDA graphs."""
    for precision, how in (("fp32", "no"), ("bf16", "no"), ("bf16", "yes"), ("bf16", "cuda-graphs")):
        if precision not in rates:
            continue
        settings = settings_of(model, side_px, batch, sizes, compiled=how)
        compute, compiled = choose_compute("auto", precision), how != "no"
        cycle = settings.loss.penalty_every
        name = f"{model} {side_px}², batch {batch}, {precision}{LABELS[how]}"
        if compiled and compute.device.type == "cpu":
            yield name, "not measured: compiling is for GPUs"
            continue
        torch.compiler.reset()  # or the models before would use up the compiler's limit, and this one run uncompiled
        try:
            step = one_step(settings, compute, batch, compiled)
            step(0)
            work = 0.0 if compiled else count_work(step, cycle).total / cycle
            _, peak = measure_step(lambda _, step=step: step(0), batch, compute.device)  # type: ignore[misc]
            seconds = seconds_a_step(step, compute, cycle)
        except Exception as error:
            yield name, failure(error)
            continue
        share = f", {work / seconds / rates[precision]:.0%} of the limit" if work else ""
        yield name, f"{batch / seconds:,.1f} images/s{share}, {peak / 2**20:,.0f} MiB at most"


def measure_r3gan_peer(side_px: int, batch: int, sizes: Sizes, checkout: Path) -> Iterator[Row]:
    """Images per second of R3GAN's own code and how many times as fast ours is, neither compiled."""
    for precision in precisions():
        settings = settings_of("r3gan", side_px, batch, sizes)
        compute = choose_compute("auto", precision)
        name = f"R3GAN's own code, {side_px}², batch {batch}, {precision}"
        try:
            ours = seconds_a_step(one_step(settings, compute, batch, compiled=False), compute, cycle=1)
            theirs = seconds_a_step(peer_step(checkout, settings, compute, batch), compute, cycle=1)
        except Exception as error:
            yield name, failure(error)
            continue
        yield name, f"{batch / theirs:,.1f} images/s; ours {theirs / ours:.2f} times as fast"


def failure(error: Exception) -> str:
    """The figure of a row that failed: one failure must not take the rest of a lent GPU's minutes."""
    return f"FAILED: {type(error).__name__}: {str(error).splitlines()[0][:100]}"


class Stopped(Exception):
    """The end of a training at half of its images."""


def measure_resume(precision: str, sizes: Sizes) -> Row:
    """Whether a training that was killed half-way ends with the bits of one that was not."""
    model, side_px, batch = sizes.models[0]
    images = sizes.steps * batch
    settings = settings_of(
        model,
        side_px,
        batch,
        sizes,
        f"training.total_images={images}",
        f"training.save_every_images={batch}",
        f"training.precision={precision}",
        "training.grid_every_images=0",
    )
    data = noise(settings, 8 * batch)
    stopped = False

    def stop(progress: Progress) -> None:
        nonlocal stopped
        if progress.stage == "train" and images // 2 <= progress.done < images:
            stopped = True
            raise Stopped

    with tempfile.TemporaryDirectory() as folder:
        whole, parts = Path(folder) / "whole", Path(folder) / "parts"
        expected = train(data, settings, whole).summary
        with suppress(Stopped):
            train(data, settings, parts, Callbacks(report=stop))
        found = train(data, settings, parts).summary
    if not stopped:
        return f"exact resume, {precision}", "FAILED: the training was not interrupted"
    same = found.weights_sha256 == expected.weights_sha256
    return f"exact resume, {precision}", "the same bits" if same else "FAILED: other bits"


def measure_style(batch: int, compute: Compute, sizes: Sizes) -> Row:
    """Seconds of a style step for one image of a batch, and the memory."""
    settings = resolve(Params(), "gpu", [f"style.long_edge_px={sizes.style_px}", "style.scales=1"]).style
    params = resolve_params(settings.model_copy(update={"steps": STYLE_STEPS, "stop_below": 0.0}))
    network = style_network(params.last).to(compute.device)
    content = torch.rand(1, 3, sizes.style_px, sizes.style_px)
    tasks = [StyleTask(content, (torch.rand(1, 3, sizes.style_px, sizes.style_px),))] * batch

    def run(_: int) -> None:
        stylize(network, tasks, params, compute)

    run(batch)  # allocates and tunes
    seconds, peak = measure_step(run, batch, compute.device)
    each = seconds / STYLE_STEPS / batch
    name = f"style step, {sizes.style_px}², {batch} at once, {compute.precision}"
    return name, f"{each * 1e3:,.1f} ms for each image, {peak / 2**20:,.0f} MiB at most"


def measure_exchange(compute: Compute, sizes: Sizes) -> Row:
    """NCCL (gloo without a GPU) in a group of one process: it starts, and sums gradients."""
    backend = "nccl" if compute.device.type == "cuda" else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        store = distributed.FileStore(f"{folder}/store", 1)
        distributed.init_process_group(backend, store=store, rank=0, world_size=1)
        try:
            numbers = torch.ones(sizes.exchanged_bytes // 4, device=compute.device)
            distributed.all_reduce(numbers)
            synchronize(compute)
            started = time.monotonic()
            distributed.all_reduce(numbers)
            synchronize(compute)
            seconds = time.monotonic() - started
            right = bool((numbers == 1).all())
        finally:
            distributed.destroy_process_group()
    figure = (
        f"{sizes.exchanged_bytes / 2**20:,.0f} MiB in {seconds * 1e3:.1f} ms"
        if right
        else "FAILED: wrong sums"
    )
    return f"{backend}, one process", figure


def measurements(
    sizes: Sizes, rates: dict[str, float], r3gan: Path | None
) -> Iterator[tuple[str, Callable[[], Iterator[Row]]]]:
    """Every measurement with its name, the most important first. `r3gan`: a checkout of its code."""
    fast = choose_compute("auto", precisions()[-1])
    yield "exact resume", lambda: (measure_resume(precision, sizes) for precision in rates)
    yield "exchange", lambda: iter([measure_exchange(fast, sizes)])
    yield "style", lambda: (measure_style(batch, fast, sizes) for batch in sizes.style_batches)
    for model, side_px, batch in sizes.models:
        yield f"{model} {side_px}²", partial(measure_model, model, side_px, batch, sizes, rates)
        if model == "r3gan" and r3gan is not None:
            yield f"R3GAN's own code, {side_px}²", partial(measure_r3gan_peer, side_px, batch, sizes, r3gan)


def _until(ends_at: float, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows of a measurement, and a note instead of those that would begin after the minutes are over."""
    for row in rows:
        yield row
        if time.monotonic() > ends_at:
            yield "the rest of these rows", "left out: the minutes are over"
            return


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--r3gan", type=Path, metavar="CHECKOUT", help="of brownvc/R3GAN, timed beside ours")
    parser.add_argument("--tiny", action="store_true", help="sizes for a test")
    given = parser.parse_args(argv)
    if given.r3gan is not None:
        try:
            check_checkout(given.r3gan)
        except FileNotFoundError as error:
            parser.error(str(error))
    ends_at = time.monotonic() + 60 * given.minutes
    sizes = Sizes.choose(given.tiny)
    rates = {precision: matrix_rate(choose_compute("auto", precision)) for precision in precisions()}
    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else torch.backends.cpu.get_cpu_capability()
    )
    print(f"{device}, torch {torch.__version__}\n\n| what | figures |\n|---|---|")
    for precision, rate in rates.items():
        print(f"| matrix products, {precision} | {rate / 1e12:,.2f} TFLOP/s |")
    failed = False
    for name, measure in measurements(sizes, rates, given.r3gan):
        if time.monotonic() > ends_at:
            print(f"| {name} | left out: the {given.minutes:g} minutes are over |", flush=True)
            continue
        for what, figures in _until(ends_at, measure()):
            failed |= figures.startswith("FAILED")
            print(f"| {what} | {figures} |", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
