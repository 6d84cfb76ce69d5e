"""The adversarial losses, one row each.

Logits are `[N]` or `[N, P]` (P patches per image) in float32, larger for what D takes to be real. Every loss is a mean
over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.settings.schema import LossSettings


@dataclass(frozen=True)
class AdversarialLoss:
    """D's loss of (real, fake) logits and G's loss of (fake, real) logits.

    `penalty` is the choice of `loss.penalty=auto`. `pairs`: G's loss needs real logits, too. `has_scale`: it is about
    1 for untrained networks, and never 100 while training works.
    """

    d_loss: Callable[[Tensor, Tensor], Tensor]
    g_loss: Callable[[Tensor, Tensor], Tensor]
    penalty: str = "none"
    pairs: bool = False
    has_scale: bool = True


def _bce(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def bce(real_label: float = 1.0) -> AdversarialLoss:
    """Binary cross-entropy on 0/1 labels: D learns `real_label` for real and 0 for fake, G learns to be labeled 1.

    A label below 1 is one-sided smoothing (Salimans et al. 2016, arXiv 1606.03498, section 3.4).
    """
    return AdversarialLoss(
        d_loss=lambda real, fake: _bce(real, real_label) + _bce(fake, 0.0),
        g_loss=lambda fake, real: _bce(fake, 1.0),
    )


LOSSES: dict[str, AdversarialLoss] = {
    "bce": bce(),
    # Non-saturating (Goodfellow et al. 2014, section 3): the same as bce by softplus(-l) = -log sigmoid(l), with R1.
    "logistic": AdversarialLoss(
        d_loss=lambda real, fake: F.softplus(-real).mean() + F.softplus(fake).mean(),
        g_loss=lambda fake, real: F.softplus(-fake).mean(),
        penalty="r1",
    ),
    # Lim & Ye 2017 (arXiv 1705.02894), as used by SAGAN and BigGAN.
    "hinge": AdversarialLoss(
        d_loss=lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(),
        g_loss=lambda fake, real: -fake.mean(),
    ),
    # Mao et al. 2016 (arXiv 1611.04076), eq. 9: labels 1, 0 and 1.
    "lsgan": AdversarialLoss(
        d_loss=lambda real, fake: 0.5 * ((real - 1).square().mean() + fake.square().mean()),
        g_loss=lambda fake, real: 0.5 * (fake - 1).square().mean(),
    ),
    # Gulrajani et al. 2017 (arXiv 1704.00028), eq. 3.
    "wgan-gp": AdversarialLoss(
        d_loss=lambda real, fake: fake.mean() - real.mean(),
        g_loss=lambda fake, real: -fake.mean(),
        penalty="interpolated",
        has_scale=False,
    ),
    # Relativistic pairing (Jolicoeur-Martineau 2018; Huang et al. 2025, arXiv 2501.05441, eq. 2).
    "rpgan": AdversarialLoss(
        d_loss=lambda real, fake: F.softplus(fake - real).mean(),
        g_loss=lambda fake, real: F.softplus(real - fake).mean(),
        penalty="both",
        pairs=True,
    ),
}


def select_loss(settings: LossSettings) -> AdversarialLoss:
    """The row that the settings choose, with their label smoothing."""
    if settings.name == "bce" and settings.label_smoothing:
        return bce(1.0 - settings.label_smoothing)
    return LOSSES[settings.name]
