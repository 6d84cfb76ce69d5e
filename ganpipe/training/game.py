"""What a training plays with: the data, the players and their phases, the schedules, and the state that they change."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ganpipe.data.shards import PreparedData
from ganpipe.errors import GanpipeError
from ganpipe.models import build_gan, classes_of, parameters_of, sample
from ganpipe.settings.schema import Settings
from ganpipe.tensors import to_float
from ganpipe.training.adapt import r_v
from ganpipe.training.checkpoint import load_checkpoint
from ganpipe.training.device import compiles, training_compute, tune
from ganpipe.training.judge import Judge
from ganpipe.training.parallel import World, check_share
from ganpipe.training.plan import PLAN, Plan, make_plan, read_plan
from ganpipe.training.schedule import Knobs, knobs_at
from ganpipe.training.state import State
from ganpipe.training.step import Phases, adam
from ganpipe.training.stream import GRID, SIGNAL, Stream, drawn_labels, latents

log = logging.getLogger(__name__)

GRID_IMAGES = 64
SIGNAL_IMAGES = 256  # of each kind, for the held-out signal of overfitting


class Game:
    """All that a step needs. It begins where the newest checkpoint in `run_dir` is, or at the start."""

    def __init__(self, data: PreparedData, settings: Settings, run_dir: Path, world: World) -> None:
        self.data, self.settings, self.options = data, settings, settings.training
        self.run_dir, self.world = run_dir, world
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
        self.first_nimg = self.state.nimg

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

    def begin_anew(self) -> State:
        """Forgets all that was played."""
        self.state = self.fresh_state()
        self.phases = self.phases_of(self.state)
        return self.state

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

    def scheduled(self) -> dict[str, float]:
        """What the schedules say, where something is scheduled."""
        knobs, plain = self.knobs(), self.settings
        shown = {
            "lr_g": (knobs.g_lr, plain.training.lr_end != 1 or self.state.remedies.rollbacks),
            "gamma": (knobs.gamma, plain.loss.gamma_end != 1 or self.state.remedies.rollbacks),
            "augment_p": (knobs.augment, plain.augment.mode != "none"),
        }
        return {name: float(value or 0.0) for name, (value, wanted) in shown.items() if wanted}

    def planned(self) -> Plan:
        """The plan of this run; made from steps of a copy of the state, so that nothing of the game has happened."""
        options, world = self.options, self.world
        path = self.run_dir / PLAN
        each = options.batch_images // world.size
        if world.leads and not path.exists():
            make_plan(path, each, options.microbatch_images, self.compute, self.probe())
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

    def overfitting(self, d_sign: float) -> float:
        """The signal that steers the augmentation, the mean over all processes."""
        signal = torch.tensor([self.own_overfitting(d_sign)], device=self.compute.device)
        self.world.average_([signal])
        return signal.item()

    def own_overfitting(self, d_sign: float) -> float:
        """This process's signal: of the pairs of the last steps, or of held-out images."""
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
