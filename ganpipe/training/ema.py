"""The exponential moving average (EMA) of a network's weights."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_ema(ema: nn.Module, network: nn.Module, batch_images: int, halflife_images: float) -> None:
    """Moves the average towards the network: half of the old is left after `halflife_images` images.

    Batch norm's running statistics are copied: they are averages already.
    """
    keep = 0.5 ** (batch_images / halflife_images) if halflife_images > 0 else 0.0
    torch._foreach_lerp_(list(ema.parameters()), list(network.parameters()), 1.0 - keep)
    for average, latest in zip(ema.buffers(), network.buffers(), strict=True):
        average.copy_(latest)
