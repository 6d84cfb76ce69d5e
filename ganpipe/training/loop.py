"""The training loop. It reads data, plays the game, and reports; it knows nothing of MLflow or Prefect."""

from __future__ import annotations

import copy
import logging
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganpipe.config import Settings
from ganpipe.data.prepare import PreparedData
from ganpipe.errors import GanpipeError, Interrupted
from ganpipe.images import Pixels, grid, save_png, to_uint8
from ganpipe.models import build_gan, parameters_of, sample
from ganpipe.progress import Progress, Report, ignore
from ganpipe.training.checkpoint import load_checkpoint, save_checkpoint, weights_sha256
from ganpipe.training.device import Compute, training_compute
from ganpipe.training.interrupt import stop_requests
from ganpipe.training.step import Phases, Stats, adam, update_ema
from ganpipe.training.stream import GRID, LATENTS, EndlessImages, latents

log = logging.getLogger(__name__)

GRID_IMAGES = 64


@dataclass(frozen=True)
class Point:
    """One point of the logged curve: means over the steps since the last one."""

    nimg: int
    values: dict[str, float]


@dataclass
class Outbox:
    """Where results go besides the run folder. `points` is called with whole batches before each checkpoint."""

    points: Callable[[list[Point]], None] = lambda points: None
    picture: Callable[[Path, int], None] = lambda path, nimg: None
    report: Report = ignore


@dataclass(frozen=True)
class TrainResult:
    """What a finished training leaves."""

    G_ema: nn.Module
    nimg: int
    images_per_second: float
    device: str
    precision: str
    weights_sha256: str
    grids: list[Path]


@dataclass
class State:
    """All that changes: what a checkpoint holds."""

    G: nn.Module
    D: nn.Module
    G_ema: nn.Module
    g_opt: torch.optim.Optimizer
    d_opt: torch.optim.Optimizer
    nimg: int = 0
    step: int = 0
    pending: dict[str, float] = field(default_factory=dict)  # sums since the last point
    pending_steps: int = 0

    def modules(self) -> dict[str, Any]:
        """What has a `state_dict`, by name."""
        return {"G": self.G, "D": self.D, "G_ema": self.G_ema, "g_opt": self.g_opt, "d_opt": self.d_opt}

    def as_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers."""
        parts = {name: module.state_dict() for name, module in self.modules().items()}
        counters = {name: getattr(self, name) for name in ("nimg", "step", "pending", "pending_steps")}
        return parts | counters

    def restore(self, saved: dict[str, Any]) -> None:
        """The inverse of `as_dict`."""
        for name, module in self.modules().items():
            module.load_state_dict(saved[name])
        for name in ("nimg", "step", "pending", "pending_steps"):
            setattr(self, name, saved[name])


def train(
    data: PreparedData, settings: Settings, run_dir: Path, outbox: Outbox | None = None, origin: dict[str, Any] | None = None
) -> TrainResult:  # fmt: skip
    """Trains to `training.total_images`, going on from the newest checkpoint in `run_dir` if there is one.

    Raises:
        Interrupted: SIGINT or SIGTERM; the step was finished and a checkpoint written.
        GanpipeError: a loss is no longer finite, the disk is full, or all checkpoints are damaged.
    """
    options, outbox = settings.training, outbox or Outbox()
    compute = training_compute(options)
    state = new_state(data, settings, compute)
    checkpoints = run_dir / "checkpoints"
    if saved := load_checkpoint(checkpoints, compute.device):
        state.restore(saved)
        log.info("Going on from %s images of %s.", f"{state.nimg:,}", f"{options.total_images:,}")
    images = EndlessImages(data.train.pixels, options.seed, options.mirror, compute.device)
    phases = Phases(
        state.G, state.D, state.g_opt, state.d_opt, settings.loss, options.skip_d_below_loss, compute
    )
    fixed = latents(options.seed, GRID, 0, GRID_IMAGES, settings.model.z_dim, compute.device)
    points: list[Point] = []
    running: Stats = {}
    started, first = time.monotonic(), state.nimg

    def flush() -> None:
        _absorb(state, running)
        check_finite(state, settings)  # a checkpoint of ruined weights would be kept as good
        outbox.points(points.copy())
        points.clear()
        save_checkpoint(checkpoints, state.nimg, state.as_dict())

    with stop_requests() as stop:
        while state.nimg < options.total_images:
            before = state.nimg
            real = images.batch(state.nimg, options.batch_images)
            z = latents(
                options.seed, LATENTS, state.nimg, options.batch_images, settings.model.z_dim, compute.device
            )
            _accumulate(running, phases.step(real, z, state.step))
            state.nimg, state.step = state.nimg + options.batch_images, state.step + 1
            state.pending_steps += 1
            update_ema(state.G_ema, state.G, options.batch_images, state.nimg, options.ema_halflife_images)

            if due(options.log_every_images, before, state.nimg) or state.nimg >= options.total_images:
                points.append(_point(state, running, settings))
            if due(options.grid_every_images, before, state.nimg) or state.nimg >= options.total_images:
                outbox.picture(draw_grid(state, fixed, run_dir, origin or {}), state.nimg)
            outbox.report(_progress(state.nimg, first, options.total_images, started, points))
            if stop.signum is not None:
                flush()
                raise Interrupted(
                    stop.signum, _interrupted_sentence(stop.signum, state.nimg, options.total_images)
                )
            if due(options.save_every_images, before, state.nimg):
                flush()
        elapsed_s = time.monotonic() - started
        flush()
    return TrainResult(
        G_ema=state.G_ema,
        nimg=state.nimg,
        images_per_second=(state.nimg - first) / elapsed_s if state.nimg > first else 0.0,
        device=str(compute.device),
        precision=compute.precision,
        weights_sha256=weights_sha256(state.G, state.D, state.G_ema, state.g_opt, state.d_opt),
        grids=sorted((run_dir / "grids").glob("*.png")),
    )


def new_state(data: PreparedData, settings: Settings, compute: Compute) -> State:
    """Fresh players, average and optimisers."""
    gan = build_gan(settings.model, data.shape, settings.training.seed)
    G, D = compute.place(gan.G), compute.place(gan.D)
    log.info(
        "%s: G has %s weights, D %s.", settings.model.name, f"{parameters_of(G):,}", f"{parameters_of(D):,}"
    )
    options = settings.training
    return State(
        G,
        D,
        copy.deepcopy(G).requires_grad_(False),
        adam(G, options.g_lr, options),
        adam(D, options.d_lr, options),
    )


def due(every: int, before: int, now: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]."""
    return now // every > before // every


def draw_grid(state: State, z: Tensor, run_dir: Path, origin: dict[str, Any]) -> Path:
    """A grid of the average's images for the fixed latents `z`, named by nimg."""
    path = run_dir / "grids" / f"{state.nimg:012d}.png"
    pixels: Pixels = to_uint8(sample(state.G_ema, z)).cpu().numpy()
    return save_png(grid(pixels), path, origin | {"kind": "training grid", "nimg": state.nimg})


def _accumulate(running: Stats, stats: Stats) -> None:
    """Adds a step's scalars on the device: reading them would make the device wait.

    In float64, in which such sums are exact: where a signal or a checkpoint cuts them changes no digit.
    """
    for name, value in stats.items():
        running[name] = running[name] + value.double() if name in running else value.double()
        if name == "r1":
            running["r1_steps"] = running.get("r1_steps", torch.zeros(())) + 1


def _absorb(state: State, running: Stats) -> None:
    """Moves sums from the device into the state, so that a checkpoint holds them."""
    for name, value in running.items():
        state.pending[name] = state.pending.get(name, 0.0) + float(value)
    running.clear()


def check_finite(state: State, settings: Settings) -> None:
    """Raises GanpipeError, with the evidence, where a loss since the last point was not a number."""
    bad = [name for name, total in state.pending.items() if not math.isfinite(total)]
    if bad:
        raise GanpipeError(
            f"Training broke at {state.nimg:,} images: {', '.join(bad)} is no longer finite. "
            f"Lower training.d_lr ({settings.training.d_lr}) and training.g_lr ({settings.training.g_lr}), or "
            f"raise loss.r1_gamma ({settings.loss.r1_gamma})."
        )


def _point(state: State, running: Stats, settings: Settings) -> Point:
    """The means since the last point; the sums begin anew."""
    _absorb(state, running)
    check_finite(state, settings)
    sums, steps = state.pending, state.pending_steps
    r1_steps = sums.pop("r1_steps", 0.0)
    values = {name: total / (r1_steps if name == "r1" else steps) for name, total in sums.items()}
    values["d_gap"] = values["d_real"] - values["d_fake"]  # its sign says whether D still tells them apart
    state.pending, state.pending_steps = {}, 0
    return Point(state.nimg, values)


def _progress(nimg: int, first: int, total: int, started: float, points: list[Point]) -> Progress:
    note = f"D {points[-1].values['loss_d']:.2f}  G {points[-1].values['loss_g']:.2f}" if points else ""
    return Progress("train", min(nimg, total), total, "images", time.monotonic() - started, first, note)


def _interrupted_sentence(signum: int, nimg: int, total: int) -> str:
    name = signal.Signals(signum).name
    return f"{name}: stopped at {nimg:,} of {total:,} images with a checkpoint; the same command goes on from there."
