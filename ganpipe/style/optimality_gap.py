"""The optimality gap: how far an image's loss is above the lowest that a long run reaches."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ganpipe.compute.device import Compute
from ganpipe.style.optimize import StyleTask, objective_at, size_at, stylize
from ganpipe.style.params import StyleParams
from ganpipe.vgg19.network import Vgg19

LONGER = 8  # times the configured steps
LEAST_STEPS = 300  # at each scale


def optimality_gap(
    network: Vgg19,
    style_task: StyleTask,
    image: Tensor,
    params: StyleParams,
    compute: Compute,
    tile_px: int = 0,
) -> float:
    """The loss of `image: [1, 3, H, W]` divided by the loss that a long float32 run reaches, minus 1.

    The long run has the same scales and LONGER times the steps (LEAST_STEPS at least), and does not stop early. The gap
    is below 0 if the image beats the long run's.
    """
    exact = Compute(compute.device, "fp32")
    steps = max(LEAST_STEPS, LONGER * params.steps)
    long = replace(params, steps=steps, last_share=1.0, stop_below=0.0)
    best = stylize(network, [style_task], long, exact, tile_px).images
    found, reached = (loss_of(network, style_task, shown, params, exact, tile_px) for shown in (image, best))
    return found / max(reached, 1e-12) - 1


@torch.no_grad()
def loss_of(
    network: Vgg19,
    style_task: StyleTask,
    image: Tensor,
    params: StyleParams,
    compute: Compute,
    tile_px: int = 0,
) -> float:
    """The loss of `image: [1, 3, H, W]` at the last scale."""
    edge = params.long_edge_px
    size = size_at(style_task.content.shape[2], style_task.content.shape[3], edge)
    objective = objective_at(network, [style_task], size, edge, params, compute, tile_px)
    return float(objective.losses_and_slope(image.to(compute.device))[0].total)
