"""The variational autoencoder as an `Algorithm` (Kingma & Welling 2014, arXiv 1312.6114).

The encoder gives q(z|x) = N(μ, diag σ²) for an image x, and the decoder redraws x from a z of it. Minimized is the negative
evidence lower bound −log p(x|z) + β·KL(q(z|x) ‖ N(0, I)), with one z per image (eq. 10 of the paper; β ≠ 1: Higgins et al.
2017, ICLR). The decoder is what is averaged and exported: images of z ~ N(0, I) are the model's.

Departure: p(x|z) = N(decoder(z), s²·I) with the s² that is likeliest for each batch, its mean square error (Rybkin et al.
2021, arXiv 2006.13202). A fixed s would be one more weight between the two terms, to be found for each dataset.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ganpipe.compute.distributed import Distributed
from ganpipe.compute.random import LATENTS, latents
from ganpipe.data.anchor import reference_rows
from ganpipe.errors import GanpipeError
from ganpipe.imaging.grid import grid
from ganpipe.imaging.tensors import to_float, to_uint8
from ganpipe.models.registry import build_networks, sample
from ganpipe.training.algorithm import Algorithm, Scalars, TrainingContext
from ganpipe.training.batches import ImageBatches
from ganpipe.training.divergence import Divergence, Remedies, Remedy, is_early
from ganpipe.training.gan_batch import Batch
from ganpipe.training.gan_step import adam
from ganpipe.training.schedules import ScheduledValues, values_at

log = logging.getLogger(__name__)

ROUNDING_VARIANCE = (2 / 255) ** 2 / 12  # of rounding values in [-1, 1] to 8 bits: s² is never smaller
COLLAPSED_KL, COLLAPSED_POINTS = 1.0, 4  # nats per image, less at so many points of the curve in a row
RECONSTRUCTIONS = "reconstructions"  # folder of their pictures in the run folder
SHOWN_IMAGES, SHOWN_COLUMNS = 32, 8  # held-out images in a picture, each left of its reconstruction


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, diag σ²) ‖ N(0, I)) in nats, `[N, z_dim]` → `[N]` (appendix B of the paper)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def gaussian_nll(images: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """−log N(images; means, s²·I) in nats, averaged over the images `[N, C, H, W]`; and s, the likeliest for them all."""
    mse = F.mse_loss(means, images)
    variance = mse.detach().clamp_min(ROUNDING_VARIANCE)  # constant: at the likeliest s² its gradient is 0
    nll = 0.5 * images[0].numel() * ((2 * math.pi * variance).log() + mse / variance)
    return nll, variance.sqrt()


@dataclass
class PosteriorHealth:
    """Detects posterior collapse from the points of the loss curve; part of every checkpoint.

    Collapsed: the KL divergence is below COLLAPSED_KL at COLLAPSED_POINTS points in a row, after the early ones. The
    encoder then says nearly the same of every image, and the decoder draws nearly the same image from every z.
    """

    low_points: int = 0
    kl: float = 0.0  # at the last point

    @property
    def is_collapsed(self) -> bool:
        """Whether the posterior is collapsed now."""
        return self.low_points >= COLLAPSED_POINTS

    def observe(self, kl: float, is_early: bool) -> None:
        """Takes in a point of the curve."""
        self.kl = kl
        self.low_points = 0 if is_early or kl >= COLLAPSED_KL else self.low_points + 1

    def sentence(self, beta: float) -> str:
        """For the log and the report."""
        return (
            f"Posterior collapse: the KL divergence is {self.kl:.2g} nats per image, so that the decoder ignores its latents. "
            f"Lower loss.beta ({beta:g}), or train longer."
        )


class VaeAlgorithm(Algorithm):
    """An encoder and a decoder, trained together."""

    exported = "decoder"
    progress_scalars: ClassVar = {"recon": "recon", "KL": "kl"}

    def __init__(self, context: TrainingContext) -> None:
        settings, compute = context.settings, context.compute
        self.context, self.settings, self.compute = context, settings, compute
        if count := settings.training.freeze_d_layers:
            raise GanpipeError(
                f"training.freeze_d_layers is {count}, and model.name=vae has no D; set it to 0, or choose a GAN."
            )
        decoder, encoder = (
            compute.place(context.distributed.convert_batch_norm(network))
            for network in build_networks(settings.model, context.data.shape, settings.training.seed)
        )
        t = settings.training
        self.images = ImageBatches(context.data.train, t.seed, t.horizontal_flip, compute.device)
        self.health = PosteriorHealth()
        self._use(encoder, decoder)

    def _use(self, encoder: nn.Module, decoder: nn.Module) -> None:
        """Fresh optimizers for these networks."""
        t = self.settings.training
        self.networks = {"encoder": encoder, "decoder": decoder}
        self.optimizers = {name: adam(network, t.g_lr, t) for name, network in self.networks.items()}

    def probe_copy(self) -> VaeAlgorithm:
        alone = copy.copy(self)
        alone.context = replace(self.context, distributed=Distributed())
        alone._use(*copy.deepcopy((self.networks["encoder"], self.networks["decoder"])))
        return alone

    def batch(self, position: int, count: int, step: int) -> Batch:
        """Images, and as `z` the standard normal noise that makes a latent of each mean and variance."""
        part, t = self.context.distributed.share(count), self.settings.training
        images, _ = self.images.batch(position, count, part)
        z_dim = self.settings.model.z_dim
        return Batch(images, latents(t.seed, LATENTS, position, count, z_dim, self.compute.device)[part])

    def values_at(self, nimg: int, remedies: Remedies) -> ScheduledValues:
        lr = remedies.scale("lr")
        return values_at(nimg, self.settings, self.context.warm).changed(lr, lr, 1.0, 0.0)

    def step(self, batch: Batch, values: ScheduledValues, number: int, microbatch_images: int = 0) -> Scalars:
        """One optimizer step of both networks. Each part of a batch has an s of its own, as it has its own batch norm."""
        for name, optimizer in self.optimizers.items():
            self.networks[name].train().requires_grad_(True)
            for group in optimizer.param_groups:
                group["lr"], group["betas"] = values.g_lr, (self.settings.training.beta1, values.beta2)
            optimizer.zero_grad()
        means: Scalars = {}
        for part in batch.split(microbatch_images or len(batch)):
            share, scalars = len(part) / len(batch), self.losses(part)
            (share * scalars["loss"]).backward()
            for name, value in scalars.items():
                means[name] = means.get(name, torch.zeros_like(value)) + share * value.detach()
        weights = [weight for network in self.networks.values() for weight in network.parameters()]
        self.context.distributed.average_([weight.grad for weight in weights if weight.grad is not None])
        for optimizer in self.optimizers.values():
            optimizer.step()
        return means

    def losses(self, part: Batch) -> Scalars:
        """`loss` = `recon` + β·`kl` in nats per image, and s as `sigma`, for pixels in [-1, 1].

        With β = 0 the latent is the mean, without noise: an autoencoder.
        """
        beta = self.settings.loss.beta
        with self.compute.autocast():
            mean, log_variance = (x.float() for x in self.networks["encoder"](part.real))
            z = mean + (0.5 * log_variance).exp() * part.z if beta else mean
            decoded = self.networks["decoder"](z).float()
        recon, sigma = gaussian_nll(part.real, decoded)
        kl = kl_divergence(mean, log_variance).mean()
        loss = recon + beta * kl if beta else recon
        return {"loss": loss, "recon": recon, "kl": kl, "sigma": sigma}

    def pictures(self, ema: nn.Module) -> dict[str, Image.Image]:
        """Held-out images, each left of what the average decoder makes of its mean; none without held-out images."""
        holdout, rows = self.context.data.holdout, reference_rows(self.context.data, SHOWN_IMAGES)
        if not len(rows):
            return {}
        real = to_float(holdout.rows(rows)[0].to(self.compute.device))
        with torch.no_grad():
            mean, _ = self.networks["encoder"].eval()(real)
        pairs = torch.stack([real, sample(ema, mean)], 1).flatten(0, 1)
        return {RECONSTRUCTIONS: grid(to_uint8(pairs).cpu().numpy(), SHOWN_COLUMNS)}

    def diverged(self, means: Mapping[str, float], nimg: int) -> Divergence | None:
        """Only what is not finite: a posterior collapse is warned about, because a rollback would not undo it."""
        if self.settings.loss.beta:
            was_collapsed = self.health.is_collapsed
            self.health.observe(means["kl"], is_early(nimg, self.settings.training))
            if self.health.is_collapsed and not was_collapsed:
                log.warning(self.health.sentence(self.settings.loss.beta))
        return super().diverged(means, nimg)

    def reset_health(self) -> None:
        self.health = PosteriorHealth()

    def remedy(self, divergence: Divergence) -> Remedy:
        return Remedy("lr", 0.5, "halved the learning rate (now {:g} of the settings')")

    def advice(self) -> str:
        return f"Lower training.g_lr ({self.settings.training.g_lr:g})."

    def derived_scalars(
        self, means: dict[str, float], nimg: int, position: int, remedies: Remedies
    ) -> dict[str, float]:
        changes = self.settings.training.lr_end != 1 or remedies.rollbacks
        return {"lr_g": self.values_at(nimg, remedies).g_lr} if changes else {}

    def notes(self) -> list[str]:
        beta = self.settings.loss.beta
        if not beta:
            return [
                "loss.beta is 0: an autoencoder. Nothing makes its latents normal, so its samples mean nothing."
            ]
        return [self.health.sentence(beta)] if self.health.is_collapsed else []

    def state_dict(self) -> dict[str, dict[str, Any]]:
        return {"health": asdict(self.health)}

    def load_state_dict(self, saved: dict[str, dict[str, Any]]) -> None:
        self.health = PosteriorHealth(**saved["health"])
