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
from ganpipe.data.shards import PreparedData
from ganpipe.errors import GanpipeError, Interrupted
from ganpipe.images import Pixels, grid, save_png
from ganpipe.models import build_gan, classes_of, parameters_of, sample
from ganpipe.progress import Progress, Report, ignore
from ganpipe.tensors import to_float, to_uint8
from ganpipe.training.adapt import Adaptive, r_v
from ganpipe.training.checkpoint import best_folder, load_checkpoint, save_checkpoint, weights_sha256
from ganpipe.training.device import compiles, training_compute, tune
from ganpipe.training.interrupt import StopRequest, stop_requests
from ganpipe.training.judge import Judge, Score
from ganpipe.training.parallel import World, check_share, joined
from ganpipe.training.plan import PLAN, Plan, make_plan, read_plan
from ganpipe.training.rescue import MOST_ROLLBACKS, Health, Remedies, Rollback, not_finite
from ganpipe.training.schedule import Knobs, knobs_at
from ganpipe.training.step import Phases, Stats, adam, update_ema
from ganpipe.training.stream import GRID, SIGNAL, Stream, drawn_labels, latents

log = logging.getLogger(__name__)

GRID_IMAGES = 64
SIGNAL_IMAGES = 256  # of each kind, for the held-out signal of overfitting
# Several processes agree so often on whether to stop: each time they wait for each other.
SIGNALS_EVERY_STEPS = 8


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
    """What a finished training leaves. `notes` are sentences that belong into the report."""

    G_ema: nn.Module
    nimg: int
    images_per_second: float
    device: str
    precision: str
    weights_sha256: str
    grids: list[Path]
    labels: dict[str, int] = field(default_factory=dict)  # of a conditional model, with their training images
    notes: tuple[str, ...] = ()


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
    health: Health = field(default_factory=Health)
    remedies: Remedies = field(default_factory=Remedies)
    adaptive: Adaptive = field(default_factory=Adaptive)
    best: Score | None = None

    NUMBERS = ("nimg", "step", "pending", "pending_steps")
    RECORDS = {"health": Health, "remedies": Remedies, "adaptive": Adaptive}  # noqa: RUF012

    def modules(self) -> dict[str, Any]:
        """What has a `state_dict`, by name."""
        return {"G": self.G, "D": self.D, "G_ema": self.G_ema, "g_opt": self.g_opt, "d_opt": self.d_opt}

    def as_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers."""
        parts = {name: module.state_dict() for name, module in self.modules().items()}
        numbers = {name: getattr(self, name) for name in self.NUMBERS}
        records = {name: dict(vars(getattr(self, name))) for name in self.RECORDS}
        return parts | numbers | records | {"best": vars(self.best) if self.best else None}

    def restore(self, saved: dict[str, Any]) -> None:
        """The inverse of `as_dict`."""
        for name, module in self.modules().items():
            module.load_state_dict(saved[name])
        for name in self.NUMBERS:
            setattr(self, name, saved[name])
        for name, cls in self.RECORDS.items():
            setattr(self, name, cls(**saved[name]))
        self.best = Score(**saved["best"]) if saved["best"] else None

    @property
    def position(self) -> int:
        """Where in the endless order of images and draws the next step begins."""
        return self.nimg + self.remedies.skipped_images


class Broken(Exception):
    """A point of the curve shows that training has broken; the loop takes it back."""


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
                training.take_back(str(broken))


class Training:
    """One training with all that it uses; `run` tells the story."""

    def __init__(
        self, data: PreparedData, settings: Settings, run_dir: Path, outbox: Outbox, origin: dict[str, Any],
        world: World, stop: StopRequest,
    ) -> None:  # fmt: skip
        self.data, self.settings, self.options = data, settings, settings.training
        self.run_dir, self.outbox, self.origin, self.world, self.stop = run_dir, outbox, origin, world, stop
        self.compute = training_compute(self.options)
        tune(self.compute, self.options.deterministic)
        self.checkpoints = run_dir / "checkpoints"
        self.classes = classes_of(settings.model, data.label_names, data.labelled)
        self.label_counts = data.label_counts if self.classes else ()
        check_share(self.options.batch_images, world.size)
        self.stream = Stream(data, settings, self.compute.device, world)
        self.judge = Judge(data, settings, self.compute)
        fixed = latents(self.options.seed, GRID, 0, GRID_IMAGES, settings.model.z_dim, self.compute.device)
        labels = drawn_labels(self.label_counts, self.options.seed, 0, GRID_IMAGES, self.compute.device)
        self.fixed = (fixed, labels)
        self.state = self.fresh_state()
        if saved := load_checkpoint(self.checkpoints, self.compute.device):
            self.state.restore(saved)
            log.info(
                "Going on from %s of %s images.", f"{self.state.nimg:,}", f"{self.options.total_images:,}"
            )
        self.compiled = compiles(settings, self.state.G, self.state.D, self.compute)
        self.phases = self.phases_of(self.state)
        self.points: list[Point] = []
        self.running: Stats = {}
        self.last_score: Score | None = None
        self.first_nimg = self.state.nimg

    def run(self) -> TrainResult:
        """From where the state is to the end."""
        state, options, total = self.state, self.options, self.options.total_images
        plan = self.planned() if state.nimg < total else None
        started, first = time.monotonic(), state.nimg
        while state.nimg < total:
            assert plan is not None
            before, knobs = state.nimg, self.knobs()
            batch = self.stream.batch(state.position, options.batch_images, state.step)
            self.add(self.phases.step(batch, knobs, state.step, plan.micro_images))
            state.nimg, state.step = state.nimg + options.batch_images, state.step + 1
            update_ema(state.G_ema, state.G, options.batch_images, knobs.ema_halflife_images)

            def reached(every: int, before: int = before) -> bool:
                return due(every, before, state.nimg) or state.nimg >= total

            if reached(options.log_every_images):
                self.note_point()
            if reached(options.grid_every_images) and self.world.leads:
                self.outbox.picture(self.draw_grid(), state.nimg)
            self.outbox.report(self.progress(first, started))
            self.stop_if_asked()
            if due(options.save_every_images, before, state.nimg) and not state.health.doubtful:
                self.save()
        rate = (state.nimg - first) / (time.monotonic() - started) if state.nimg > first else 0.0
        self.save()
        return self.result(rate)

    def fresh_state(self) -> State:
        """New players, average and optimisers."""
        options, settings = self.options, self.settings
        gan = build_gan(settings.model, self.data.shape, options.seed, self.classes)
        G, D = (self.compute.place(self.world.with_common_norms(player)) for player in (gan.G, gan.D))
        log.info(
            "%s: G has %s weights, D %s%s.", settings.model.name, f"{parameters_of(G):,}", f"{parameters_of(D):,}",
            f"; both are told {self.classes} labels" if self.classes else "",
        )  # fmt: skip
        G_ema = copy.deepcopy(G).requires_grad_(False)
        return State(G, D, G_ema, adam(G, options.g_lr, options), adam(D, options.d_lr, options))

    def phases_of(self, state: State) -> Phases:
        """The phases that move this state."""
        return Phases(
            state.G, state.D, state.g_opt, state.d_opt, self.settings, self.compute, self.world, self.compiled
        )

    def knobs(self) -> Knobs:
        """The schedules of this moment, with what rollbacks and the augmentation's controller have changed."""
        r = self.state.remedies
        return knobs_at(self.state.nimg, self.settings).changed(
            r.lr_scale, r.lr_scale * r.d_lr_scale, r.gamma_scale, self.state.adaptive.p
        )

    def planned(self) -> Plan:
        """The plan of this run; made from steps of a copy of the state, so that nothing of the game has happened."""
        options, world = self.options, self.world
        path = self.run_dir / PLAN
        each = options.batch_images // world.size
        if world.leads and not path.exists():
            make_plan(path, each, options.micro_images, self.compute, self.probe())
        world.wait()
        plan = read_plan(path)
        if self.state.nimg == self.first_nimg:
            left = options.total_images - self.state.nimg
            where = f"{self.compute.device} in {self.compute.precision}"
            log.info(plan.sentence(left, options.batch_images, world.size, where))
        return plan

    def probe(self) -> Callable[[int], None]:
        """A step of so many images on copies of the players. Uncompiled: each number of images would be compiled."""
        options = self.options
        G, D = copy.deepcopy((self.state.G, self.state.D))
        phases = Phases(
            G, D, adam(G, options.g_lr, options), adam(D, options.d_lr, options), self.settings, self.compute
        )
        alone = Stream(self.data, self.settings, self.compute.device, World())

        def step(images: int) -> None:
            phases.step(alone.batch(0, images, 0), self.knobs(), 0)

        return step

    def add(self, stats: Stats) -> None:
        """Adds a step's scalars on the device: reading them would make the device wait.

        In float64, in which such sums are exact: where a signal or a checkpoint cuts them changes no digit.
        """
        running = self.running
        for name, value in stats.items():
            running[name] = running[name] + value.double() if name in running else value.double()
            if name in SOMETIMES:
                running[f"{name}{STEPS}"] = running.get(f"{name}{STEPS}", torch.zeros(())) + 1
        self.state.pending_steps += 1

    def absorb(self) -> None:
        """Moves sums from the device into the state, so that a checkpoint holds them."""
        for name, value in self.running.items():
            self.state.pending[name] = self.state.pending.get(name, 0.0) + float(value)
        self.running.clear()

    def note_point(self) -> None:
        """A point of the curve: the means since the last one; the sums begin anew.

        Raises:
            Broken: they show that training has broken.
        """
        self.absorb()
        state = self.state
        sums, steps = state.pending, state.pending_steps
        every = self.options.judge_every_images
        ended = state.nimg >= self.options.total_images
        judged = (
            every
            and self.judge.possible
            and (due(every, state.nimg - steps * self.options.batch_images, state.nimg) or ended)
        )
        counts = {name: sums.pop(f"{name}{STEPS}") for name in SOMETIMES if f"{name}{STEPS}" in sums}
        names = sorted(sums)
        means = torch.tensor([sums[name] / counts.get(name, steps) for name in names], dtype=torch.float64)
        means = means.to(self.compute.device)
        self.world.average_([means])
        values = dict(zip(names, means.tolist(), strict=True))
        state.pending, state.pending_steps = {}, 0
        if why := state.health.observe(values):
            raise Broken(why)
        values["d_gap"] = values["d_real"] - values["d_fake"]
        values |= self.scheduled()
        if self.settings.augment.mode == "adaptive":
            signal = torch.tensor([self.overfitting(values["d_sign"])], device=self.compute.device)
            self.world.average_([signal])
            values["overfitting"] = signal.item()
            state.adaptive.observe(values["overfitting"], state.nimg, self.settings.augment)
        if self.world.leads and judged:
            values["kd_vgg19_quick"] = self.keep_if_best()
        self.points.append(Point(state.nimg, values))

    def overfitting(self, d_sign: float) -> float:
        """The signal that steers the augmentation."""
        if self.settings.augment.signal == "relativistic":
            return d_sign
        state, options = self.state, self.options
        rows = torch.arange(min(SIGNAL_IMAGES, len(self.data.holdout)))
        if not len(rows):
            raise GanpipeError(
                f"augment.signal=held_out, and {self.data.name} holds no image out; "
                "raise data.holdout_fraction, or use augment.signal=relativistic."
            )
        held_out, held_labels = self.data.holdout.rows(rows)
        real, labels = self.stream.images.batch(state.position, len(rows))
        z = latents(
            options.seed, SIGNAL, state.position, len(rows), self.settings.model.z_dim, self.compute.device
        )
        told = labels if self.classes else None

        def mean(images: Tensor, labels: Tensor) -> float:
            with torch.no_grad(), self.compute.autocast():
                return float(state.D(images, labels if self.classes else None).float().mean())

        state.D.eval()
        return r_v(
            mean(real, labels),
            mean(to_float(held_out.to(self.compute.device)), held_labels.to(self.compute.device)),
            mean(sample(state.G, z, told), labels),
        )

    def scheduled(self) -> dict[str, float]:
        """What the schedules say, where something is scheduled."""
        knobs, plain = self.knobs(), self.settings
        shown = {
            "lr_g": (knobs.g_lr, plain.training.lr_end != 1 or self.state.remedies.rollbacks),
            "gamma": (knobs.gamma, plain.loss.gamma_end != 1 or self.state.remedies.rollbacks),
            "augment_p": (knobs.augment, plain.augment.mode != "none"),
        }
        return {name: float(value or 0.0) for name, (value, wanted) in shown.items() if wanted}

    def keep_if_best(self) -> float:
        """The average's score; a better one than all before is kept as a checkpoint of its own."""
        state = self.state
        self.last_score = self.judge.score(state.G_ema, self.label_counts, state.nimg)
        better = state.best is None or self.last_score.value < state.best.value
        if math.isfinite(self.last_score.value) and better:
            state.best = self.last_score
            save_checkpoint(best_folder(self.checkpoints), f"{state.nimg:012d}", state.as_dict(), keep=1)
        return self.last_score.value

    def draw_grid(self) -> Path:
        """A grid of the average's images for the same latents as always, named by nimg."""
        nimg = self.state.nimg
        path = self.run_dir / "grids" / f"{nimg:012d}.png"
        pixels: Pixels = to_uint8(sample(self.state.G_ema, *self.fixed)).cpu().numpy()
        return save_png(grid(pixels), path, self.origin | {"kind": "training grid", "nimg": nimg})

    def save(self) -> None:
        """Hands the points over and writes a checkpoint; ruined weights would be kept as good, and are not."""
        self.absorb()
        self.share_sums()
        if bad := not_finite(self.state.pending):
            raise Broken(f"{', '.join(bad)} is no longer finite")
        if self.world.leads:
            self.outbox.points(self.points.copy())
            self.write_checkpoint()
        self.points.clear()
        self.world.wait()

    def write_checkpoint(self) -> None:
        """The state on the disk. After a rollback under another name: the file of the same nimg is not touched."""
        name = f"{len(self.state.remedies.rollbacks)}-{self.state.nimg:012d}"
        save_checkpoint(self.checkpoints, name, self.state.as_dict())

    def share_sums(self) -> None:
        """What processes have each for themselves becomes the mean of all: what a checkpoint of the first one restores."""
        if self.world.size == 1:
            return
        state = self.state
        names = sorted(state.pending)
        sums = torch.tensor(
            [state.pending[name] for name in names], dtype=torch.float64, device=self.compute.device
        )
        self.world.average_([sums])
        state.pending = dict(zip(names, sums.tolist(), strict=True))
        running = [b for m in (state.G, state.D, state.G_ema) for b in m.buffers() if b.is_floating_point()]
        if running:
            self.world.average_(running)

    def stop_if_asked(self) -> None:
        """Raises Interrupted after SIGINT or SIGTERM, with a checkpoint written."""
        if self.world.size > 1 and self.state.step % SIGNALS_EVERY_STEPS:
            return
        signum = self.world.agreed(self.stop.signum or 0)
        if signum:
            self.save()
            raise Interrupted(
                signum, _interrupted_sentence(signum, self.state.nimg, self.options.total_images)
            )

    def take_back(self, why: str) -> None:
        """Goes back to the newest good checkpoint by the rule of `rescue`.

        Raises:
            GanpipeError: that was done often enough.
        """
        state, broke_at = self.state, self.state.nimg
        remedies = state.remedies
        if len(remedies.rollbacks) >= MOST_ROLLBACKS:
            before = " ".join(
                f"({k}) at {r['broke_at_nimg']:,}: {r['why']}." for k, r in enumerate(remedies.rollbacks, 1)
            )
            raise GanpipeError(
                f"Training broke at {broke_at:,} images: {why}; it had been taken back {MOST_ROLLBACKS} times: {before} "
                f"Lower training.d_lr ({self.options.d_lr:g}) and training.g_lr ({self.options.g_lr:g}), or raise "
                f"loss.gamma ({self.settings.loss.gamma:g})."
            )
        self.running.clear()
        self.points.clear()
        saved = load_checkpoint(self.checkpoints, self.compute.device)
        if saved:
            state.restore(saved)
        else:
            self.state = state = self.fresh_state()
            self.phases = self.phases_of(state)
        # A checkpoint remembers the remedies of its own time; those of later rollbacks count.
        state.remedies = remedies
        state.health.narrow_points = state.health.lost_points = 0
        finite = "finite" not in why
        rollback = remedies.apply(why, finite, self.phases.penalty != "none", broke_at, state.nimg)
        log.warning(rollback.sentence())
        # From here on a kill resumes with the remedy, not with the break.
        self.world.wait()
        if self.world.leads:
            self.write_checkpoint()
        self.world.wait()

    def result(self, rate: float) -> TrainResult:
        """What is left at the end; the best average instead of the last where that is clearly worse."""
        state = self.state
        notes = [Rollback(**record).sentence() for record in state.remedies.rollbacks]
        notes += state.adaptive.notes()
        G_ema = state.G_ema
        if better := self.clearly_better():
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
            device=str(self.compute.device),
            precision=self.compute.precision,
            weights_sha256=weights_sha256(state.G, state.D, state.G_ema, state.g_opt, state.d_opt),
            grids=sorted((self.run_dir / "grids").glob("*.png")),
            labels=dict(zip(self.data.label_names, self.label_counts, strict=False)),
            notes=tuple(notes),
        )

    def clearly_better(self) -> dict[str, Any] | None:
        """The best checkpoint, where the last average is worse than it by more than both scores' errors."""
        best = self.state.best
        if best is None or best.nimg == self.state.nimg or not self.world.leads:
            return None
        last = self.last_score
        if last is None or last.nimg != self.state.nimg:
            last = self.judge.score(self.state.G_ema, self.label_counts, self.state.nimg)
        if not last.value - best.value > 2 * math.hypot(last.error, best.error):
            return None
        return load_checkpoint(best_folder(self.checkpoints), self.compute.device)

    def progress(self, first: int, started: float) -> Progress:
        """How far training is, with the two losses."""
        values = next((p.values for p in reversed(self.points) if "loss_d" in p.values), None)
        note = f"D {values['loss_d']:.2f}  G {values['loss_g']:.2f}" if values else ""
        total = self.options.total_images
        elapsed = time.monotonic() - started
        return Progress("train", min(self.state.nimg, total), total, "images", elapsed, first, note)


SOMETIMES = ("r1", "r2", "gp")  # stats that lazy penalties have in some steps only
STEPS = "_steps"


def due(every: int, before: int, now: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]."""
    return now // every > before // every


def _interrupted_sentence(signum: int, nimg: int, total: int) -> str:
    name = signal.Signals(signum).name
    return f"{name}: stopped at {nimg:,} of {total:,} images with a checkpoint; the same command goes on from there."
