"""Gatys et al. 2016 as every tutorial writes it: one size, Gram matrices, Adam on the pixels."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.style_peers.timing import PeerRun, Watch, check_steps
from benchmarks.style_peers.vgg19 import CONTENT, STYLE, activations, at_edge, embedded_vgg19, open_rgb


def run_gatys(
    content: Path,
    style: Path,
    steps: int,
    long_edge_px: int,
    *,
    style_weight: float = 1e2,
    lr: float = 0.02,
    snapshot_every_s: float = 0.0,
) -> PeerRun:
    """The plain loop: Gram matrices of relu1_1 … relu5_1, content at relu4_2, Adam on the pixels from the content.

    A step is one forward and one backward pass. Content is a mean square and weighs 1; style is the mean square of
    the difference of Gram matrices, averaged over the layers, and weighs `style_weight`: a hundred times as much gives
    nearly the same image after 100 steps.

    Raises:
        ValueError: fewer than two steps, of which none could be timed.
    """
    check_steps(steps)
    network = embedded_vgg19()
    images = open_rgb(content), open_rgb(style)
    watch = Watch("Gatys (tutorial loop)", snapshot_every_s)
    shown = at_edge(images[0], long_edge_px)
    with torch.no_grad():
        wanted = activations(network, shown)[CONTENT]
        found = activations(network, at_edge(images[1], long_edge_px))
        grams = {place: gram(found[place]) for place in STYLE}
    image = shown.clone().requires_grad_()
    adam = torch.optim.Adam([image], lr)
    for _ in range(steps):
        adam.zero_grad()
        found = activations(network, image)
        strokes = sum(F.mse_loss(gram(found[place]), target) for place, target in grams.items()) / len(grams)
        (F.mse_loss(found[CONTENT], wanted) + style_weight * strokes).backward()
        adam.step()
        with torch.no_grad():
            image.clamp_(0, 1)
        watch.step((image.shape[3], image.shape[2]), lambda: image)
    return watch.finish(image)


def gram(features: Tensor) -> Tensor:
    """`[C, C]` of `features: [1, C, H, W]`, divided by the number of positions."""
    flat = features[0].flatten(1)
    return flat @ flat.T / flat.shape[1]
