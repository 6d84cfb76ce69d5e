"""Path-length regularization of G (Karras et al. 2020, arXiv 1912.04958, section 3.2 and appendix B).

A step of a fixed length in w is to change the image by a fixed amount: γ·E(‖Jᵀy‖ − a)², where J is the Jacobian of the
synthesis at w, y is an image of normal noise, and a is the moving average of ‖Jᵀy‖. y is scaled by 1/√pixels and the squared
length averaged over the layers, so that a weight of 2 is the paper's γ for every resolution. As there it is lazy
(`loss.path_length_every`) and sees half of the batch, since it needs as much memory per image as two steps.

Departures: it sees the latents of the step of G instead of new ones; a is the average of the steps before this one, so that
how a batch is split changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganpipe.compute.device import Compute
from ganpipe.compute.distributed import Distributed
from ganpipe.errors import GanpipeError
from ganpipe.models.convolutions import input_gradient
from ganpipe.models.registry import MODELS, Styled
from ganpipe.settings.schema import LossSettings, Settings
from ganpipe.training.algorithm import Scalars
from ganpipe.training.gan_batch import Batch

DECAY = 0.99  # of the average length
SHARE = 0.5  # of the batch


def check_path_length(settings: Settings) -> None:
    """Raises GanpipeError, before any work, if path lengths are asked of a model without styles."""
    if settings.loss.path_length_weight and MODELS[settings.model.name].random_numbers is None:
        able = ", ".join(name for name, a in MODELS.items() if a.random_numbers)
        raise GanpipeError(
            f"loss.path_length_weight={settings.loss.path_length_weight:g}, and model.name={settings.model.name} has no "
            f"styles; use {able}, or loss.path_length_weight=0."
        )


def path_lengths(synthesis: Callable[[Tensor], Tensor], w: Tensor, y: Tensor) -> Tensor:
    """‖Jᵀy‖ `[N]` with its graph, for `w: [N, layers, w_dim]` and `y: [N, C, H, W]`; a mean square over the layers."""
    with input_gradient():
        images = synthesis(w).float()
        products = (images * y).sum() / math.sqrt(y.shape[2] * y.shape[3])
        (slope,) = torch.autograd.grad(products, w, create_graph=True)
    return slope.float().square().sum(2).mean(1).sqrt()


class PathLength:
    """The regularizer of one G. Its state is the average length a."""

    def __init__(self, G: nn.Module, loss: LossSettings, compute: Compute, distributed: Distributed) -> None:
        self.G, self.compute, self.distributed = G, compute, distributed
        self.weight = loss.path_length_weight * loss.path_length_every
        self.average = torch.zeros((), device=compute.device)

    def gradients(self, batch: Batch, microbatch_images: int) -> tuple[list[Tensor], Scalars]:
        """The gradients of G's parameters, and scalars: means over the part of the batch that it sees."""
        seen = batch.part(slice(0, max(1, int(SHARE * len(batch)))))
        learned = list(self.G.parameters())
        gradients = [torch.zeros_like(weight) for weight in learned]
        stats = {
            name: torch.zeros((), device=self.compute.device) for name in ("path_length", "path_penalty")
        }
        for part in seen.split(microbatch_images or len(seen)):
            share = len(part) / len(seen)
            lengths = self._lengths(part)
            penalty = (lengths - self.average).square().mean()
            found = torch.autograd.grad(self.weight * share * penalty, learned, materialize_grads=True)
            torch._foreach_add_(gradients, found)
            stats["path_length"] += share * lengths.detach().mean()
            stats["path_penalty"] += share * penalty.detach()
        mean = stats["path_length"].clone()
        self.distributed.average_([*gradients, mean])
        self.average = self.average.lerp(mean, 1 - DECAY)
        return gradients, stats

    def _lengths(self, part: Batch) -> Tensor:
        G, inputs = self.G, part.g_inputs()
        assert isinstance(G, Styled)
        assert part.path is not None
        with self.compute.autocast():
            noise = G.noise_in(inputs[2])
            return path_lengths(lambda w: G.synthesis(w, noise), G.styles(*inputs), part.path)

    def state_dict(self) -> dict[str, Any]:
        """The average as a plain number."""
        return {"average": float(self.average)}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.average = torch.tensor(saved["average"], device=self.compute.device)
