"""ReLU and average pooling in forms that a CPU computes several times as fast as torch's own (LOG.md)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class _Relu(torch.autograd.Function):
    """ReLU of a bf16 tensor, in place. As integers, bf16 numbers below 0 are below 0, too, and so is a NaN with that sign."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x.view(torch.int16).clamp_min_(0)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(slopes[0], y, 0)


def relu_(x: Tensor) -> Tensor:
    """ReLU in place."""
    if x.dtype == torch.bfloat16 and x.device.type == "cpu":
        return _Relu.apply(x)
    return F.relu(x, inplace=True)


class _AveragePool(torch.autograd.Function):
    """The mean of each 2×2 block; backward repeats each slope over its block."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.size = x.shape[2:]
        return F.avg_pool2d(x, 2, ceil_mode=True)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        height, width = ctx.size
        slope = slopes[0] / 4
        if height % 2:
            slope[:, :, -1] *= 2
        if width % 2:
            slope[:, :, :, -1] *= 2
        return F.interpolate(slope, scale_factor=2.0, mode="nearest")[:, :, :height, :width]


def average_pool(x: Tensor) -> Tensor:
    """Halves `x: [N, C, H, W]` by means of 2×2 blocks; the last row and column of odd sides are blocks of their own."""
    if x.device.type == "cpu":
        return _AveragePool.apply(x)
    return F.avg_pool2d(x, 2, ceil_mode=True)
