"""R3GAN's networks (Huang et al. 2025, arXiv 2501.05441, section 4 and appendix): no normalization, no tricks.

Widths follow one rule that gives all published configurations: 768 channels up to 32 pixels (`model.taper_from_px`),
half as many at each doubling after that, times `model.width`; two residual blocks per stage, groups of 16 channels.

Departures: sides may differ and need not be powers of two (48 is 6·8); channels are those of the dataset; the number of
blocks and where widths begin to taper are settings, because a CPU needs smaller networks.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganpipe.imaging.image import ImageShape
from ganpipe.models.convolutions import Conv
from ganpipe.models.layers import base_size, double, doublings, halve, one_hot, size_problem
from ganpipe.settings.schema import ModelSettings

SMALLEST_PX, LARGEST_PX = 16, 512
WIDEST, GROUP_CHANNELS, EXPANSION = 768, 16, 2
SLOPE = 0.2  # of the leaky ReLU
GAIN = math.sqrt(2 / (1 + SLOPE**2))


def shape_problem(shape: ImageShape) -> str | None:
    """Why this shape is impossible, as the end of a sentence; None if r3gan can make it."""
    return size_problem(shape, SMALLEST_PX, LARGEST_PX)


def width_at(shorter_px: int, settings: ModelSettings) -> int:
    """Channels of a map whose shorter side is `shorter_px`: a multiple of 16, at least 16."""
    share = min(1.0, settings.taper_from_px / shorter_px)
    exact = WIDEST * settings.width * share
    return max(GROUP_CHANNELS, round(exact / GROUP_CHANNELS) * GROUP_CHANNELS)


def widths(settings: ModelSettings, shape: ImageShape) -> list[int]:
    """Channels by level, the smallest map first."""
    base = min(base_size(shape))
    return [width_at(base * 2**level, settings) for level in range(doublings(shape) + 1)]


def init_normal(layer: nn.Conv2d | nn.Linear, gain: float) -> nn.Conv2d | nn.Linear:
    """Draws weights from N(0, gain²/fan_in) and zeroes biases (He et al. 2015)."""
    fan_in = layer.weight[0].numel()
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(fan_in))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """x + 1×1(act(grouped 3×3(act(1×1 x)))): 1×1 doubles the channels, the last 1×1 starts at zero.

    Fix-up initialization (Zhang et al. 2019, arXiv 1901.09321): the others have gain √(2/(1+0.2²))·L^(−1/4) with
    L blocks in the network, so that its output does not grow with its depth.
    """

    def __init__(self, channels: int, blocks_in_network: int) -> None:
        super().__init__()
        inner = channels * EXPANSION
        gain = GAIN * blocks_in_network ** (-1 / 4)
        self.widen = init_normal(Conv(channels, inner, 1), gain)
        self.mix = init_normal(Conv(inner, inner, 3, padding=1, groups=inner // GROUP_CHANNELS), gain)
        self.narrow = init_normal(Conv(inner, channels, 1, bias=False), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.widen(x), SLOPE)
        y = F.leaky_relu(self.mix(y), SLOPE)
        return x + self.narrow(y)


def _stage(channels: int, blocks: int, total: int) -> nn.Sequential:
    return nn.Sequential(*(Block(channels, total) for _ in range(blocks)))


def _change(before: int, after: int) -> nn.Module:
    return init_normal(Conv(before, after, 1, bias=False), 1.0) if before != after else nn.Identity()


class R3GanGenerator(nn.Module):
    """`z: [N, z_dim]` and labels `[N]` → images `[N, C, H, W]`, near `[-1, 1]`, without an output activation."""

    def __init__(self, settings: ModelSettings, shape: ImageShape, classes: int = 0) -> None:
        super().__init__()
        wide = widths(settings, shape)
        total = settings.blocks * len(wide)
        self.embed = nn.Linear(classes, settings.z_dim, bias=False) if classes else None
        inputs = settings.z_dim * (2 if classes else 1)
        base = base_size(shape)
        self.basis = nn.Parameter(torch.randn(wide[0], *base))
        self.weigh = init_normal(nn.Linear(inputs, wide[0], bias=False), 1.0)
        self.changes = nn.ModuleList(
            nn.Sequential(_change(a, b), double(base[0] * 2**level, base[1] * 2**level))
            for level, (a, b) in enumerate(pairwise(wide))
        )
        self.stages = nn.ModuleList(_stage(w, settings.blocks, total) for w in wide)
        self.to_image = init_normal(Conv(wide[-1], shape.channels, 1, bias=False), 1.0)
        if self.embed is not None:
            init_normal(self.embed, 1.0)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            z = torch.cat([z, self.embed(one_hot(labels, self.embed.in_features, z))], 1)
        x = self.basis * self.weigh(z)[:, :, None, None]
        x = self.stages[0](x)
        for change, stage in zip(self.changes, self.stages[1:], strict=True):
            x = stage(change(x))
        return self.to_image(x)


class R3GanDiscriminator(nn.Module):
    """Images `[N, C, H, W]` and labels `[N]` → logits `[N]`; with labels by projection (Miyato & Koyama 2018)."""

    def __init__(self, settings: ModelSettings, shape: ImageShape, classes: int = 0) -> None:
        super().__init__()
        wide = list(reversed(widths(settings, shape)))
        total = settings.blocks * len(wide)
        self.from_image = init_normal(Conv(shape.channels, wide[0], 1, bias=False), 1.0)
        self.stages = nn.ModuleList(_stage(w, settings.blocks, total) for w in wide)
        self.changes = nn.ModuleList(
            nn.Sequential(halve(shape.height_px // 2**level, shape.width_px // 2**level), _change(a, b))
            for level, (a, b) in enumerate(pairwise(wide))
        )
        base = base_size(shape)
        self.basis = nn.Parameter(torch.randn(wide[-1], *base) / math.sqrt(base[0] * base[1]))
        outputs = settings.z_dim if classes else 1
        self.weigh = init_normal(nn.Linear(wide[-1], outputs, bias=False), 1.0)
        self.embed = nn.Linear(classes, outputs, bias=False) if classes else None
        if self.embed is not None:
            init_normal(self.embed, 1.0)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        x = self.from_image(images)
        x = self.stages[0](x)
        for change, stage in zip(self.changes, self.stages[1:], strict=True):
            x = stage(change(x))
        y = self.weigh((x * self.basis).sum((2, 3)))
        if self.embed is None:
            return y.squeeze(1)
        wanted = self.embed(one_hot(labels, self.embed.in_features, y))
        return (y * wanted).sum(1) / math.sqrt(y.shape[1])
