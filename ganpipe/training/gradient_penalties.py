"""Gradient penalties: R1 and R2 (exact or by finite difference), and WGAN-GP's interpolated penalty."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ganpipe.models.convolutions import input_gradient
from ganpipe.settings.schema import LossSettings
from ganpipe.training.losses import LOSSES

Critic = Callable[[Tensor], Tensor]


def select_penalty(settings: LossSettings) -> str:
    """`none`, `r1`, `r2`, `both` or `interpolated`."""
    chosen = LOSSES[settings.name].penalty if settings.penalty == "auto" else settings.penalty
    return "none" if chosen != "interpolated" and settings.gamma == 0 else chosen


def logits_and_input_grad(D: Critic, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of `images: [N, C, H, W]`, and the input gradient ∂ΣD/∂images with its graph."""
    images = images.detach().requires_grad_(True)
    with input_gradient():
        logits = D(images)
        (input_grad,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return logits, input_grad


def logits_and_input_grad_functional(D: Critic, images: Tensor) -> tuple[Tensor, Tensor]:
    """The same by `torch.func`, for a compiled step.

    torch.compile can differentiate this a second time, and not `autograd.grad(create_graph=True)`; on the other
    hand D must not keep running statistics.
    """
    logits, pull_back = torch.func.vjp(D, images)[:2]
    (input_grad,) = pull_back(torch.ones_like(logits))
    return logits, input_grad


def zero_centered(input_grad: Tensor) -> Tensor:
    """½·E‖∇D‖² for an input gradient `[N, C, H, W]`: R1 on real, R2 on fake images, without γ.

    Mescheder et al. 2018 (arXiv 1801.04406), eq. 9; the square is summed over C, H, W and averaged over the batch. Scales
    of one image, `[N, C, P]`, count as one input.
    """
    return 0.5 * input_grad.float().square().flatten(1).sum(1).mean()


def one_centered(input_grad: Tensor) -> Tensor:
    """E(‖∇D‖ − 1)², WGAN-GP's penalty (arXiv 1704.00028, eq. 3), without λ."""
    return (input_grad.float().flatten(1).norm(dim=1) - 1).square().mean()


FINITE_DIFFERENCE_STEP = (
    0.05  # in images of [-1, 1]: smaller, and bf16 logits no longer resolve the difference
)


def zero_centered_finite_difference(D: Critic, images: Tensor, logits: Tensor, direction: Tensor) -> Tensor:
    """½·E‖∇D‖² by a finite difference: E_v(v·∇D)² = ‖∇D‖² for v ~ N(0, I), and only first order is needed.

    `direction` is such a v, of the images' shape. One more pass of D, no double backward; unbiased up to the
    curvature of D over FAST_STEP, and noisier than the exact penalty.
    """
    moved = D(images + FINITE_DIFFERENCE_STEP * direction)
    total = (moved - logits).flatten(1).sum(1) if logits.ndim > 1 else moved - logits
    return 0.5 * (total / FINITE_DIFFERENCE_STEP).square().mean()
