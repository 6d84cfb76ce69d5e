"""What a training plays with: the data, the players and their phases, the schedules, and the state that they change."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ganpipe.compute.checkpoints import load_checkpoint
from ganpipe.compute.device import should_compile, training_compute, tune
from ganpipe.compute.distributed import Distributed, check_batch_divides
from ganpipe.compute.random import GRID, SIGNAL, draw_labels, latents
from ganpipe.data.shards import PreparedData
from ganpipe.errors import GanpipeError
from ganpipe.imaging.tensors import to_float
from ganpipe.models.registry import build_gan, count_classes, count_parameters, sample
from ganpipe.settings.schema import Settings
from ganpipe.training.ada import r_v
from ganpipe.training.batches import BatchStream
from ganpipe.training.gan import GanAlgorithm, adam
from ganpipe.training.probe import PROBE_FILE, ProbeResult, probe_steps, read_probe
from ganpipe.training.schedules import ScheduledValues, values_at
from ganpipe.training.state import State
from ganpipe.training.validation import Validator

log = logging.getLogger(__name__)

GRID_IMAGES = 64
SIGNAL_IMAGES = 256  # of each kind, for the held-out signal of overfitting


class TrainingSetup:
    """All that a step needs. It begins where the newest checkpoint in `run_dir` is, or at the start."""

    def __init__(self, data: PreparedData, settings: Settings, run_dir: Path, world: Distributed) -> None:
        self.data, self.settings, self.options = data, settings, settings.training
        self.run_dir, self.world = run_dir, world
        self.compute = training_compute(self.options)
        tune(self.compute, self.options.deterministic)
        self.checkpoints = run_dir / "checkpoints"
        self.classes = count_classes(settings.model, data.label_names, data.labelled)
        self.label_counts = data.label_counts if self.classes else ()
        check_batch_divides(self.options.batch_images, world.size)
        self.stream = BatchStream(data, settings, self.compute.device, world)
        self.judge = Validator(data, settings, self.compute)
        fixed = latents(self.options.seed, GRID, 0, GRID_IMAGES, settings.model.z_dim, self.compute.device)
        labels = draw_labels(self.label_counts, self.options.seed, 0, GRID_IMAGES, self.compute.device)
        self.fixed = (fixed, labels)
        self.state = self.fresh_state()
        if saved := load_checkpoint(self.checkpoints, self.compute.device):
            self.state.restore(saved)
            log.info(
                "Going on from %s of %s images.", f"{self.state.nimg:,}", f"{self.options.total_images:,}"
            )
        self.compiled = should_compile(settings, self.state.G, self.state.D, self.compute)
        self.phases = self.phases_of(self.state)
        self.first_nimg = self.state.nimg

    def fresh_state(self) -> State:
        """New players, average and optimisers."""
        options, settings = self.options, self.settings
        gan = build_gan(settings.model, self.data.shape, options.seed, self.classes)
        G, D = (self.compute.place(self.world.convert_batch_norm(player)) for player in (gan.G, gan.D))
        log.info(
            "%s: G has %s weights, D %s%s.",
            settings.model.name,
            f"{count_parameters(G):,}",
            f"{count_parameters(D):,}",
            f"; both are told {self.classes} labels" if self.classes else "",
        )
        G_ema = copy.deepcopy(G).requires_grad_(False)
        return State(G, D, G_ema, adam(G, options.g_lr, options), adam(D, options.d_lr, options))

    def restart(self) -> State:
        """Forgets all that was played."""
        self.state = self.fresh_state()
        self.phases = self.phases_of(self.state)
        return self.state

    def phases_of(self, state: State) -> GanAlgorithm:
        """The phases that move this state."""
        return GanAlgorithm(
            state.G, state.D, state.g_opt, state.d_opt, self.settings, self.compute, self.world, self.compiled
        )

    def scheduled_values(self) -> ScheduledValues:
        """The schedules of this moment, with what rollbacks and the augmentation's controller have changed."""
        r = self.state.remedies
        return values_at(self.state.nimg, self.settings).changed(
            r.lr_scale, r.lr_scale * r.d_lr_scale, r.gamma_scale, self.state.adaptive.p
        )

    def scheduled(self) -> dict[str, float]:
        """What the schedules say, where something is scheduled."""
        scheduled_values, plain = self.scheduled_values(), self.settings
        shown = {
            "lr_g": (scheduled_values.g_lr, plain.training.lr_end != 1 or self.state.remedies.rollbacks),
            "gamma": (scheduled_values.gamma, plain.loss.gamma_end != 1 or self.state.remedies.rollbacks),
            "augment_p": (scheduled_values.augment, plain.augment.mode != "none"),
        }
        return {name: float(value or 0.0) for name, (value, wanted) in shown.items() if wanted}

    def probe_or_load(self) -> ProbeResult:
        """The plan of this run; made from steps of a copy of the state, so that nothing of the game has happened."""
        options, world = self.options, self.world
        path = self.run_dir / PROBE_FILE
        each = options.batch_images // world.size
        if world.is_main and not path.exists():
            probe_steps(path, each, options.microbatch_images, self.compute, self.probe())
        world.wait()
        plan = read_probe(path)
        if self.state.nimg == self.first_nimg:
            left = options.total_images - self.state.nimg
            where = f"{self.compute.device} in {self.compute.precision}"
            log.info(plan.sentence(left, options.batch_images, world.size, where))
        return plan

    def probe(self) -> Callable[[int], None]:
        """A step of so many images on copies of the players. Uncompiled: each number of images would be compiled."""
        options = self.options
        G, D = copy.deepcopy((self.state.G, self.state.D))
        phases = GanAlgorithm(
            G, D, adam(G, options.g_lr, options), adam(D, options.d_lr, options), self.settings, self.compute
        )
        alone = BatchStream(self.data, self.settings, self.compute.device, Distributed())

        def step(images: int) -> None:
            phases.step(alone.batch(0, images, 0), self.scheduled_values(), 0)

        return step

    def overfitting(self, d_sign: float) -> float:
        """The signal that steers the augmentation, the mean over all processes."""
        signal = torch.tensor([self.local_overfitting(d_sign)], device=self.compute.device)
        self.world.average_([signal])
        return signal.item()

    def local_overfitting(self, d_sign: float) -> float:
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
