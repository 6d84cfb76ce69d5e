"""Painting a batch: gradient descent on pixels, from coarse to fine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.config import StyleSettings
from ganpipe.errors import GanpipeError
from ganpipe.perceptual import Vgg19
from ganpipe.style.losses import (
    CONTENT_LAYERS,
    STYLE_LAYERS,
    Statistics,
    content_loss,
    statistics,
    style_loss,
    variation_loss,
)
from ganpipe.training.device import Compute

SMALLEST_PX = 48  # relu5_1 sees 1/16: three cells a side


@dataclass(frozen=True)
class Effort:
    """What a style preset spends on a picture."""

    long_edge_px: int
    steps: int
    scales: int


EFFORTS = {
    "draft": Effort(long_edge_px=192, steps=40, scales=3),
    "standard": Effort(long_edge_px=256, steps=60, scales=4),
    "best": Effort(long_edge_px=512, steps=120, scales=5),
}


def effort(settings: StyleSettings) -> Effort:
    """The preset's effort, with the size and steps that the settings name."""
    chosen = EFFORTS[settings.preset]
    return Effort(settings.long_edge_px or chosen.long_edge_px, settings.steps or chosen.steps, chosen.scales)


def pyramid(long_edge_px: int, scales: int) -> list[int]:
    """Longer edges from coarse to fine, √2 apart, none under SMALLEST_PX (the last always counts)."""
    edges = [round(long_edge_px / 2 ** (0.5 * k)) for k in reversed(range(scales))]
    return [edge for edge in edges[:-1] if edge >= SMALLEST_PX] + edges[-1:]


def size_at(height: int, width: int, long_edge_px: int) -> tuple[int, int]:
    """Height and width with the given longer edge and the picture's shape."""
    scale = long_edge_px / max(height, width)
    return max(16, round(height * scale)), max(16, round(width * scale))


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """`[N, 3, H, W]` at another size, antialiased, still in [0, 1]."""
    scaled = F.interpolate(image, size, mode="bicubic", antialias=True, align_corners=False)
    return scaled.clamp(0, 1)


@dataclass(frozen=True)
class Step:
    """What the caller hears after each step."""

    done: int
    total: int
    losses: Callable[[], list[float]]


def stylise(
    network: Vgg19,
    contents: Tensor,
    styles: list[Tensor],
    settings: StyleSettings,
    compute: Compute,
    on_step: Callable[[Step], None] = lambda step: None,
) -> Tensor:
    """Stylised `[N, 3, H, W]` in [0, 1] for `contents: [N, 3, H, W]`, item k in the style `styles[k]: [1, 3, h, w]`.

    Raises:
        GanpipeError: the losses are no longer finite.
    """
    plan = effort(settings)
    height, width = contents.shape[2:]
    edges = pyramid(plan.long_edge_px, plan.scales)
    canvas = _start(contents, size_at(height, width, edges[0]), settings)
    total, done = plan.steps * len(edges), 0
    for edge in edges:
        size = size_at(height, width, edge)
        canvas = resized(canvas, size)
        targets = _targets(network, resized(contents, size), styles, edge, settings, compute)
        canvas = canvas.contiguous(memory_format=torch.channels_last).requires_grad_(True)
        optimiser = torch.optim.Adam([canvas], settings.lr, betas=(0.9, 0.99))
        for _ in range(plan.steps):
            losses = _losses(network, canvas, targets, settings, compute)
            optimiser.zero_grad(set_to_none=True)
            losses.sum().backward()
            optimiser.step()
            with torch.no_grad():
                canvas.clamp_(0, 1)
            done += 1
            on_step(Step(done, total, losses.detach().tolist))
        canvas = canvas.detach()
        if not torch.isfinite(canvas).all():
            raise GanpipeError(
                f"Style transfer broke at {edge} px: the picture is no longer finite; lower style.lr."
            )
    return canvas


@dataclass(frozen=True)
class Targets:
    """What every item is drawn towards at one scale."""

    content: dict[str, Tensor]
    style: dict[str, Statistics]


def _start(contents: Tensor, size: tuple[int, int], settings: StyleSettings) -> Tensor:
    """The content, or noise: the same for every item, so that it does not depend on the batch."""
    if settings.init == "content":
        return resized(contents, size)
    generator = torch.Generator().manual_seed(settings.seed)
    noise = torch.rand(1, 3, *size, generator=generator)
    return noise.expand(len(contents), -1, -1, -1).to(contents.device).clone()


@torch.no_grad()
def _targets(
    network: Vgg19,
    contents: Tensor,
    styles: list[Tensor],
    edge: int,
    settings: StyleSettings,
    compute: Compute,
) -> Targets:
    with compute.autocast():
        content = network(contents, CONTENT_LAYERS)
    by_style: dict[int, dict[str, Statistics]] = {}
    for style in styles:
        if id(style) not in by_style:
            with compute.autocast():
                features = network(
                    resized(style, size_at(style.shape[2], style.shape[3], edge)), STYLE_LAYERS
                )
            by_style[id(style)] = {name: statistics(f, settings.statistics) for name, f in features.items()}
    stacked = {
        layer: Statistics(
            torch.cat([by_style[id(s)][layer].mean for s in styles]),
            torch.cat([by_style[id(s)][layer].second for s in styles]),
        )
        for layer in STYLE_LAYERS
    }
    return Targets(content, stacked)


def _losses(
    network: Vgg19, canvas: Tensor, targets: Targets, settings: StyleSettings, compute: Compute
) -> Tensor:
    """`[N]`: the weighted sum of the three losses of each item."""
    with compute.autocast():
        features = network(canvas, STYLE_LAYERS + CONTENT_LAYERS)
    return (
        settings.content_weight * content_loss(features, targets.content)
        + settings.style_weight * style_loss(features, targets.style, settings.statistics)
        + settings.variation_weight * variation_loss(canvas)
    )
