"""The losses of a batch of images and their gradient: whole, or tile by tile with the same result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.compute.device import Compute
from ganpipe.style.losses import (
    EPS,
    Moments,
    StyleTarget,
    content_error,
    moments,
    style_loss,
    variation_loss,
    variation_of_rows,
)
from ganpipe.style.params import StyleParams
from ganpipe.style.tiling import SHRINK, Features, Tile, tiles_of
from ganpipe.vgg19.network import Vgg19
from ganpipe.vgg19.weights import Weights

Sum = TypeVar("Sum", Tensor, Moments)


@dataclass(frozen=True)
class Losses:
    """`[N]` each: what is minimized, and its parts before they are weighted."""

    total: Tensor
    content: Tensor
    style: Tensor
    variation: Tensor


@dataclass(frozen=True)
class Temporal:
    """The loss that keeps a frame of a video like the one before it (Ruder et al. 2016, arXiv 1604.08610, equation 7).

    `before: [1, 3, H, W]`: the stylized frame before, moved as the content moves; `known: [1, 1, H, W]`: where that says
    something (1) or not (0).
    """

    before: Tensor
    known: Tensor
    weight: float

    def loss(self, images: Tensor) -> Tensor:
        """`[N]`: the mean square difference from the frame before, times the weight."""
        return self.weight * (self.known * (images - self.before).square()).flatten(1).mean(1)

    def slope(self, images: Tensor) -> Tensor:
        """The gradient of the loss."""
        return 2 * self.weight / images[0].numel() * self.known * (images - self.before)


@dataclass
class Objective:
    """The objective of a batch of images `[N, 3, H, W]`, at one scale.

    `content`: the contents' activations, a dict for each tile; `content_size`: their squared norms `[N]` by layer.
    `regions`: masks `[N, R, H, W]` if styles apply to different parts (None: one style everywhere). `temporal`: of a frame of a
    video after the first, which is stylized alone.
    """

    network: Vgg19
    params: StyleParams
    compute: Compute
    tiles: list[Tile]
    content: list[Features]
    content_size: dict[str, Tensor]
    style: dict[str, StyleTarget]
    regions: Tensor | None = None
    temporal: Temporal | None = None

    def of_items(self, keep: Tensor) -> Objective:
        """The objective of some items of the batch."""
        return Objective(
            self.network,
            self.params,
            self.compute,
            self.tiles,
            [{k: f[keep] for k, f in tile.items()} for tile in self.content],
            {k: v[keep] for k, v in self.content_size.items()},
            {k: target.of_items(keep) for k, target in self.style.items()},
            None if self.regions is None else self.regions[keep],
            self.temporal,
        )

    def losses_and_slope(self, images: Tensor) -> tuple[Losses, Tensor]:
        """The losses of `images` and the gradient of their total, summed over the batch, with respect to the images."""
        if len(self.tiles) == 1:
            return self._whole(images)
        return self._tile_by_tile(images)

    def _whole(self, images: Tensor) -> tuple[Losses, Tensor]:
        with torch.enable_grad():
            leaf = images.detach().requires_grad_(True)
            features = self._features(leaf)
            errors = self._errors(features, self.content[0])
            losses = self._losses(self._sums(features, self.tiles[0]), errors, variation_loss(leaf))
            losses = self._with_temporal(losses, leaf)
            slope = torch.autograd.grad(losses.total.sum(), leaf)[0]
        return _detach(losses), slope

    def _tile_by_tile(self, images: Tensor) -> tuple[Losses, Tensor]:
        sums, errors = self._gather_sums(images)
        variation, slope = self._variation_slope(images)
        losses, by_sum, by_error = self._slopes(sums, errors, variation)
        for tile, target in zip(self.tiles, self.content, strict=True):
            with torch.enable_grad():
                leaf = (
                    tile.window(images).detach().clone(memory_format=torch.channels_last).requires_grad_(True)
                )
                features = tile.inner(self._features(leaf))
                own_sums = self._sums(features, tile)
                own_errors = self._errors(features, target)
                surrogate = sum(
                    [
                        (own_sums[k].first * f).sum() + (own_sums[k].second * s).sum()
                        for k, (f, s) in by_sum.items()
                    ]
                    + [(own_errors[k] * e).sum() for k, e in by_error.items()],
                    torch.zeros((), device=images.device),
                )
                own_slope = torch.autograd.grad(surrogate, leaf)[0]
            tile.window(slope).add_(own_slope)
        if self.temporal is not None:
            slope += self.temporal.slope(images)
        return self._with_temporal(losses, images), slope

    def _with_temporal(self, losses: Losses, images: Tensor) -> Losses:
        if self.temporal is None:
            return losses
        return replace(losses, total=losses.total + self.temporal.loss(images))

    @torch.no_grad()
    def _gather_sums(self, images: Tensor) -> tuple[dict[str, Moments], Features]:
        """First pass: sums for the style, and squared content errors by layer."""
        sums: dict[str, Moments] = {}
        errors: Features = {}
        for tile, target in zip(self.tiles, self.content, strict=True):
            features = tile.inner(self._features(tile.window(images)))
            _add(sums, self._sums(features, tile))
            _add(errors, self._errors(features, target))
        return sums, errors

    def _slopes(
        self, sums: dict[str, Moments], errors: Features, variation: Tensor
    ) -> tuple[Losses, dict[str, tuple[Tensor, Tensor]], Features]:
        """The losses, and the gradient of their total with respect to the sums and the content errors."""
        with torch.enable_grad():
            leaves = {
                k: replace(m, first=m.first.requires_grad_(True), second=m.second.requires_grad_(True))
                for k, m in sums.items()
            }
            own_errors = {k: e.requires_grad_(True) for k, e in errors.items()}
            losses = self._losses(leaves, own_errors, variation)
            inputs = [t for m in leaves.values() for t in (m.first, m.second)] + list(own_errors.values())
            slopes = torch.autograd.grad(losses.total.sum(), inputs, materialize_grads=True)
        pairs = {k: (slopes[2 * n], slopes[2 * n + 1]) for n, k in enumerate(leaves)}
        return _detach(losses), pairs, dict(zip(own_errors, slopes[2 * len(leaves) :], strict=True))

    def _variation_slope(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The variation loss and its weighted gradient, strip by strip."""
        slope, total = torch.zeros_like(images), torch.zeros(len(images), device=images.device)
        for rows in dict.fromkeys(tile.rows for tile in self.tiles):
            with torch.enable_grad():
                leaf = images[:, :, rows.start : rows.stop + 1].detach().requires_grad_(True)
                own = variation_of_rows(leaf, 0, rows.stop - rows.start) / images[0].numel()
                slope[:, :, rows.start : rows.stop + 1] += torch.autograd.grad(own.sum(), leaf)[0]
            total += own.detach()
        return total, slope.mul_(self.params.variation_weight)

    def _features(self, images: Tensor) -> Features:
        with self.compute.autocast():
            return self.network(images, self.params.layers)

    def _sums(self, features: Features, tile: Tile) -> dict[str, Moments]:
        return {k: moments(features[k], self._regions_at(k, tile)) for k in self.style}

    def _regions_at(self, layer: str, tile: Tile) -> Tensor | None:
        """The masks at a layer's size: a cell counts for a region by the share of it that lies inside."""
        if self.regions is None:
            return None
        rows, columns = tile.rows, tile.columns
        inner = self.regions[:, :, rows.start : rows.stop, columns.start : columns.stop]
        return F.avg_pool2d(inner, SHRINK[layer], ceil_mode=True)

    def _errors(self, features: Features, target: Features) -> Features:
        return {k: content_error(features[k], target[k]) for k in target}

    def _losses(self, sums: dict[str, Moments], errors: Features, variation: Tensor) -> Losses:
        params = self.params
        style = style_loss(sums, self.style, params.statistics)
        relative = [errors[k] / self.content_size[k].clamp_min(EPS) for k in errors]
        content = torch.stack(relative).sum(0) if relative else torch.zeros_like(style)
        total = (
            params.content_weight * content
            + params.style_weight * style
            + params.variation_weight * variation
        )
        return Losses(total, content, style, variation)


def _add(sums: dict[str, Sum], of_tile: dict[str, Sum]) -> None:
    """Adds one tile's values to the sums over earlier tiles, by layer."""
    for layer, own in of_tile.items():
        sums[layer] = sums[layer] + own if layer in sums else own


def _detach(losses: Losses) -> Losses:
    return Losses(*(part.detach() for part in (losses.total, losses.content, losses.style, losses.variation)))


def style_network(last: str, weights: Weights | None = None) -> Vgg19:
    """VGG19 up to `last` as the losses use it: with replicated borders, or blotches form at the edges of an image (LOG.md)."""
    return Vgg19(last, pooling="average", weights=weights, borders="replicate")


@torch.no_grad()
def style_moments(
    network: Vgg19, image: Tensor, params: StyleParams, compute: Compute, tile_px: int
) -> dict[str, Moments]:
    """Sums over a style `[1, 3, H, W]` for each style layer."""
    wanted = tuple(name for name, _ in params.style_layers)
    sums: dict[str, Moments] = {}
    for tile in tiles_of(image.shape[2], image.shape[3], tile_px, wanted[-1]):
        with compute.autocast():
            features = tile.inner(network(tile.window(image), wanted))
        _add(sums, {k: moments(f) for k, f in features.items()})
    return sums


@torch.no_grad()
def content_targets(
    network: Vgg19, images: Tensor, params: StyleParams, compute: Compute, tiles: list[Tile]
) -> tuple[list[Features], dict[str, Tensor]]:
    """Activations of the contents `[N, 3, H, W]` for each tile, and their squared norms `[N]` by layer.

    Empty if the content has no weight.
    """
    if params.content_weight <= 0:
        return [{} for _ in tiles], {}
    kept: list[Features] = []
    size = {k: torch.zeros(len(images), device=images.device) for k in params.content_layers}
    for tile in tiles:
        with compute.autocast():
            features = tile.inner(network(tile.window(images), params.content_layers))
        kept.append({k: f.clone() for k, f in features.items()})  # a view would keep the halo
        for k, f in features.items():
            size[k] += f.float().square().flatten(1).sum(1)
    return kept, size
