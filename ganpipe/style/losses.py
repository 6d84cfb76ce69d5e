"""Content, style and total variation losses, one value per item of the batch.

Losses are summed over the batch, never averaged, so that an item's gradient does not depend on the others. Style
depends only on sums over positions (`Moments`), so that an image in tiles has the same loss as a whole one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

EPS = 1e-12
RIDGE = 1e-4  # of the mean eigenvalue: keeps the root of a singular covariance differentiable, in float64


@dataclass(frozen=True)
class Moments:
    """Sums over positions of a layer, for N items and R regions: weight `[N, R]`, f `[N, R, C]`, f·fᵀ `[N, R, C, C]`."""

    positions: float
    weight: Tensor
    first: Tensor
    second: Tensor

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.positions + other.positions,
            self.weight + other.weight,
            self.first + other.first,
            self.second + other.second,
        )

    def mean(self) -> Moments:
        """Divided by the weight: of one position on average."""
        weight = self.weight.clamp_min(EPS)
        return Moments(
            1.0, self.weight / weight, self.first / weight[..., None], self.second / weight[..., None, None]
        )


@dataclass(frozen=True)
class Statistics:
    """Style of a layer: mean `[N, R, C]` and second moment `[N, R, C, C]`, centered (covariance) or not (Gram)."""

    mean: Tensor
    second: Tensor

    def of_items(self, keep: Tensor) -> Statistics:
        """The statistics of some items."""
        return Statistics(self.mean[keep], self.second[keep])


# Of positions: products of bf16 end in bf16. Summed in float32, so many are off by 3 in 10,000, and their sums of positions
# take a sixth of the time of torch's on a CPU (LOG.md).
CHUNKS = 32


def _in_chunks(flat: Tensor) -> tuple[Tensor | None, Tensor]:
    """Splits positions `[N, P, C]` of bf16 into `[N, CHUNKS, P // CHUNKS, C]` and what is left over, in float32.

    No chunks in float32, and if so few positions would be in each that the products of channels cost more.
    """
    positions, channels = flat.shape[1:]
    if flat.dtype != torch.bfloat16 or positions < CHUNKS * channels // 2:
        return None, flat.float()
    whole = positions // CHUNKS * CHUNKS
    return flat[:, :whole].unflatten(1, (CHUNKS, -1)), flat[:, whole:].float()


def sum_positions(flat: Tensor) -> Tensor:
    """Sums `[N, P, C]` over positions: `[N, C]` in float32."""
    return _sum(*_in_chunks(flat))


def _sum(chunks: Tensor | None, rest: Tensor) -> Tensor:
    if chunks is None:
        return rest.sum(1)
    ones = chunks.new_ones(1, 1, 1, chunks.shape[2])
    return rest.sum(1) + (ones @ chunks).float().sum(1)[:, 0]


class _Sums(torch.autograd.Function):
    """f and f·fᵀ summed over positions, `[N, P, C]` → `[N, C]` and `[N, C, C]` in float32; one product backward, not two.

    Positions come first because activations lie channels last: a gradient in another layout would be added to that of
    later layers at a tenth of the speed.
    """

    @staticmethod
    def forward(ctx: Any, flat: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(flat)
        chunks, rest = _in_chunks(flat)
        second = rest.transpose(1, 2) @ rest
        if chunks is not None:
            second += (chunks.transpose(2, 3) @ chunks).float().sum(1)
        return _sum(chunks, rest), second

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (flat,) = ctx.saved_tensors
        by_first, by_second = slopes
        symmetric = (by_second + by_second.transpose(1, 2)).to(flat.dtype)
        return (flat @ symmetric).add_(by_first[:, None].to(flat.dtype))


def moments(features: Tensor, regions: Tensor | None = None) -> Moments:
    """Sums of `features: [N, C, H, W]`, weighted by `regions: [N, R, H, W]` (None: one region, everywhere)."""
    n, _, h, w = features.shape
    flat = features.flatten(2).transpose(1, 2)
    if regions is None:
        weight = torch.full((n, 1), float(h * w), device=features.device)
        first, second = _Sums.apply(flat)
        return Moments(h * w, weight, first[:, None], second[:, None])
    parts = []
    for region in regions.flatten(2).unbind(1):
        first = (flat.float() * region[..., None]).sum(1)
        parts.append((region.sum(1), first, _Sums.apply(flat.float() * region.sqrt()[..., None])[1]))
    weight, first, second = (torch.stack(column, 1) for column in zip(*parts, strict=True))
    return Moments(h * w, weight, first, second)


def statistics(sums: Moments, kind: str) -> Statistics:
    """Style statistics from sums; `kind` is "gram" (Gatys et al. 2016, eq. 3), else the second moment is centered."""
    average = sums.mean()
    mean, second = average.first, average.second
    if kind != "gram":
        second = second - mean[..., :, None] * mean[..., None, :]
    return Statistics(mean, second)


def blend(of_styles: Sequence[Statistics], shares: Sequence[float]) -> Statistics:
    """The mixture of several styles' statistics by shares that sum to 1."""
    return Statistics(
        sum((share * s.mean for s, share in zip(of_styles, shares, strict=True)), torch.zeros(())),
        sum((share * s.second for s, share in zip(of_styles, shares, strict=True)), torch.zeros(())),
    )


def _relative(difference: Tensor, target: Tensor, keep: int = 2) -> Tensor:
    """‖difference‖² / ‖target‖² over all but the first `keep` dimensions: independent of the layer's scale."""
    return difference.flatten(keep).square().sum(keep) / target.flatten(keep).square().sum(keep).clamp_min(
        EPS
    )


def _add_ridge(covariance: Tensor) -> Tensor:
    """Adds RIDGE, in float64: the smallest eigenvalues dominate the root's derivative, and float32 rounds them away."""
    wide = covariance.double()
    level = _trace(wide)[..., None, None] / wide.shape[-1]
    return wide + RIDGE * level.clamp_min(EPS) * torch.eye(
        wide.shape[-1], device=wide.device, dtype=wide.dtype
    )


def _trace(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)


def matrix_sqrt(covariance: Tensor) -> Tensor:
    """The symmetric square root of positive semi-definite matrices `[…, C, C]`, in float64."""
    values, vectors = torch.linalg.eigh(_add_ridge(covariance))
    return (vectors * values.clamp_min(0).sqrt()[..., None, :]) @ vectors.transpose(-1, -2)


def wasserstein(found: Statistics, target: Statistics, target_root: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of two normal distributions, relative to the target's size: `[N, R]`.

    ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₂^½ Σ₁ Σ₂^½)^½) (Olkin & Pukelsheim 1982). The trace of the root needs eigenvalues
    alone, whose derivative has no difference of eigenvalues in a denominator.
    """
    between = target_root @ _add_ridge(found.second) @ target_root
    of_root = torch.linalg.eigvalsh(between).clamp_min(EPS).sqrt().sum(-1)
    covariances = _trace(_add_ridge(found.second)) + _trace(_add_ridge(target.second)) - 2 * of_root
    size = target.mean.square().sum(-1) + _trace(target.second)
    return ((found.mean - target.mean).square().sum(-1) + covariances).float() / size.clamp_min(EPS)


@dataclass(frozen=True)
class StyleTarget:
    """A layer's target statistics and weight, and for "wasserstein" the root of the target covariance."""

    statistics: Statistics
    weight: float
    root: Tensor | None = None

    def of_items(self, keep: Tensor) -> StyleTarget:
        """The targets of some items."""
        kept = None if self.root is None else self.root[keep]
        return StyleTarget(self.statistics.of_items(keep), self.weight, kept)


def style_target(target: Statistics, weight: float, kind: str) -> StyleTarget:
    """Makes a layer's target, and computes once what its loss needs at every step."""
    return StyleTarget(target, weight, matrix_sqrt(target.second) if kind == "wasserstein" else None)


def style_loss(sums: Mapping[str, Moments], targets: Mapping[str, StyleTarget], kind: str) -> Tensor:
    """`[N]`: over layers by weight and over regions by area, the distance of the statistics from their targets.

    "gram" and "covariance": the relative squared distance of the second moments, plus that of the means for
    "covariance"; "wasserstein": see `wasserstein`.
    """
    total = torch.zeros(())
    for layer, target in targets.items():
        found, wanted = statistics(sums[layer], kind), target.statistics
        if kind == "wasserstein":
            assert target.root is not None
            loss = wasserstein(found, wanted, target.root)
        else:
            loss = _relative(found.second - wanted.second, wanted.second)
            if kind == "covariance":
                loss = loss + _relative(found.mean - wanted.mean, wanted.mean)
        area = sums[layer].weight / sums[layer].positions
        total = total.to(loss.device) + target.weight * (loss * area.detach()).sum(1)
    return total


def content_error(features: Tensor, target: Tensor) -> Tensor:
    """`[N]`: squared distance of activations `[N, C, H, W]`, summed over all positions."""
    return (features.float() - target.float()).square().sum((1, 2, 3))


def variation_loss(images: Tensor) -> Tensor:
    """`[N]`: squared differences of neighboring pixels of `images: [N, 3, H, W]`, over the number of pixels.

    The nine-point stencil: pairs in rows and columns count 2/3, on diagonals 1/6, so that an edge costs about the same
    in every direction (its gradient is the nine-point Laplacian).
    """
    return variation_of_rows(images, 0, images.shape[2]) / images[0].numel()


def variation_of_rows(images: Tensor, top: int, bottom: int) -> Tensor:
    """`[N]`: the sum of the pairs whose upper pixel lies in rows `top` to `bottom`; strips add up to the whole."""
    rows = images[:, :, top : bottom + 1]
    upper = images[:, :, top:bottom]
    both = rows.shape[2] - 1
    pairs = (
        (2 / 3, rows[:, :, 1:] - rows[:, :, :both]),
        (2 / 3, upper[:, :, :, 1:] - upper[:, :, :, :-1]),
        (1 / 6, rows[:, :, 1:, 1:] - rows[:, :, :both, :-1]),
        (1 / 6, rows[:, :, 1:, :-1] - rows[:, :, :both, 1:]),
    )
    return torch.stack([w * d.square().flatten(1).sum(1) for w, d in pairs]).sum(0)
