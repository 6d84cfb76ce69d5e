"""Halving, doubling and blurring with the filter [1, 3, 3, 1], as products with constant matrices.

A product is as cheap forward, backward and twice backward, on every device and in every memory format: on a CPU in
bf16 it took 2.8 ms for a map of 32×32×32×32; slices took 13, three average pools 30, and a depthwise
convolution, whose double backward goes channel by channel, a third of a whole step (LOG.md)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganpipe.imaging.image import ImageShape

MATRIX_UP_TO_PX = 64  # the product's work grows with the square of a side, the filter's does not


def halving_matrix(side_px: int) -> Tensor:
    """`[side/2, side]`: each row is [1, 3, 3, 1]/8 around its pixel; edges are repeated."""
    matrix = torch.zeros(side_px // 2, side_px)
    for row in range(side_px // 2):
        for tap, weight in enumerate((0.125, 0.375, 0.375, 0.125)):
            matrix[row, min(max(2 * row - 1 + tap, 0), side_px - 1)] += weight
    return matrix


def blur_matrix(side_px: int, pad_px: int) -> Tensor:
    """`[side + 2·pad − 3, side]`: each row is [1, 3, 3, 1]/8; what lies beyond the edges is 0."""
    matrix = torch.zeros(side_px + 2 * pad_px - 3, side_px)
    for row in range(len(matrix)):
        for tap, weight in enumerate((0.125, 0.375, 0.375, 0.125)):
            if 0 <= row - pad_px + tap < side_px:
                matrix[row, row - pad_px + tap] = weight
    return matrix


class _Resample(nn.Module):
    """`[N, C, H, W]` → rows · x · columnsᵀ for each image and channel, channels last in memory."""

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.matmul(self.columns.to(x.dtype), x.permute(0, 2, 3, 1))  # [N, H, W', C]
        n, _, width, channels = y.shape
        y = torch.matmul(self.rows.to(x.dtype), y.flatten(2)).view(n, -1, width, channels)
        return y.permute(0, 3, 1, 2)


class _HalveBySlices(nn.Module):
    """The same filter for large maps."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        x = (x[:, :, 0:-2:2] + x[:, :, 3::2]) * 0.125 + (x[:, :, 1:-2:2] + x[:, :, 2::2]) * 0.375
        return (x[..., 0:-2:2] + x[..., 3::2]) * 0.125 + (x[..., 1:-2:2] + x[..., 2::2]) * 0.375


class _BlurBySlices(nn.Module):
    """The filter for large maps, without halving; what lies beyond the edges is 0."""

    def __init__(self, pad_px: int, gain: float) -> None:
        super().__init__()
        self.pad_px, self.root = pad_px, math.sqrt(gain)

    def forward(self, x: Tensor) -> Tensor:
        near, far = 0.375 * self.root, 0.125 * self.root
        x = F.pad(x, (self.pad_px,) * 4)
        x = (x[:, :, :-3] + x[:, :, 3:]) * far + (x[:, :, 1:-2] + x[:, :, 2:-1]) * near
        return (x[..., :-3] + x[..., 3:]) * far + (x[..., 1:-2] + x[..., 2:-1]) * near


class _DoubleByInterpolation(nn.Module):
    """Bilinear interpolation is [1, 3, 3, 1]/4 for a factor of 2."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def halve(height_px: int, width_px: int) -> nn.Module:
    """A module that halves maps of this size."""
    if max(height_px, width_px) > MATRIX_UP_TO_PX:
        return _HalveBySlices()
    return _Resample(halving_matrix(height_px), halving_matrix(width_px))


def double(height_px: int, width_px: int) -> nn.Module:
    """A module that doubles maps of this size: the transpose of halving, each row summing to 1."""
    if 2 * max(height_px, width_px) > MATRIX_UP_TO_PX:
        return _DoubleByInterpolation()
    return _Resample(2 * halving_matrix(2 * height_px).T, 2 * halving_matrix(2 * width_px).T)


def blur(height_px: int, width_px: int, pad_px: int, gain: float = 1.0) -> nn.Module:
    """A module that filters maps of this size, padded with zeros: `[…, H, W]` → `[…, H + 2·pad − 3, W + 2·pad − 3]`, times
    `gain`."""
    if max(height_px, width_px) > MATRIX_UP_TO_PX + 1:  # a map of 65 comes of a transposed convolution to 64
        return _BlurBySlices(pad_px, gain)
    rows, columns = (blur_matrix(side, pad_px) * math.sqrt(gain) for side in (height_px, width_px))
    return _Resample(rows, columns)


def one_hot(labels: Tensor | None, classes: int, like: Tensor) -> Tensor:
    """`[N, classes]`, scaled by √classes, so that an embedding with fan-in `classes` has the size of a latent."""
    if labels is None:
        raise ValueError("a conditional model needs labels")
    return F.one_hot(labels, classes).to(like.dtype) * math.sqrt(classes)


BASE_PX = 4  # the shorter side of the smallest map is 4, 5, 6 or 7 pixels


def doublings(shape: ImageShape) -> int:
    """The number of doublings from the smallest map to the image."""
    return (min(shape.height_px, shape.width_px) // BASE_PX).bit_length() - 1


def base_size(shape: ImageShape) -> tuple[int, int]:
    """Height and width of the smallest map."""
    times = 2 ** doublings(shape)
    return shape.height_px // times, shape.width_px // times


def size_problem(shape: ImageShape, smallest_px: int, largest_px: int) -> str | None:
    """Why a shape is impossible, as the end of a sentence that begins with the model's name; None if it is possible."""
    for name, side in (("height", shape.height_px), ("width", shape.width_px)):
        if not smallest_px <= side <= largest_px:
            fits = min(max(side, smallest_px), largest_px)
            return (
                f"makes sides from {smallest_px} to {largest_px} pixels, and data.{name}_px is {side}: "
                f"set it to {fits}, or choose another model.name."
            )
    times = 2 ** doublings(shape)
    for name, side in (("height", shape.height_px), ("width", shape.width_px)):
        if side % times:
            fits = max(times, round(side / times) * times)
            return (
                f"doubles a small map {doublings(shape)} times, and data.{name}_px={side} is no multiple of {times}: "
                f"set it to {fits}."
            )
    return None
