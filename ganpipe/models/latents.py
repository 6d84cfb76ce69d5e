"""Points of latent space that have an image of their own: in z, in w of a `Mapped` generator, or in w+ of a `Styled` one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from ganpipe.compute.random import MEAN, latents
from ganpipe.models.registry import MEAN_LATENTS, Mapped, Styled

Space = Literal["z", "w", "w+"]  # input of G; of its synthesis, for all layers together; for each layer


@dataclass(frozen=True)
class Latent:
    """Inputs that fix a generator's image: `value: [1, …]`, the noise `[1, pixels]` of its layers, the label in z.

    No noise is the generator's fixed one.
    """

    space: Space
    value: Tensor
    noise: Tensor | None = None
    label: int | None = None

    def per_layer(self, G: nn.Module) -> Latent:
        """The same in w+, if it is in w of a `Styled` generator."""
        if self.space != "w" or not isinstance(G, Styled):
            return self
        return replace(self, space="w+", value=self.value[:, None].expand(-1, G.layers, -1))


def draw(G: nn.Module, latent: Latent) -> Tensor:
    """The image `[1, C, H, W]`, differentiable. G is in evaluation mode."""
    if latent.space == "z":
        labels = None if latent.label is None else torch.tensor([latent.label], device=latent.value.device)
        return G(latent.value, labels)
    assert isinstance(G, Mapped)
    if isinstance(G, Styled):
        return G.synthesis(latent.value, latent.noise)
    return G.synthesis(latent.value)


def own_space(G: nn.Module) -> Space:
    """The space that a generator has besides w+."""
    return "w" if isinstance(G, Mapped) else "z"


def latent_shape(G: nn.Module, z_dim: int, classes: int, space: Space) -> tuple[int, ...] | None:
    """The shape of a value in this space; None if the generator does not have it."""
    if space == "z":
        return (1, z_dim)
    if not isinstance(G, Mapped) or (space == "w+" and not isinstance(G, Styled)):
        return None
    device = next(G.parameters()).device
    label = torch.zeros(1, dtype=torch.long, device=device) if classes else None
    with torch.no_grad():
        w = G.mapping(torch.zeros(1, z_dim, device=device), label)
    return (1, G.layers, *w.shape[1:]) if space == "w+" and isinstance(G, Styled) else tuple(w.shape)


@torch.no_grad()
def mean_and_deviation(
    G: nn.Module, z_dim: int, labels: Tensor | None, device: torch.device
) -> tuple[Tensor, float]:
    """The mean `[1, …]` of z or w over many latents, and √E‖w − w̄‖². `labels: [MEAN_LATENTS]` of a conditional mapping."""
    z = latents(0, MEAN, 0, MEAN_LATENTS, z_dim, device)
    w = G.mapping(z, labels) if isinstance(G, Mapped) else z
    mean = w.mean(0, keepdim=True)
    return mean, float((w - mean).flatten(1).square().sum(1).mean().sqrt())


def between(a: Latent, b: Latent, t: float) -> Latent:
    """The latent at share `t` of the way from `a` to `b`, of one space: straight in w, along a great circle in z and noise."""
    value = great_circle(a.value, b.value, t) if a.space == "z" else torch.lerp(a.value, b.value, t)
    noise = None if a.noise is None or b.noise is None else great_circle(a.noise, b.noise, t)
    return Latent(a.space, value, noise, a.label)


def great_circle(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical interpolation of rows `[N, d]` (White 2016, arXiv 1609.04468): a normal vector keeps its length."""
    angle = torch.acos(torch.cosine_similarity(a, b).clamp(-1, 1))[:, None]
    sine = torch.sin(angle)
    straight = torch.lerp(a, b, t)
    curved = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / sine.clamp_min(1e-6)
    return torch.where(sine > 1e-6, curved, straight)
