"""DCGAN (Radford et al. 2015, arXiv 1511.06434) for any power-of-two size from 16 to 256.

Departures: sides may differ (64×128 starts from 4×8), and the discriminator's batch norm is optional, because
a gradient penalty is defined for one image at a time and batch norm mixes the images of a batch.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from ganpipe.imaging.image import ImageShape
from ganpipe.models.convolutions import Conv, ConvTranspose
from ganpipe.models.layers import base_size, doublings
from ganpipe.settings.schema import ModelSettings

SMALLEST_PX, LARGEST_PX = 16, 256
MAPPING = 3  # layers of G up to its smallest map: transposed convolution, batch norm, ReLU
WIDEST = 8  # channels grow to 8× the narrowest, as published for 64 px; deeper layers stay there


def shape_problem(shape: ImageShape) -> str | None:
    """Why this shape is impossible, as the end of a sentence; None if DCGAN can make it."""
    for name, side in (("height", shape.height_px), ("width", shape.width_px)):
        if side & (side - 1) or not SMALLEST_PX <= side <= LARGEST_PX:
            nearest = min((16, 32, 64, 128, 256), key=lambda px: abs(px - side))
            return (
                f"makes sides that are powers of two from {SMALLEST_PX} to {LARGEST_PX} pixels, and "
                f"data.{name}_px is {side}: set it to {nearest}, or model.name=mlp."
            )
    return None


def channels_at(level: int, narrowest: int) -> int:
    """Channels `level` halvings away from the image: narrowest, 2×, 4×, 8×, 8×, …"""
    return narrowest * min(2**level, WIDEST)


def init_weights(module: nn.Module) -> None:
    """Draws N(0, 0.02) for convolutions, N(1, 0.02) for batch norm's gains (section 4 of the paper)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


class DcganGenerator(nn.Module):
    """`z: [N, z_dim]` → images `[N, C, H, W]` in `[-1, 1]` by transposed 4×4 convolutions, batch norm, ReLU.

    Its mapping is the first of them, to the smallest map: images of shorter latents fade to gray (LOG.md).
    """

    def __init__(self, settings: ModelSettings, shape: ImageShape, classes: int = 0) -> None:
        super().__init__()
        widths = [channels_at(level, settings.g_channels) for level in reversed(range(doublings(shape)))]
        layers: list[nn.Module] = [
            ConvTranspose(settings.z_dim, widths[0], base_size(shape), bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        ]
        for wide, narrow in pairwise(widths):
            layers += [
                ConvTranspose(wide, narrow, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(narrow),
                nn.ReLU(inplace=True),
            ]
        layers.append(ConvTranspose(widths[-1], shape.channels, 4, stride=2, padding=1))
        self.layers = nn.Sequential(*layers)
        self.apply(init_weights)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.synthesis(self.mapping(z))

    def mapping(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """The smallest map."""
        return self.layers[:MAPPING](z[:, :, None, None])

    def synthesis(self, w: Tensor) -> Tensor:
        """The images of a smallest map."""
        return torch.tanh(self.layers[MAPPING:](w))


def init_without_norm(module: nn.Module) -> None:
    """Initializes as He et al. 2015 (arXiv 1502.01852, eq. 15) for leaky ReLU: without norm, N(0, 0.02) fades."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, a=0.2)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class MinibatchStd(nn.Module):
    """Appends the standard deviation within each group of images as a channel (Karras et al. 2017, arXiv 1710.10196, section 3).

    D then detects a batch that lacks variety, which penalizes G for mode collapse.
    """

    GROUP = 8

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` → `[N, C + 1, H, W]`; groups of at most GROUP that divide N."""
        n, _, height, width = x.shape
        group = next(size for size in range(min(self.GROUP, n), 0, -1) if n % size == 0)
        grouped = x.float().reshape(group, n // group, -1)
        # E[x²] − E[x]²: `var` is not vectorized and took 7% of the demo's step on a CPU (LOG.md).
        variance = grouped.square().mean(0) - grouped.mean(0).square()
        spread = variance.clamp_min(0).add(1e-8).sqrt().mean(1)
        return torch.cat(
            [x, spread.to(x.dtype).repeat(group)[:, None, None, None].expand(n, 1, height, width)], 1
        )


def halving_layers(shape: ImageShape, narrowest: int, batch_norm: bool) -> list[nn.Module]:
    """Strided 4×4 convolutions and leaky ReLU from an image to its smallest map, `smallest_map_channels` wide."""
    widths = [channels_at(level, narrowest) for level in range(doublings(shape))]
    layers: list[nn.Module] = [
        Conv(shape.channels, widths[0], 4, stride=2, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
    ]
    for narrow, wide in pairwise(widths):
        layers.append(Conv(narrow, wide, 4, stride=2, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(wide))
        layers.append(nn.LeakyReLU(0.2, inplace=True))
    return layers


def smallest_map_channels(shape: ImageShape, narrowest: int) -> int:
    """Channels of the smallest map."""
    return channels_at(doublings(shape) - 1, narrowest)


class DcganDiscriminator(nn.Module):
    """Images `[N, C, H, W]` → logits `[N]` by strided 4×4 convolutions and leaky ReLU."""

    def __init__(self, settings: ModelSettings, shape: ImageShape, classes: int = 0) -> None:
        super().__init__()
        batch_norm = settings.d_norm == "batch"
        layers = halving_layers(shape, settings.d_channels, batch_norm)
        if settings.d_minibatch_std:
            layers.append(MinibatchStd())
        widest = smallest_map_channels(shape, settings.d_channels)
        layers.append(Conv(widest + settings.d_minibatch_std, 1, base_size(shape)))
        self.layers = nn.Sequential(*layers)
        self.apply(init_weights if batch_norm else init_without_norm)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layers(images).flatten()
