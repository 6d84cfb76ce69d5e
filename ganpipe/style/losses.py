"""What a good stylisation is: its content, style and variation losses, one value an item of the batch.

Losses are summed over the batch, never averaged, so that an item's gradient does not depend on its companions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT_LAYERS = ("relu4_2",)
# Shallow layers count more, so that brush work survives beside large shapes (the weights of Gatys' own later
# recipes fall with depth, too); chosen by looking (LOG.md).
STYLE_LAYER_WEIGHTS = dict(zip(STYLE_LAYERS, (0.34, 0.26, 0.19, 0.13, 0.08), strict=True))


@dataclass(frozen=True)
class Statistics:
    """Style of a layer: mean `[N, C]` and second moment `[N, C, C]`, centred (covariance) or not (Gram)."""

    mean: Tensor
    second: Tensor


def gram(features: Tensor) -> Tensor:
    """Gram matrices `[N, C, C]` of `features: [N, C, H, W]`, divided by H·W (Gatys et al. 2016, eq. 3)."""
    flat = features.float().flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def statistics(features: Tensor, kind: str) -> Statistics:
    """Style statistics of `features: [N, C, H, W]`; `kind` is "gram" or "covariance"."""
    mean = features.float().mean((2, 3))
    second = gram(features)
    if kind == "covariance":
        second = second - mean[:, :, None] * mean[:, None, :]
    return Statistics(mean, second)


def _relative(difference: Tensor, target: Tensor) -> Tensor:
    """‖difference‖² / ‖target‖² an item: without a unit, whatever the layer's scale."""
    return difference.flatten(1).square().sum(1) / target.flatten(1).square().sum(1).clamp_min(1e-12)


def style_loss(features: dict[str, Tensor], targets: dict[str, Statistics], kind: str) -> Tensor:
    """`[N]`: weighted over the layers, relative distance of the second moments, and of the means for "covariance"."""
    total = torch.zeros(())
    for layer, weight in STYLE_LAYER_WEIGHTS.items():
        found, target = statistics(features[layer], kind), targets[layer]
        loss = _relative(found.second - target.second, target.second)
        if kind == "covariance":
            loss = loss + _relative(found.mean - target.mean, target.mean)
        total = total.to(loss.device) + weight * loss
    return total


def content_loss(features: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
    """`[N]`: relative squared distance of the activations, over the content layers."""
    losses = [
        _relative(features[layer].float() - targets[layer].float(), targets[layer].float())
        for layer in targets
    ]
    return torch.stack(losses).sum(0)


def variation_loss(images: Tensor) -> Tensor:
    """`[N]`: mean squared difference of neighbouring pixels of `images: [N, 3, H, W]` (Mahendran & Vedaldi 2015)."""
    down = (images[:, :, 1:] - images[:, :, :-1]).square().flatten(1).mean(1)
    right = (images[:, :, :, 1:] - images[:, :, :, :-1]).square().flatten(1).mean(1)
    return down + right
