"""One step of the game: the two phases, each setting every condition that it needs itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganpipe.config import LossSettings, TrainingSettings
from ganpipe.losses import LOSSES, r1_penalty
from ganpipe.training.device import Compute

Stats = dict[str, Tensor]


def adam(module: nn.Module, lr: float, settings: TrainingSettings) -> torch.optim.Adam:
    """Adam with the settings' betas, in one fused pass over all weights."""
    return torch.optim.Adam(module.parameters(), lr, betas=(settings.beta1, settings.beta2), fused=True)


@dataclass(frozen=True)
class Phases:
    """The two phases of a step, over fixed players and optimisers."""

    G: nn.Module
    D: nn.Module
    g_opt: torch.optim.Optimizer
    d_opt: torch.optim.Optimizer
    loss: LossSettings
    skip_d_below: float
    compute: Compute

    def step(self, real: Tensor, z: Tensor, number: int) -> Stats:
        """D learns to tell `real: [N, C, H, W]` from G(z), then G learns to be taken for real.

        G(z) is computed once and used by both phases. Returns scalars that stay on the device.
        """
        self.G.train()
        self.D.train()
        self.G.requires_grad_(True)
        with self.compute.autocast():
            fake = self.G(z)
        return self._d_phase(real, fake.detach(), number) | self._g_phase(fake)

    def _d_phase(self, real: Tensor, fake: Tensor, number: int) -> Stats:
        self.D.requires_grad_(True)
        self.d_opt.zero_grad(set_to_none=True)
        with self.compute.autocast():
            real_logits, fake_logits = self.D(real).float(), self.D(fake).float()
            adversarial = LOSSES[self.loss.name].d_loss(real_logits, fake_logits)
            total, stats = adversarial, {}
            if self._penalised(number):
                penalty = r1_penalty(lambda images: self.D(images).float(), real)
                total = total + self.loss.r1_gamma * self.loss.r1_every * penalty
                stats["r1"] = penalty.detach()
        total.backward()
        skipped = bool(self.skip_d_below > 0 and adversarial.item() < self.skip_d_below)
        if not skipped:
            self.d_opt.step()
        return stats | {
            "loss_d": adversarial.detach(),
            "d_real": real_logits.detach().mean(),
            "d_fake": fake_logits.detach().mean(),
            "d_skipped": torch.tensor(float(skipped)),
        }

    def _g_phase(self, fake: Tensor) -> Stats:
        self.D.requires_grad_(False)  # its weights' gradients would be thrown away
        self.g_opt.zero_grad(set_to_none=True)
        with self.compute.autocast():
            loss = LOSSES[self.loss.name].g_loss(self.D(fake).float())
        loss.backward()
        self.g_opt.step()
        return {"loss_g": loss.detach()}

    def _penalised(self, number: int) -> bool:
        return self.loss.name != "bce" and self.loss.r1_gamma > 0 and number % self.loss.r1_every == 0


@torch.no_grad()
def update_ema(G_ema: nn.Module, G: nn.Module, batch_images: int, nimg: int, halflife_images: int) -> None:
    """Moves the average towards G: half of the old is left after `halflife_images` images.

    The half-life grows with nimg at first (5% of it), so that the start is forgotten, as in StyleGAN2-ADA.
    Batch norm's running statistics are copied: they are averages already.
    """
    halflife = min(halflife_images, 0.05 * nimg)
    keep = 0.5 ** (batch_images / halflife) if halflife > 0 else 0.0
    torch._foreach_lerp_(list(G_ema.parameters()), list(G.parameters()), 1.0 - keep)
    for average, latest in zip(G_ema.buffers(), G.buffers(), strict=True):
        average.copy_(latest)
