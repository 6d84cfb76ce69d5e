"""Convolutions of small maps as matrix products, where a CPU is faster with them.

A convolution to a map of 4×4 pixels reads more weights than pixels, and direct convolutions read them slowly. DCGAN's widest
layer at 64 px, forward and backward with 64 images, took 32 ms directly and 11 ms as a product in bf16, 71 and 43 ms in float32,
86 and 67 ms without AVX-512. With fewer weights or larger maps the direct convolution is as fast or faster (LOG.md). The choice
depends on shapes alone: a resumed or repeated training makes the same one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_POSITIONS, LEAST_WEIGHTS = 16, 500_000


class _Patches(torch.autograd.Function):
    """`x: [N, C, H, W]` → the patch under the kernel at each position, `[N·H'·W', K·K·C]`, rows and columns first."""

    @staticmethod
    def forward(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        n, channels, height, width = x.shape
        padded = x.new_zeros(n, height + 2 * padding, width + 2 * padding, channels)
        padded[:, padding : padding + height, padding : padding + width] = x.permute(0, 2, 3, 1)
        rows, columns = _positions(height, width, kernel, stride, padding)
        image, row, column, _ = padded.stride()
        patches = padded.as_strided(
            (n, rows, columns, kernel, kernel * channels), (image, stride * row, stride * column, row, 1)
        )
        return patches.reshape(n * rows * columns, kernel * kernel * channels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, *numbers = inputs
        ctx.args = (x.shape, *numbers)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        return _Fold.apply(slopes[0], *ctx.args), None, None, None


class _Fold(torch.autograd.Function):
    """The adjoint of `_Patches`: adds patches up into the map `[N, C, H, W]` that they lie in."""

    @staticmethod
    def forward(patches: Tensor, shape: torch.Size, kernel: int, stride: int, padding: int) -> Tensor:
        n, channels, height, width = shape
        rows, columns = _positions(height, width, kernel, stride, padding)
        patches = patches.view(n, rows, columns, kernel, kernel, channels)
        padded = patches.new_zeros(n, height + 2 * padding, width + 2 * padding, channels)
        for y in range(kernel):
            for x in range(kernel):
                bottom, right = y + stride * (rows - 1) + 1, x + stride * (columns - 1) + 1
                padded[:, y:bottom:stride, x:right:stride] += patches[:, :, :, y, x]
        inner = padded[:, padding : padding + height, padding : padding + width]
        return inner.contiguous().permute(0, 3, 1, 2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.args = inputs[2:]

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        return _Patches.apply(slopes[0], *ctx.args), None, None, None, None


def _positions(height: int, width: int, kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """Rows and columns of the map that a convolution makes."""
    return (height + 2 * padding - kernel) // stride + 1, (width + 2 * padding - kernel) // stride + 1


def _as_product(x: Tensor, weight: Tensor, positions: int) -> bool:
    """Whether a product is faster. Compiled and exported graphs hold the convolution itself."""
    return (
        x.device.type == "cpu"
        and weight.shape[2] == weight.shape[3]
        and positions <= MOST_POSITIONS
        and (weight.numel() >= LEAST_WEIGHTS or positions == 1)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0
) -> Tensor:
    """`torch.nn.functional.conv2d`, as a matrix product if that is faster here."""
    n, _, height, width = x.shape
    outputs, _, kernel, _ = weight.shape
    rows, columns = _positions(height, width, kernel, stride, padding)
    if not _as_product(x, weight, rows * columns):
        return F.conv2d(x, weight, bias, stride, padding)
    patches = _Patches.apply(x, kernel, stride, padding)
    y = F.linear(patches, weight.permute(0, 2, 3, 1).reshape(outputs, -1), bias)
    return y.view(n, rows, columns, outputs).permute(0, 3, 1, 2)


def convolve_transposed(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0
) -> Tensor:
    """`torch.nn.functional.conv_transpose2d`, as a matrix product if that is faster here."""
    n, channels, height, width = x.shape
    _, outputs, kernel, _ = weight.shape
    if not _as_product(x, weight, height * width):
        return F.conv_transpose2d(x, weight, bias, stride, padding)
    patches = x.permute(0, 2, 3, 1).reshape(-1, channels) @ weight.permute(0, 2, 3, 1).reshape(channels, -1)
    made = [(side - 1) * stride - 2 * padding + kernel for side in (height, width)]
    y = _Fold.apply(patches, torch.Size((n, outputs, *made)), kernel, stride, padding)
    return y if bias is None else y + bias[:, None, None]


class Conv(nn.Conv2d):
    """`nn.Conv2d` by `convolve`: square stride and padding, one group."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return convolve(x, weight, bias, self.stride[0], int(self.padding[0]))


class ConvTranspose(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` by `convolve_transposed`: square stride and padding, one group."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        assert output_size is None
        return convolve_transposed(x, self.weight, self.bias, self.stride[0], int(self.padding[0]))
