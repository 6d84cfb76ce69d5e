"""The exponential moving average (EMA) of a network's weights."""

from __future__ import annotations

import torch
from torch import nn


def update_ema(ema: nn.Module, network: nn.Module, batch_images: int, halflife_images: float) -> None:
    """Moves the average towards the network: half of the old is left after `halflife_images` images."""
    move_average(ema, network, 0.5 ** (batch_images / halflife_images) if halflife_images > 0 else 0.0)


@torch.no_grad()
def move_average(ema: nn.Module, network: nn.Module, keep: float) -> None:
    """Moves the average towards the network; the share `keep` of the old one is left.

    Batch norm's running statistics are copied: they are averages already.
    """
    torch._foreach_lerp_(list(ema.parameters()), list(network.parameters()), 1.0 - keep)
    for average, latest in zip(ema.buffers(), network.buffers(), strict=True):
        average.copy_(latest)
