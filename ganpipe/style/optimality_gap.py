"""How far an image is from the best that its own losses allow: the optimality gap."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ganpipe.compute.device import Compute
from ganpipe.style.optimize import StyleTask, objective_at, size_at, stylize
from ganpipe.style.params import StyleParams
from ganpipe.vgg19.network import Vgg19

LONGER = 8  # times the recipe's steps
LEAST_STEPS = 300  # at each scale


def optimality_gap(
    network: Vgg19,
    style_task: StyleTask,
    image: Tensor,
    params: StyleParams,
    compute: Compute,
    tile_px: int = 0,
) -> float:
    """How much larger the loss of `image: [1, 3, H, W]` is than that which a long float32 run reaches, as a share of it.

    The long run has the same scales and LONGER times the steps (LEAST_STEPS at least), and nothing leaves early. Below 0
    where the image is better than the long run's.
    """
    exact = Compute(compute.device, "fp32")
    long = replace(params, steps=max(LEAST_STEPS, LONGER * params.steps), stop_below=0.0)
    best = stylize(network, [style_task], long, exact, tile_px).images
    found, reached = (
        loss_of(network, style_task, picture, params, exact, tile_px) for picture in (image, best)
    )
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
    """The loss of `image: [1, 3, H, W]` at the recipe's last scale."""
    edge = params.long_edge_px
    size = size_at(style_task.content.shape[2], style_task.content.shape[3], edge)
    objective = objective_at(network, [style_task], size, edge, params, compute, tile_px)
    return float(objective.losses_and_slope(image.to(compute.device))[0].total)
