"""The training loop. It reads data, plays the game, and reports; it knows nothing of MLflow or Prefect."""

from __future__ import annotations

import copy
import signal
import time
from pathlib import Path
from typing import Any

from ganpipe.data.shards import PreparedData
from ganpipe.errors import Interrupted
from ganpipe.images import Pixels, grid, save_png
from ganpipe.models import sample
from ganpipe.progress import Progress
from ganpipe.settings.schema import Settings
from ganpipe.tensors import to_uint8
from ganpipe.training.checkpoint import weights_sha256
from ganpipe.training.curve import Curve
from ganpipe.training.game import Game
from ganpipe.training.interrupt import StopRequest, stop_requests
from ganpipe.training.keeper import Keeper
from ganpipe.training.parallel import World, joined
from ganpipe.training.report import Outbox, Point, TrainResult
from ganpipe.training.rescue import Broken, Rollback
from ganpipe.training.step import update_ema

# Several processes agree so often on whether to stop: each time they wait for each other.
SIGNALS_EVERY_STEPS = 8


def train(
    data: PreparedData, settings: Settings, run_dir: Path, outbox: Outbox | None = None, origin: dict[str, Any] | None = None
) -> TrainResult:  # fmt: skip
    """Trains to `training.total_images`, going on from the newest checkpoint in `run_dir` if there is one.

    Started by torch.distributed.run, it is one of several processes that train together; the first one writes.

    Raises:
        Interrupted: SIGINT or SIGTERM; the step was finished and a checkpoint written.
        GanpipeError: training broke more often than it may, the disk is full, or all checkpoints are damaged.
    """
    with joined(settings.training.device) as world, stop_requests() as stop:
        training = Training(data, settings, run_dir, outbox or Outbox(), origin or {}, world, stop)
        while True:
            try:
                return training.run()
            except Broken as broken:
                training.keeper.take_back(str(broken))


class Training:
    """One training; `run` tells the story."""

    def __init__(
        self, data: PreparedData, settings: Settings, run_dir: Path, outbox: Outbox, origin: dict[str, Any],
        world: World, stop: StopRequest,
    ) -> None:  # fmt: skip
        self.outbox, self.origin, self.stop = outbox, origin, stop
        self.game, self.curve = Game(data, settings, run_dir, world), Curve()
        self.keeper = Keeper(self.game, self.curve, outbox)

    def run(self) -> TrainResult:
        """From where the state is to the end."""
        game, state, options = self.game, self.game.state, self.game.options
        total = options.total_images
        plan = game.planned() if state.nimg < total else None
        started, first = time.monotonic(), state.nimg
        while state.nimg < total:
            assert plan is not None
            before, knobs = state.nimg, game.knobs()
            batch = game.stream.batch(state.position, options.batch_images, state.step)
            self.curve.add(state, game.phases.step(batch, knobs, state.step, plan.microbatch_images))
            state.nimg, state.step = state.nimg + options.batch_images, state.step + 1
            update_ema(state.G_ema, state.G, options.batch_images, knobs.ema_halflife_images)

            def reached(every: int, before: int = before) -> bool:
                return due(every, before, state.nimg) or state.nimg >= total

            if reached(options.log_every_images):
                self.note_point()
            if reached(options.grid_every_images) and game.world.leads:
                self.outbox.picture(self.draw_grid(), state.nimg)
            self.outbox.report(self.progress(first, started))
            self.stop_if_asked()
            if due(options.save_every_images, before, state.nimg) and not state.health.doubtful:
                self.keeper.save()
        rate = (state.nimg - first) / (time.monotonic() - started) if state.nimg > first else 0.0
        self.keeper.save()
        return self.result(rate)

    def note_point(self) -> None:
        """A point of the curve: the means since the last one; the sums begin anew.

        Raises:
            Broken: they show that training has broken.
        """
        game, state = self.game, self.game.state
        judged = self.is_judged()
        values = self.curve.means(state, game.world, game.compute.device)
        if why := state.health.observe(values):
            raise Broken(why)
        values["d_gap"] = values["d_real"] - values["d_fake"]
        values |= game.scheduled()
        if game.settings.augment.mode == "adaptive":
            values["overfitting"] = game.overfitting(values["d_sign"])
            state.adaptive.observe(values["overfitting"], state.nimg, game.settings.augment)
        if game.world.leads and judged:
            values["kd_vgg19_quick"] = self.keeper.keep_if_best()
        self.curve.points.append(Point(state.nimg, values))

    def is_judged(self) -> bool:
        """Whether the point that is due gets a score: where one was due since the last point, and at the end."""
        state, options = self.game.state, self.game.options
        every = options.validate_every_images
        if not every or not self.game.judge.possible:
            return False
        last = state.nimg - state.pending_steps * options.batch_images
        return due(every, last, state.nimg) or state.nimg >= options.total_images

    def draw_grid(self) -> Path:
        """A grid of the average's images for the same latents as always, named by nimg."""
        nimg = self.game.state.nimg
        path = self.game.run_dir / "grids" / f"{nimg:012d}.png"
        pixels: Pixels = to_uint8(sample(self.game.state.G_ema, *self.game.fixed)).cpu().numpy()
        return save_png(grid(pixels), path, self.origin | {"kind": "training grid", "nimg": nimg})

    def progress(self, first: int, started: float) -> Progress:
        """How far training is, with the two losses."""
        values = next((p.values for p in reversed(self.curve.points) if "loss_d" in p.values), None)
        note = f"D {values['loss_d']:.2f}  G {values['loss_g']:.2f}" if values else ""
        nimg, total = self.game.state.nimg, self.game.options.total_images
        elapsed = time.monotonic() - started
        return Progress("train", min(nimg, total), total, "images", elapsed, first, note)

    def stop_if_asked(self) -> None:
        """Raises Interrupted after SIGINT or SIGTERM, with a checkpoint written."""
        world, state = self.game.world, self.game.state
        if world.size > 1 and state.step % SIGNALS_EVERY_STEPS:
            return
        signum = world.agreed(self.stop.signum or 0)
        if signum:
            self.keeper.save()
            raise Interrupted(
                signum, _interrupted_sentence(signum, state.nimg, self.game.options.total_images)
            )

    def result(self, rate: float) -> TrainResult:
        """What is left at the end; the best average instead of the last where that is clearly worse."""
        game, state = self.game, self.game.state
        notes = [Rollback(**record).sentence() for record in state.remedies.rollbacks]
        notes += state.adaptive.notes()
        G_ema = state.G_ema
        if better := self.keeper.clearly_better():
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
