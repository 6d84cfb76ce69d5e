"""Generative adversarial networks as an `Algorithm` (Goodfellow et al. 2014, arXiv 1406.2661).

One step is two phases: D learns to tell real images from G(z), then G learns to be taken for real (`gan_step`). This
file adds what only a GAN has: its schedules, adaptive augmentation (`ada`), and what a rollback changes (`gan_health`
sees when G or D has failed).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ganpipe.compute.device import should_compile
from ganpipe.compute.distributed import Distributed
from ganpipe.compute.random import SIGNAL, latents
from ganpipe.errors import GanpipeError
from ganpipe.imaging.tensors import to_float
from ganpipe.models.progan import Growing
from ganpipe.models.registry import MODELS, build_gan, first_layers, sample
from ganpipe.training.ada import AdaState, r_v
from ganpipe.training.algorithm import Algorithm, Phase, Scalars, TrainingContext
from ganpipe.training.divergence import Divergence, Remedies, Remedy, is_early
from ganpipe.training.gan_batch import Batch, GanBatches
from ganpipe.training.gan_health import GanHealth
from ganpipe.training.gan_step import GanStep, adam
from ganpipe.training.path_length import check_path_length
from ganpipe.training.schedules import ScheduledValues, values_at

SIGNAL_IMAGES = 256  # of each kind, for the held-out signal of overfitting


class GanAlgorithm(Algorithm):
    """G and D, trained against each other."""

    exported = "G"
    progress_scalars: ClassVar = {"D": "loss_d", "G": "loss_g"}
    lazy_scalars = ("r1", "r2", "gp", "path_length", "path_penalty")

    def __init__(self, context: TrainingContext) -> None:
        settings, compute = context.settings, context.compute
        self.context, self.settings, self.compute = context, settings, compute
        self._check_signal()
        check_path_length(settings)
        self.frozen = {"D": frozenset()}
        gan = build_gan(settings.model, context.data.shape, settings.training.seed, context.classes)
        G, D = (compute.place(context.distributed.convert_batch_norm(network)) for network in (gan.G, gan.D))
        compiled = should_compile(settings.training, settings.model.name, (G, D), compute)
        if context.warm and (count := settings.training.freeze_d_layers):
            self.frozen = {"D": first_layers(D, count, context.data.shape, context.classes)}
        for network in (G, D):
            if isinstance(network, Growing):
                network.begin_growth(round(settings.training.growth_share * settings.training.total_images))
        self._use(G, D, context, compiled)
        self.health, self.ada = GanHealth(), AdaState()
        loss = settings.loss
        path_length = loss.path_length_every if loss.path_length_weight else 1
        self.lazy_cycle = math.lcm(1 if self.gan_step.penalty == "none" else loss.penalty_every, path_length)

    def _use(self, G: torch.nn.Module, D: torch.nn.Module, context: TrainingContext, compiled: bool) -> None:
        """Fresh optimizers for these networks, the step over both, and the batches."""
        t = self.settings.training
        self.networks = {"G": G, "D": D}
        self.optimizers = {"G": adam(G, t.g_lr, t), "D": adam(D, t.d_lr, t)}
        self.gan_step = GanStep(
            G,
            D,
            self.optimizers["G"],
            self.optimizers["D"],
            self.settings,
            self.compute,
            context.distributed,
            compiled,
            self.frozen["D"],
        )
        self.batches = GanBatches(
            context.data,
            self.settings,
            context.classes,
            self.compute.device,
            context.distributed,
            self.gan_step.values_per_image(context.data.shape),
        )

    def probe_copy(self) -> GanAlgorithm:
        alone = copy.copy(self)
        G, D = copy.deepcopy((self.networks["G"], self.networks["D"]))
        context = replace(self.context, distributed=Distributed())
        alone._use(G, D, context, compiled=False)  # every batch size would be compiled
        return alone

    def set_progress(self, nimg: int) -> None:
        """G and D have one size: a network that starts fresh beside a grown one grows to it at once."""
        growing = [network for network in self.networks.values() if isinstance(network, Growing)]
        for network in growing:
            network.saved_progress = max(other.saved_progress for other in growing)
        super().set_progress(nimg)

    def phases(self, nimg: int, total_images: int) -> tuple[Phase, ...]:
        G = self.networks["G"]
        if not isinstance(G, Growing):
            return super().phases(nimg, total_images)
        starts = G.phase_starts()
        ends = [*starts[1:], total_images]
        return tuple(
            Phase(max(0, end - max(start, nimg)), (start + end) // 2)
            for start, end in zip(starts, ends, strict=True)
        )

    def batch(self, position: int, count: int, step: int) -> Batch:
        return self.batches.batch(position, count, step)

    def values_at(self, nimg: int, remedies: Remedies) -> ScheduledValues:
        lr = remedies.scale("lr")
        return values_at(nimg, self.settings, self.context.warm).changed(
            lr, lr * remedies.scale("d_lr"), remedies.scale("gamma"), self.ada.p
        )

    def step(self, batch: Batch, values: ScheduledValues, number: int, microbatch_images: int = 0) -> Scalars:
        return self.gan_step.step(batch, values, number, microbatch_images)

    def diverged(self, means: Mapping[str, float], nimg: int) -> Divergence | None:
        early, has_scale = is_early(nimg, self.settings.training), self.gan_step.loss.has_scale
        return super().diverged(means, nimg) or self.health.observe(means, early, has_scale)

    @property
    def is_suspect(self) -> bool:
        return self.health.is_suspect

    def reset_health(self) -> None:
        self.health.in_a_row.clear()

    def remedy(self, divergence: Divergence) -> Remedy:
        """Exploded: half the learning rates. Collapsed: twice γ, or without a gradient penalty half D's rate."""
        if divergence.exploded:
            return Remedy("lr", 0.5, "halved both learning rates (now {:g} of the settings')")
        if self.gan_step.penalty != "none":
            return Remedy("gamma", 2.0, "doubled γ (now {:g} times the settings')")
        return Remedy("d_lr", 0.5, "halved D's learning rate (now {:g} of the settings')")

    def advice(self) -> str:
        t, loss = self.settings.training, self.settings.loss
        if 0 in (t.d_lr, t.g_lr):
            still, other = ("D", "d_lr") if t.d_lr == 0 else ("G", "g_lr")
            return f"training.{other} is 0, so {still} learns nothing: raise it."
        return f"Lower training.d_lr ({t.d_lr:g}) and training.g_lr ({t.g_lr:g}), or raise loss.gamma ({loss.gamma:g})."

    def derived_scalars(
        self, means: dict[str, float], nimg: int, position: int, remedies: Remedies
    ) -> dict[str, float]:
        derived = {"d_gap": means["d_real"] - means["d_fake"]} | self._scheduled_scalars(nimg, remedies)
        if self.settings.augment.mode == "adaptive":
            derived["overfitting"] = self._overfitting(means["d_sign"], position)
            self.ada.observe(derived["overfitting"], nimg, self.settings.augment)
        return derived

    def _scheduled_scalars(self, nimg: int, remedies: Remedies) -> dict[str, float]:
        """The scheduled values that change during this training."""
        settings, values = self.settings, self.values_at(nimg, remedies)
        rolled_back = bool(remedies.rollbacks)
        changing = {
            "lr_g": (values.g_lr, settings.training.lr_end != 1 or rolled_back),
            "gamma": (values.gamma, settings.loss.gamma_end != 1 or rolled_back),
            "augment_p": (values.augment or 0.0, settings.augment.mode != "none"),
        }
        return {name: value for name, (value, changes) in changing.items() if changes}

    def _overfitting(self, d_sign: float, position: int) -> float:
        """The signal that steers adaptive augmentation: the mean over all processes."""
        signal = torch.tensor([self._local_overfitting(d_sign, position)], device=self.compute.device)
        self.context.distributed.average_([signal])
        return signal.item()

    def _signal_rows(self) -> Tensor:
        """Held-out images for the signal of overfitting; a class-conditional D can judge only those with a label."""
        labels = self.context.data.holdout.labels
        usable = labels >= 0 if self.context.classes else torch.ones_like(labels, dtype=torch.bool)
        return usable.nonzero()[:SIGNAL_IMAGES, 0]

    def _check_signal(self) -> None:
        augment = self.settings.augment
        if augment.mode == "adaptive" and augment.signal == "held_out" and not len(self._signal_rows()):
            kind = " with a label that training images have" if self.context.classes else ""
            raise GanpipeError(
                f"augment.signal=held_out, and {self.context.data.name} holds no image out{kind}; "
                "raise data.holdout_fraction, or use augment.signal=relativistic."
            )

    def _local_overfitting(self, d_sign: float, position: int) -> float:
        """This process's signal: from the pairs of the last steps, or from held-out images."""
        if self.settings.augment.signal == "relativistic":
            return d_sign
        data, device, G, D = self.context.data, self.compute.device, self.networks["G"], self.networks["D"]
        rows = self._signal_rows()
        held_out, held_labels = data.holdout.rows(rows)
        real, labels = self.batches.images.batch(position, len(rows))
        z = latents(
            self.settings.training.seed, SIGNAL, position, len(rows), self.settings.model.z_dim, device
        )

        def mean_logit(images: Tensor, labels: Tensor) -> float:
            with torch.no_grad(), self.compute.autocast():
                return float(D(images, labels if self.context.classes else None).float().mean())

        D.eval()
        return r_v(
            mean_logit(real, labels),
            mean_logit(to_float(held_out.to(device)), held_labels.to(device)),
            mean_logit(sample(G, z, labels if self.context.classes else None), labels),
        )

    def notes(self) -> list[str]:
        unlabeled, wanted = self.context.data.unlabeled, self.settings.model.conditional != "no"
        if not (unlabeled and wanted and MODELS[self.settings.model.name].conditional):
            return self.ada.notes()
        few = f"{unlabeled:,} of {len(self.context.data.train):,} training images"
        return [f"The model is not class-conditional, because {few} have no label.", *self.ada.notes()]

    def state_dict(self) -> dict[str, dict[str, Any]]:
        path_length = self.gan_step.path_length
        return {
            "health": asdict(self.health),
            "ada": dict(vars(self.ada)),
            "path_length": path_length.state_dict() if path_length else {},
        }

    def load_state_dict(self, saved: dict[str, dict[str, Any]]) -> None:
        self.health, self.ada = GanHealth(**saved["health"]), AdaState(**saved["ada"])
        if self.gan_step.path_length:
            self.gan_step.path_length.load_state_dict(saved["path_length"])
