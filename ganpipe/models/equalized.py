"""Layers with an equalized learning rate, of ProGAN and StyleGAN2: weights are drawn from N(0, 1) and scaled in use.

Karras et al. 2018 (arXiv 1710.10196), section 4.1. Every weight then learns as fast as any other, whatever its fan-in. Also
what goes with them: pixel norm (section 4.2) and the widths of the networks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from ganpipe.imaging.image import ImageShape
from ganpipe.models.convolutions import Conv
from ganpipe.models.layers import base_size, doublings
from ganpipe.settings.schema import ModelSettings

WIDEST, CHANNEL_STEP = 512, 4
EPS = 1e-8


class EqualizedLinear(nn.Linear):
    """A fully connected layer. Its weights and biases learn `lr_multiplier` times as fast.

    `gain`: √2 before a ReLU (He et al. 2015, arXiv 1502.01852, eq. 10), 1 if the activation is scaled itself.
    """

    def __init__(
        self, inputs: int, outputs: int, gain: float = 1.0, bias: float = 0.0, lr_multiplier: float = 1.0
    ) -> None:
        super().__init__(inputs, outputs)
        nn.init.normal_(self.weight, 0.0, 1 / lr_multiplier)
        nn.init.constant_(self.bias, bias / lr_multiplier)
        self.scale, self.lr_multiplier = gain * lr_multiplier / math.sqrt(inputs), lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * _scale(self), self.bias * self.lr_multiplier)


class EqualizedConv(Conv):
    """A convolution, padded to keep the size of its map if its stride is 1 and its kernel a square."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        bias: bool = True,
        gain: float = 1.0,
    ) -> None:
        padding = kernel // 2 if stride == 1 and isinstance(kernel, int) else 0
        super().__init__(inputs, outputs, kernel, stride, padding, bias=bias)
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self.scale = gain / math.sqrt(self.weight[0].numel())

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * _scale(self), self.bias)


def _scale(layer: EqualizedLinear | EqualizedConv) -> float:
    """The scale of a layer's weights; spectral normalization has scaled them already."""
    return 1.0 if parametrize.is_parametrized(layer, "weight") else layer.scale


def pixel_norm(x: Tensor) -> Tensor:
    """`x: [N, C, …]`, divided in each pixel by the root of the mean square over the channels."""
    return x * torch.rsqrt(x.float().square().mean(1, keepdim=True) + EPS).to(x.dtype)


def widths(settings: ModelSettings, shape: ImageShape) -> list[int]:
    """Channels by level, the smallest map first: multiples of 4."""
    sides = [min(base_size(shape)) * 2**level for level in range(doublings(shape) + 1)]
    exact = [WIDEST * settings.width * min(1.0, settings.taper_from_px / side) for side in sides]
    return [max(CHANNEL_STEP, round(channels / CHANNEL_STEP) * CHANNEL_STEP) for channels in exact]
