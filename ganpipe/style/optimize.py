"""Stylizes a batch of images by gradient descent on pixels, from coarse to fine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.adam import adam

from ganpipe.compute.device import Compute
from ganpipe.style.joint_upsampling import joint_upsample
from ganpipe.style.losses import Moments, Statistics, StyleTarget, blend, statistics, style_target
from ganpipe.style.objective import Losses, Objective, Temporal, content_targets, style_moments
from ganpipe.style.params import StyleParams
from ganpipe.style.tiling import tiles_of
from ganpipe.vgg19.network import Vgg19

SMALLEST_PX = 48  # three cells of relu5_1 per side
WINDOW_STEPS = 10  # an image converges when its mean loss hardly falls from one window to the next
BETAS = (0.9, 0.99)
# Adam's eps, times the numbers in an image: the loss is a mean over them, so each one's gradient falls as they grow,
# and a fixed eps would stall large images. 1e-8, torch's own, at 256×171.
EPS_OF_A_MEAN = 1e-3
SETTLED_STEPS = 10_000  # moments carried over from an earlier scale need no bias correction


@dataclass(frozen=True)
class StyleTask:
    """One image to stylize: its content `[1, 3, H, W]` in [0, 1], and its styles `[1, 3, h, w]`.

    Without masks the styles are mixed by `shares` (sum 1); with `masks: [S, H, W]` (sum at most 1 at each pixel) each
    style has its own region of the image.
    """

    content: Tensor
    styles: tuple[Tensor, ...]
    shares: tuple[float, ...] = (1.0,)
    masks: Tensor | None = None


@dataclass(frozen=True)
class StyledImages:
    """Images `[N, 3, H, W]` in [0, 1], the last losses of each, and the steps that each took over all scales."""

    images: Tensor
    losses: list[float]
    steps: list[int]


@dataclass(frozen=True)
class Step:
    """Progress after an optimizer step: the share done, the images still active, and their losses.

    `image: [1, 3, h, w]`: the first of those images at its present size, which the next step changes.
    """

    share: float
    active: int
    losses: Losses
    image: Tensor


OnStep = Callable[[Step], None]


def pyramid(long_edge_px: int, scales: int) -> list[int]:
    """Longer edges from coarse to fine, √2 apart, none under SMALLEST_PX except the last."""
    edges = [round(long_edge_px / 2 ** (0.5 * k)) for k in reversed(range(scales))]
    return [edge for edge in edges[:-1] if edge >= SMALLEST_PX] + edges[-1:]


def size_at(height: int, width: int, long_edge_px: int) -> tuple[int, int]:
    """Height and width scaled to the given longer edge."""
    scale = long_edge_px / max(height, width)
    return max(16, round(height * scale)), max(16, round(width * scale))


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes `[N, 3, H, W]`, antialiased, clamped to [0, 1]."""
    if tuple(image.shape[2:]) == size:
        return image
    scaled = F.interpolate(image, size, mode="bicubic", antialias=True, align_corners=False)
    return scaled.clamp(0, 1)


def stylize(
    network: Vgg19,
    style_tasks: list[StyleTask],
    params: StyleParams,
    compute: Compute,
    tile_px: int = 0,
    on_step: OnStep = lambda step: None,
    start: Tensor | None = None,
    temporal: Temporal | None = None,
) -> StyledImages:
    """Stylizes tasks whose contents have one shape and that all have masks or all have none.

    Each result equals that of the task alone. `start: [N, 3, H, W]`: initial images instead of `params.init`. `temporal`: of one
    frame of a video, which then has one scale.
    """
    height, width = style_tasks[0].content.shape[2:]
    edges = pyramid(params.long_edge_px, params.scales)
    at_scale = [replace(params, steps=params.steps_at(k, len(edges))) for k in range(len(edges))]
    work = [float(edge * edge * own.steps) for edge, own in zip(edges, at_scale, strict=True)]
    descent = _start(style_tasks, start, size_at(height, width, edges[0]), params, compute)
    steps = torch.zeros(len(style_tasks), dtype=torch.long)
    for number, (edge, own) in enumerate(zip(edges, at_scale, strict=True)):
        size = size_at(height, width, edge)
        objective = objective_at(network, style_tasks, size, edge, params, compute, tile_px)
        objective = replace(objective, temporal=temporal)
        guides = _contents(style_tasks, size, compute) if params.content_weight > 0 else None
        descent = descent.enlarge(size, guides)

        def tell(share: float, images: Tensor, losses: Losses, number: int = number) -> None:
            done = (sum(work[:number]) + share * work[number]) / sum(work)
            on_step(Step(done, len(images), losses, images[:1].detach()))

        descend = _descend_lbfgs if params.optimizer == "lbfgs" else _descend_adam
        descent, losses, taken = descend(objective, descent, own, tell)
        steps += taken
    return StyledImages(descent.canvas, losses.tolist(), steps.tolist())


def _contents(style_tasks: list[StyleTask], size: tuple[int, int], compute: Compute) -> Tensor:
    """The contents `[N, 3, H, W]` at one size."""
    return torch.cat([resize(c.content.to(compute.device), size) for c in style_tasks])


def _start(
    style_tasks: list[StyleTask],
    given: Tensor | None,
    size: tuple[int, int],
    params: StyleParams,
    compute: Compute,
) -> Descent:
    """Starts from the given images, the content, or one noise image for all items, independent of the batch."""
    if given is not None:
        return Descent.at(resize(given.to(compute.device), size))
    if params.init == "content":
        return Descent.at(_contents(style_tasks, size, compute))
    noise = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(params.seed))
    return Descent.at(noise.expand(len(style_tasks), -1, -1, -1).to(compute.device))


def objective_at(
    network: Vgg19,
    style_tasks: list[StyleTask],
    size: tuple[int, int],
    edge: int,
    params: StyleParams,
    compute: Compute,
    tile_px: int,
) -> Objective:
    """The objective of the style tasks at one size."""
    tiles = tiles_of(*size, tile_px, params.last)
    contents = _contents(style_tasks, size, compute)
    content, content_size = content_targets(network, contents, params, compute, tiles)
    regions = None
    if style_tasks[0].masks is not None:
        masks = [c.masks[None].to(compute.device) for c in style_tasks if c.masks is not None]
        regions = torch.cat([F.interpolate(m, size, mode="area") for m in masks])
    style = style_targets(network, style_tasks, edge, params, compute, tile_px)
    return Objective(network, params, compute, tiles, content, content_size, style, regions)


def style_targets(
    network: Vgg19,
    style_tasks: list[StyleTask],
    edge: int,
    params: StyleParams,
    compute: Compute,
    tile_px: int = 0,
) -> dict[str, StyleTarget]:
    """The targets of each style layer for all items; a style shared by several items is computed once."""
    known: dict[int, dict[str, Statistics]] = {}
    for style in (s for c in style_tasks for s in c.styles):
        if id(style) not in known:
            views = [
                style_moments(network, view, params, compute, tile_px)
                for view in style_views(style.to(compute.device), edge, params)
            ]
            known[id(style)] = {
                k: statistics(_union([v[k] for v in views]), params.statistics) for k in views[0]
            }

    def target(layer: str, weight: float) -> StyleTarget:
        items = []
        for c in style_tasks:
            parts = [known[id(s)][layer] for s in c.styles]
            items.append(blend(parts, c.shares) if c.masks is None else _pad_and_stack(parts))
        joined = Statistics(torch.cat([i.mean for i in items]), torch.cat([i.second for i in items]))
        return style_target(joined, weight, params.statistics)

    return {layer: target(layer, weight) for layer, weight in params.style_layers}


def style_views(style: Tensor, edge: int, params: StyleParams) -> Iterator[Tensor]:
    """A style `[1, 3, h, w]` at each of its scales, for results whose longer side is `edge`, in each rotation."""
    for scale, degrees in product(params.style_scales, params.style_rotations):
        longer = max(SMALLEST_PX, round(edge * params.style_scale * scale))
        yield rotate(resize(style, size_at(style.shape[2], style.shape[3], longer)), degrees)


def rotate(image: Tensor, degrees: float) -> Tensor:
    """The image `[1, 3, H, W]` turned counterclockwise: exactly by multiples of 90°, else bilinearly, with mirrored corners."""
    if degrees % 90 == 0:
        return torch.rot90(image, round(degrees / 90) % 4, (2, 3))
    angle, (height, width) = math.radians(degrees), image.shape[2:]
    turn = torch.tensor(
        [
            [math.cos(angle), -math.sin(angle) * height / width, 0.0],
            [math.sin(angle) * width / height, math.cos(angle), 0.0],
        ]
    ).to(image)
    places = F.affine_grid(turn[None], [1, 3, height, width], align_corners=False)
    return F.grid_sample(image, places, padding_mode="reflection", align_corners=False).clamp(0, 1)


def _union(views: Sequence[Moments]) -> Moments:
    """The moments over several views, each of which counts as much as another."""
    return views[0] if len(views) == 1 else reduce(Moments.__add__, (view.mean() for view in views))


def _pad_and_stack(parts: list[Statistics]) -> Statistics:
    return Statistics(torch.cat([p.mean for p in parts], 1), torch.cat([p.second for p in parts], 1))


@dataclass(frozen=True)
class Descent:
    """The current images, with Adam's two moments: bias-corrected if they come from an earlier scale."""

    canvas: Tensor
    first: Tensor
    second: Tensor
    begun: bool

    @classmethod
    def at(cls, canvas: Tensor) -> Descent:
        """Starts at `canvas`, with zero moments."""
        canvas = canvas.contiguous(memory_format=torch.channels_last)
        return cls(canvas, torch.zeros_like(canvas), torch.zeros_like(canvas), False)

    def enlarge(self, size: tuple[int, int], guides: Tensor | None) -> Descent:
        """Enlarges images and moments to the next scale, the images with the edges of `guides: [N, 3, H, W]`, if given.

        Scales the moments, as the loss is a mean over pixels.
        """
        if tuple(self.canvas.shape[2:]) == size:
            return self
        shrink = self.canvas.shape[2] * self.canvas.shape[3] / (size[0] * size[1])

        def at(moment: Tensor, factor: float) -> Tensor:
            scaled = F.interpolate(moment, size, mode="bilinear", align_corners=False)
            return (scaled * factor).contiguous(memory_format=torch.channels_last)

        enlarged = resize(self.canvas, size) if guides is None else joint_upsample(self.canvas, guides)
        canvas = enlarged.contiguous(memory_format=torch.channels_last)
        return Descent(canvas, at(self.first, shrink), at(self.second, shrink**2), self.begun)


Tell = Callable[[float, Tensor, Losses], None]  # share, images, losses


@torch.no_grad()
def _descend_adam(
    objective: Objective, start: Descent, params: StyleParams, tell: Tell
) -> tuple[Descent, Tensor, Tensor]:
    """Runs Adam on the pixels; returns the EMA of the iterates (after Polyak & Juditsky 1992), last losses and steps.

    An item whose loss no longer falls leaves the batch.
    """
    count = len(start.canvas)
    average, first, second = (torch.empty_like(start.canvas) for _ in range(3))
    last, taken = torch.zeros(count), torch.zeros(count, dtype=torch.long)
    active = torch.arange(count)
    canvas, m, v = start.canvas.clone(), start.first.clone(), start.second.clone()
    mean = torch.zeros_like(canvas)
    clock = torch.tensor(float(SETTLED_STEPS if start.begun else 0), device=canvas.device)
    history: list[Tensor] = []
    for step in range(1, params.steps + 1):
        losses, slope = objective.losses_and_slope(canvas)
        slope = slope.contiguous(
            memory_format=torch.channels_last
        )  # Adam reads by address: one layout for all
        adam(
            [canvas],
            [slope],
            [m],
            [v],
            [],
            [clock],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=params.lr,
            weight_decay=0.0,
            eps=EPS_OF_A_MEAN / canvas[0].numel(),
            maximize=False,
        )
        canvas.clamp_(0, 1)
        mean.lerp_(canvas, 1 - params.ema)
        history.append(losses.total)
        tell(step / params.steps, canvas, losses)
        leaving = (
            _has_converged(history, params.stop_below)
            if step < params.steps
            else torch.ones(len(active), dtype=torch.bool)
        )
        if leaving.any():
            out = active[leaving]
            age = 0 if start.begun else step
            average[out] = mean[leaving] / (1 - params.ema**step)
            first[out] = m[leaving] / (1 - BETAS[0] ** age if age else 1)
            second[out] = v[leaving] / (1 - BETAS[1] ** age if age else 1)
            last[out], taken[out] = losses.total[leaving.to(losses.total.device)].cpu(), step
            if leaving.all():
                break
            stay = (~leaving).nonzero().flatten().to(canvas.device)
            active, objective = active[~leaving], objective.of_items(stay)
            canvas, m, v, mean = (
                t[stay].contiguous(memory_format=torch.channels_last) for t in (canvas, m, v, mean)
            )
            history = [h[stay] for h in history]
    return Descent(average.clamp_(0, 1), first, second, True), last, taken


def _has_converged(history: list[Tensor], stop_below: float) -> Tensor:
    """Which items' mean loss fell by less than `stop_below` of it over the last window; checked once per window."""
    count = len(history[0])
    if stop_below <= 0 or len(history) < 2 * WINDOW_STEPS or len(history) % WINDOW_STEPS:
        return torch.zeros(count, dtype=torch.bool)
    before = torch.stack(history[-2 * WINDOW_STEPS : -WINDOW_STEPS]).mean(0)
    now = torch.stack(history[-WINDOW_STEPS:]).mean(0)
    return (before - now < stop_below * before).cpu()


def _descend_lbfgs(
    objective: Objective, start: Descent, params: StyleParams, tell: Tell
) -> tuple[Descent, Tensor, Tensor]:
    """Runs L-BFGS with a strong Wolfe line search (Nocedal & Wright 2006, chapter 7), one image after another.

    One line search over a whole batch would make each image depend on the others.
    """
    canvases, last, taken = [], [], []
    for n in range(len(start.canvas)):
        alone = objective.of_items(torch.tensor([n], device=start.canvas.device))
        canvas = start.canvas[n : n + 1].clone(memory_format=torch.contiguous_format).requires_grad_(True)
        optimizer = torch.optim.LBFGS(
            [canvas],
            max_iter=params.steps,
            max_eval=params.steps,
            history_size=20,
            line_search_fn="strong_wolfe",
            tolerance_grad=0.0,
            tolerance_change=0.0,
        )
        totals: list[float] = []

        def closure(
            canvas: Tensor = canvas, alone: Objective = alone, totals: list[float] = totals, n: int = n
        ) -> float:
            losses, slope = alone.losses_and_slope(canvas)
            canvas.grad = slope.contiguous()
            totals.append(float(losses.total))
            tell((n + min(1.0, len(totals) / params.steps)) / len(start.canvas), canvas, losses)
            return totals[-1]

        optimizer.step(closure)
        canvases.append(canvas.detach().clamp(0, 1))
        last.append(min(totals))
        taken.append(len(totals))
    return Descent.at(torch.cat(canvases)), torch.tensor(last), torch.tensor(taken)
