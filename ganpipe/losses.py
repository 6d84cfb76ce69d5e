"""The adversarial losses, one row each, and the zero-centred gradient penalty.

All take logits `[N]` in float32 and return a mean over the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class AdversarialLoss:
    """What D minimises over real and fake logits, and what G minimises over fake logits."""

    d_loss: Callable[[Tensor, Tensor], Tensor]
    g_loss: Callable[[Tensor], Tensor]


def _bce(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


LOSSES: dict[str, AdversarialLoss] = {
    # The lesson's two phases: D learns 1 for real and 0 for fake; G learns to be called 1.
    "bce": AdversarialLoss(
        d_loss=lambda real, fake: _bce(real, 1.0) + _bce(fake, 0.0),
        g_loss=lambda fake: _bce(fake, 1.0),
    ),
    # Non-saturating logistic (Goodfellow et al. 2014, section 3), the same by softplus(-l) = -log sigmoid(l).
    # Kept as a row of its own because it comes with R1 and without batch norm in D.
    "logistic": AdversarialLoss(
        d_loss=lambda real, fake: F.softplus(-real).mean() + F.softplus(fake).mean(),
        g_loss=lambda fake: F.softplus(-fake).mean(),
    ),
}


def r1_penalty(D: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """½·E‖∇D(x)‖² at real images: Mescheder et al. 2018 (arXiv 1801.04406), eq. 9, without γ.

    The squared norm is summed over C, H, W and averaged over the batch; the graph is kept, so that the
    result can be minimised.
    """
    real = real.detach().requires_grad_(True)
    logits = D(real)
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return 0.5 * gradient.float().square().flatten(1).sum(1).mean()
