"""Training for a time instead of a number of images: the step is measured, and the number of images follows."""

from __future__ import annotations

import itertools
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from ganpipe.compute.device import training_compute, tune
from ganpipe.data.shards import PreparedData
from ganpipe.files import read_dataclass, write_json
from ganpipe.models.registry import count_classes
from ganpipe.settings.schema import Settings
from ganpipe.training.algorithm import TrainingContext
from ganpipe.training.algorithms import build_algorithm
from ganpipe.training.divergence import Remedies
from ganpipe.training.probe import PROBE_FILE, probe_steps

log = logging.getLogger(__name__)

MEASURED_S, MEASURED_SHARE = 6.0, 0.05  # at most so long, and at most this share of the time
WARM_STEPS, FEWEST_STEPS = 2, 4  # before the first window, and in each
WINDOWS = 3  # their median counts: another program may hold the machine for a moment
# Of the time; the rest is for losses, grids, checkpoints and validations (LOG.md).
STEPS_SHARE = 0.95


@dataclass(frozen=True)
class Length:
    """The number of images that a training of so many minutes has, and the rate that it was made from."""

    minutes: float
    images_per_second: float
    total_images: int


def fix_length(path: Path, data: PreparedData, settings: Settings) -> Settings:
    """The settings with a number of images; one that `training.minutes` ask for is measured once and kept in `path`."""
    if not settings.training.minutes:
        return settings
    return with_length(settings, read_length(path) or measure_length(path, data, settings))


def with_length(settings: Settings, length: Length) -> Settings:
    """The settings with the number of images in place of the minutes."""
    return settings.with_values({"training.minutes": 0.0, "training.total_images": length.total_images})


def read_length(path: Path) -> Length | None:
    """The length that was measured before."""
    return read_dataclass(path, Length) if path.exists() else None


def measure_length(path: Path, data: PreparedData, settings: Settings) -> Length:
    """Measures the step of this training, and writes its length to `path`: it never changes again.

    Raises:
        GanpipeError: not even the smallest batch fits into memory.
    """
    options = settings.training
    rate = measure_rate(data, settings)
    batches = round(STEPS_SHARE * rate * options.minutes * 60 / options.batch_images)
    length = Length(options.minutes, rate, max(1, batches) * options.batch_images)
    log.info(
        "%g minutes at %s images/s on this machine: %s images.",
        options.minutes,
        f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}",
        f"{length.total_images:,}",
    )
    write_json(path, asdict(length))
    return length


def measure_rate(data: PreparedData, settings: Settings) -> float:
    """Images per second of steps on fresh networks; `training.processes` are taken to share each batch evenly.

    Networks that grow are measured in each phase. In a warm start the dearest phase counts alone: they
    may start at full size.
    """
    options, compute = settings.training, training_compute(settings.training)
    tune(compute, options.deterministic)
    classes = count_classes(settings.model, data.label_names, data.labeled)
    algorithm = build_algorithm(TrainingContext(data, settings, compute, classes))
    values, share = algorithm.values_at(0, Remedies()), options.batch_images // options.processes

    def step(images: int, number: int = 0, microbatch_images: int = 0) -> None:
        algorithm.step(algorithm.batch(number * share, images, number), values, number, microbatch_images)

    phases = algorithm.phases(0, options.total_images)
    if options.start_from != "scratch":
        phases = (replace(phases[-1], images=options.total_images),)
    algorithm.set_progress(phases[-1].nimg)
    with tempfile.TemporaryDirectory() as scratch:
        probe = probe_steps(Path(scratch) / PROBE_FILE, share, options.microbatch_images, compute, step)
    window_s = min(MEASURED_S, MEASURED_SHARE * options.minutes * 60) / WINDOWS / len(phases)
    numbers = itertools.count()

    def timed_step() -> None:
        step(share, next(numbers), probe.microbatch_images)

    seconds = 0.0
    for phase in phases:
        algorithm.set_progress(phase.nimg)
        seconds += phase.images / options.batch_images * _seconds_a_step(timed_step, window_s, compute.device)
    return options.total_images / seconds


def _seconds_a_step(step: Callable[[], None], window_s: float, device: torch.device) -> float:
    """The median over windows of about so many seconds."""
    for _ in range(WARM_STEPS):
        step()
    seconds = []
    for _ in range(WINDOWS):
        started, steps, elapsed = _now(device), 0, 0.0
        while steps < FEWEST_STEPS or elapsed < window_s:
            step()
            steps, elapsed = steps + 1, _now(device) - started
        seconds.append(elapsed / steps)
    return statistics.median(seconds)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()
