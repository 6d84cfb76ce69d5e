"""The training loop. It knows networks, optimizers and scalars by name, and nothing of MLflow or Prefect."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ganpipe.compute.distributed import Distributed
from ganpipe.compute.signals import StopRequest, catch_stop_signals
from ganpipe.compute.weights import weights_sha256
from ganpipe.data.shards import PreparedData
from ganpipe.errors import Interrupted
from ganpipe.imaging.grid import grid
from ganpipe.imaging.image import Pixels
from ganpipe.imaging.provenance import save_png
from ganpipe.imaging.tensors import to_uint8
from ganpipe.models.registry import sample
from ganpipe.progress import Progress
from ganpipe.settings.schema import Settings
from ganpipe.training.callbacks import Callbacks, Point, TrainResult
from ganpipe.training.checkpointing import Checkpointing
from ganpipe.training.divergence import Diverged, Rollback
from ganpipe.training.ema import update_ema
from ganpipe.training.length import fix_length
from ganpipe.training.posthoc_ema import update_power_averages
from ganpipe.training.probe import ProbeResult
from ganpipe.training.scalars import ScalarAccumulator
from ganpipe.training.setup import TrainingSetup
from ganpipe.training.summary import TrainSummary

# Several processes agree this often on whether to stop: each time they wait for each other.
AGREE_EVERY_STEPS = 8


def train(
    data: PreparedData,
    settings: Settings,
    run_dir: Path,
    callbacks: Callbacks | None = None,
    origin: dict[str, Any] | None = None,
    distributed: Distributed | None = None,
) -> TrainResult:
    """Trains to `training.total_images` or for `training.minutes`.

    Resumes from the newest checkpoint in `run_dir` if there is one.

    `distributed`: this process's place among those that train together; the main one writes.

    Raises:
        Interrupted: SIGINT or SIGTERM; the step was finished and a checkpoint written.
        GanpipeError: training diverged too often, the disk is full, or all checkpoints are damaged.
    """
    settings = fix_length(run_dir / "length.json", data, settings)
    with catch_stop_signals() as stop:
        setup = TrainingSetup(data, settings, run_dir, distributed or Distributed())
        training = Training(setup, callbacks or Callbacks(), origin or {}, stop)
        while True:
            try:
                return training.run()
            except Diverged as diverged:
                training.checkpointing.roll_back(diverged.divergence)


class Training:
    """One training; `run` is the loop."""

    def __init__(
        self, setup: TrainingSetup, callbacks: Callbacks, origin: dict[str, Any], stop: StopRequest
    ) -> None:
        self.setup, self.callbacks, self.origin, self.stop = setup, callbacks, origin, stop
        self.scalars = ScalarAccumulator(setup.state.algorithm.lazy_scalars)
        self.checkpointing = Checkpointing(setup, self.scalars, callbacks)
        self.probed: ProbeResult | None = None  # None: no step is left to make

    @property
    def distributed(self) -> Distributed:
        return self.setup.distributed

    def run(self) -> TrainResult:
        """Trains from the present state to the end."""
        setup, state, options = self.setup, self.setup.state, self.setup.options
        algorithm, total = state.algorithm, options.total_images
        self.probed = setup.probe() if state.nimg < total else None
        microbatch_images = self.probed.microbatch_images if self.probed else 0
        started, first = time.monotonic(), state.nimg
        while state.nimg < total:
            before, values = state.nimg, algorithm.values_at(state.nimg, state.remedies)
            state.set_progress()
            batch = algorithm.batch(state.position, options.batch_images, state.step)
            self.scalars.add(state, algorithm.step(batch, values, state.step, microbatch_images))
            state.nimg, state.step = state.nimg + options.batch_images, state.step + 1
            exported = algorithm.networks[algorithm.exported]
            update_ema(state.ema, exported, options.batch_images, values.ema_halflife_images)
            update_power_averages(state.averages, exported, state.nimg, options.batch_images)
            ended = state.nimg >= total
            if state.averages and (due(options.snapshot_interval(), before, state.nimg) or ended):
                self.checkpointing.save_averages()
            if due(options.log_interval(), before, state.nimg) or ended:
                self.log_point()
            if (due(options.grid_interval(), before, state.nimg) or ended) and self.distributed.is_main:
                for path in self.save_pictures():
                    self.tell(self.callbacks.picture, path, state.nimg)
            self.tell(self.callbacks.report, self.progress(first, started))
            self.stop_if_asked()
            if due(options.save_interval(), before, state.nimg) and not algorithm.is_suspect:
                self.checkpointing.save()
        rate = (state.nimg - first) / (time.monotonic() - started) if state.nimg > first else 0.0
        self.checkpointing.save()
        return self.result(rate)

    def tell(self, callback: Callable[..., None], *values: object) -> None:
        """Calls a callback. If it fails, a checkpoint is written first: the error is not the training's."""
        try:
            callback(*values)
        except Exception:
            if self.distributed.size == 1:  # several would have to save together
                with suppress(Diverged):
                    self.checkpointing.save()
            raise

    def log_point(self) -> None:
        """Adds a point to the loss curve: the means over the steps since the last one.

        Raises:
            Diverged: they show that training has diverged.
        """
        setup, state, algorithm = self.setup, self.setup.state, self.setup.state.algorithm
        validated = self.is_validated()
        means = self.scalars.means(state, self.distributed, setup.compute.device)
        if divergence := algorithm.diverged(means, state.nimg):
            raise Diverged(divergence)
        values = means | algorithm.derived_scalars(means, state.nimg, state.position, state.remedies)
        if self.distributed.is_main and validated:
            values |= self.checkpointing.validate().scalars()
        self.scalars.points.append(Point(state.nimg, values))

    def is_validated(self) -> bool:
        """Whether the point that is due gets a validation: one is due since the last point, or it is the last."""
        state, options = self.setup.state, self.setup.options
        if not options.validation_images:
            return False
        last = state.nimg - state.pending_steps * options.batch_images
        return due(options.validation_interval(), last, state.nimg) or state.nimg >= options.total_images

    def save_pictures(self) -> list[Path]:
        """A grid of the average's images for the fixed latents, and the algorithm's own pictures, in files named by nimg."""
        setup, state = self.setup, self.setup.state
        images = sample(state.ema, setup.fixed_latents, setup.fixed_labels)
        pixels: Pixels = to_uint8(images).cpu().numpy()
        pictures = {"grids": grid(pixels)} | state.algorithm.pictures(state.ema)
        origin = self.origin | {"kind": "training grid", "nimg": state.nimg}
        return [
            save_png(picture, setup.run_dir / folder / f"{state.nimg:012d}.png", origin)
            for folder, picture in pictures.items()
        ]

    def progress(self, first: int, started: float) -> Progress:
        """How far training is, with the losses of the last point."""
        names = self.setup.state.algorithm.progress_scalars
        points = (p.values for p in reversed(self.scalars.points))
        values = next((v for v in points if set(names.values()) <= v.keys()), None)
        note = "  ".join(f"{label} {values[name]:.2f}" for label, name in names.items()) if values else ""
        total = self.setup.options.total_images
        nimg = min(self.setup.state.nimg, total)
        elapsed, left = time.monotonic() - started, self.work_left(first, nimg)
        return Progress("train", nimg, total, "images", elapsed, first, note, left)

    def work_left(self, first: int, nimg: int) -> float | None:
        """The work from `nimg` to the end as a multiple of that from `first` on; None if all steps take the same time."""
        if not (self.probed and self.probed.shares) or nimg == first:
            return None
        total, phases = self.setup.options.total_images, self.setup.state.algorithm.phases
        whole, left = (self.probed.work([p.images for p in phases(k, total)]) for k in (first, nimg))
        return left / (whole - left)

    def stop_if_asked(self) -> None:
        """Raises Interrupted after SIGINT or SIGTERM, with a checkpoint written."""
        state = self.setup.state
        if self.distributed.size > 1 and state.step % AGREE_EVERY_STEPS:
            return
        signum = self.distributed.agree(self.stop.signum or 0)
        if signum:
            self.checkpointing.save()
            name, total = signal.Signals(signum).name, self.setup.options.total_images
            raise Interrupted(
                signum,
                f"{name}: stopped at {state.nimg:,} of {total:,} images with a checkpoint; the same command "
                "resumes from it.",
            )

    def result(self, rate: float) -> TrainResult:
        """The result; its model is the average that `choose` returns."""
        setup, state = self.setup, self.setup.state
        notes = [*setup.notes(), *(Rollback(**record).sentence() for record in state.remedies.rollbacks)]
        notes += [*state.algorithm.notes(), *state.warnings.values()]
        choice = self.checkpointing.choose()
        notes += choice.notes
        return TrainResult(
            model=choice.model,
            summary=TrainSummary(
                nimg=state.nimg,
                images_per_second=round(rate, 2),
                device=str(setup.compute.device),
                precision=setup.compute.precision,
                weights_sha256=weights_sha256(state.modules().values()),
                notes=tuple(notes),
                validation=choice.validation,
            ),
            grids=sorted((setup.run_dir / "grids").glob("*.png")),
            labels=dict(zip(setup.data.label_names, setup.label_counts, strict=False)),
        )


def due(every: int, before: int, now: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]."""
    return now // every > before // every
