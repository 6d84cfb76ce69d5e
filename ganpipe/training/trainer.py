"""The training loop. It reads data, plays the game, and reports; it knows nothing of MLflow or Prefect."""

from __future__ import annotations

import copy
import signal
import time
from pathlib import Path
from typing import Any

from ganpipe.compute.distributed import Distributed, join_process_group
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
from ganpipe.training.gan import update_ema
from ganpipe.training.scalars import ScalarAccumulator
from ganpipe.training.setup import TrainingSetup

# Several processes agree so often on whether to stop: each time they wait for each other.
SIGNALS_EVERY_STEPS = 8


def train(
    data: PreparedData,
    settings: Settings,
    run_dir: Path,
    callbacks: Callbacks | None = None,
    origin: dict[str, Any] | None = None,
) -> TrainResult:
    """Trains to `training.total_images`, going on from the newest checkpoint in `run_dir` if there is one.

    Started by torch.distributed.run, it is one of several processes that train together; the first one writes.

    Raises:
        Interrupted: SIGINT or SIGTERM; the step was finished and a checkpoint written.
        GanpipeError: training broke more often than it may, the disk is full, or all checkpoints are damaged.
    """
    with join_process_group(settings.training.device) as world, catch_stop_signals() as stop:
        training = Training(data, settings, run_dir, callbacks or Callbacks(), origin or {}, world, stop)
        while True:
            try:
                return training.run()
            except Diverged as broken:
                training.checkpointing.roll_back(str(broken))


class Training:
    """One training; `run` tells the story."""

    def __init__(
        self,
        data: PreparedData,
        settings: Settings,
        run_dir: Path,
        callbacks: Callbacks,
        origin: dict[str, Any],
        world: Distributed,
        stop: StopRequest,
    ) -> None:
        self.callbacks, self.origin, self.stop = callbacks, origin, stop
        self.setup, self.curve = TrainingSetup(data, settings, run_dir, world), ScalarAccumulator()
        self.checkpointing = Checkpointing(self.setup, self.curve, callbacks)

    def run(self) -> TrainResult:
        """From where the state is to the end."""
        game, state, options = self.setup, self.setup.state, self.setup.options
        total = options.total_images
        plan = game.probe_or_load() if state.nimg < total else None
        started, first = time.monotonic(), state.nimg
        while state.nimg < total:
            assert plan is not None
            before, scheduled_values = state.nimg, game.scheduled_values()
            batch = game.stream.batch(state.position, options.batch_images, state.step)
            self.curve.add(
                state, game.phases.step(batch, scheduled_values, state.step, plan.microbatch_images)
            )
            state.nimg, state.step = state.nimg + options.batch_images, state.step + 1
            update_ema(state.G_ema, state.G, options.batch_images, scheduled_values.ema_halflife_images)

            def reached(every: int, before: int = before) -> bool:
                return due(every, before, state.nimg) or state.nimg >= total

            if reached(options.log_every_images):
                self.log_point()
            if reached(options.grid_every_images) and game.world.is_main:
                self.callbacks.picture(self.save_grid(), state.nimg)
            self.callbacks.report(self.progress(first, started))
            self.stop_if_asked()
            if due(options.save_every_images, before, state.nimg) and not state.health.is_suspect:
                self.checkpointing.save()
        rate = (state.nimg - first) / (time.monotonic() - started) if state.nimg > first else 0.0
        self.checkpointing.save()
        return self.result(rate)

    def log_point(self) -> None:
        """A point of the curve: the means since the last one; the sums begin anew.

        Raises:
            Broken: they show that training has broken.
        """
        game, state = self.setup, self.setup.state
        judged = self.is_judged()
        values = self.curve.means(state, game.world, game.compute.device)
        if why := state.health.observe(values):
            raise Diverged(why)
        values["d_gap"] = values["d_real"] - values["d_fake"]
        values |= game.scheduled()
        if game.settings.augment.mode == "adaptive":
            values["overfitting"] = game.overfitting(values["d_sign"])
            state.adaptive.observe(values["overfitting"], state.nimg, game.settings.augment)
        if game.world.is_main and judged:
            values["kd_vgg19_quick"] = self.checkpointing.save_if_best()
        self.curve.points.append(Point(state.nimg, values))

    def is_judged(self) -> bool:
        """Whether the point that is due gets a score: where one was due since the last point, and at the end."""
        state, options = self.setup.state, self.setup.options
        every = options.validate_every_images
        if not every or not self.setup.judge.possible:
            return False
        last = state.nimg - state.pending_steps * options.batch_images
        return due(every, last, state.nimg) or state.nimg >= options.total_images

    def save_grid(self) -> Path:
        """A grid of the average's images for the same latents as always, named by nimg."""
        nimg = self.setup.state.nimg
        path = self.setup.run_dir / "grids" / f"{nimg:012d}.png"
        pixels: Pixels = to_uint8(sample(self.setup.state.G_ema, *self.setup.fixed)).cpu().numpy()
        return save_png(grid(pixels), path, self.origin | {"kind": "training grid", "nimg": nimg})

    def progress(self, first: int, started: float) -> Progress:
        """How far training is, with the two losses."""
        values = next((p.values for p in reversed(self.curve.points) if "loss_d" in p.values), None)
        note = f"D {values['loss_d']:.2f}  G {values['loss_g']:.2f}" if values else ""
        nimg, total = self.setup.state.nimg, self.setup.options.total_images
        elapsed = time.monotonic() - started
        return Progress("train", min(nimg, total), total, "images", elapsed, first, note)

    def stop_if_asked(self) -> None:
        """Raises Interrupted after SIGINT or SIGTERM, with a checkpoint written."""
        world, state = self.setup.world, self.setup.state
        if world.size > 1 and state.step % SIGNALS_EVERY_STEPS:
            return
        signum = world.agree(self.stop.signum or 0)
        if signum:
            self.checkpointing.save()
            raise Interrupted(
                signum, _interrupted_sentence(signum, state.nimg, self.setup.options.total_images)
            )

    def result(self, rate: float) -> TrainResult:
        """What is left at the end; the best average instead of the last where that is clearly worse."""
        game, state = self.setup, self.setup.state
        notes = [Rollback(**record).sentence() for record in state.remedies.rollbacks]
        notes += state.adaptive.notes()
        G_ema = state.G_ema
        if better := self.checkpointing.clearly_better():
            G_ema = copy.deepcopy(G_ema)
            G_ema.load_state_dict(better["G_ema"])
            notes.append(
                f"The model is the average at {better['nimg']:,} images: the last one scored clearly worse "
                "(kd_vgg19_quick in MLflow)."
            )
        return TrainResult(
            G_ema=G_ema,
            nimg=state.nimg,
            images_per_second=rate,
            device=str(game.compute.device),
            precision=game.compute.precision,
            weights_sha256=weights_sha256(state.G, state.D, state.G_ema, state.g_opt, state.d_opt),
            grids=sorted((game.run_dir / "grids").glob("*.png")),
            labels=dict(zip(game.data.label_names, game.label_counts, strict=False)),
            notes=tuple(notes),
        )


def due(every: int, before: int, now: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]."""
    return now // every > before // every


def _interrupted_sentence(signum: int, nimg: int, total: int) -> str:
    name = signal.Signals(signum).name
    return f"{name}: stopped at {nimg:,} of {total:,} images with a checkpoint; the same command goes on from there."
