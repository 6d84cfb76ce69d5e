"""Projection: the latent whose image is nearest to a photo (Karras et al. 2020, arXiv 1912.04958, section 5, appendix D).

Gradient descent on w (or w+, or z of a generator without a mapping) and on the noise of the layers, from the mean of w. Noise
that falls is added to w, and the noise maps are kept free of a signal: their neighbors are to be uncorrelated at every scale.

Departures: the perceptual distance is that of VGG19's normalized features (Zhang et al. 2018, arXiv 1801.03924, eq. 1, with
all weights 1) instead of LPIPS with learned weights, and the mean square of the pixels' difference, since normalized
features hardly see brightness; the schedules are shares of any number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganpipe.compute.random import PROJECTION, generator_at
from ganpipe.models.latents import Latent, draw
from ganpipe.models.registry import Styled
from ganpipe.vgg19.network import Vgg19

HIGHEST_LR = 0.1
RAMP_UP, RAMP_DOWN = 0.05, 0.25  # shares of the steps
NOISE_OF_W, NOISY_SHARE = 0.05, 0.75  # of the deviation of w, and for so many of the steps
CORRELATION_WEIGHT = 1e5
SMALLEST_MAP_PX = 8  # of the pyramid on which neighbors are compared
SMALLEST_PX, LARGEST_PX = 64, 256  # longer edge of the images that VGG19 compares
PIXEL_WEIGHT = 10.0
LAYERS = ("relu1_2", "relu2_2", "relu3_4", "relu4_4", "relu5_4")


@dataclass(frozen=True)
class ProjectionStep:
    """After step `number`: the image `[1, C, H, W]` of the latent, without what is added to w, and its distance."""

    number: int
    image: Tensor
    distance: float


class PerceptualDistance:
    """The distance of images from one target `[1, C, H, W]` in `[-1, 1]`: 0 for the same image."""

    def __init__(self, target: Tensor, network: Vgg19) -> None:
        self.network, self.target = network, target
        with torch.no_grad():
            self.wanted = self._features(target)

    def __call__(self, image: Tensor) -> Tensor:
        pairs = zip(self._features(image), self.wanted, strict=True)
        features = torch.stack([(a - b).square().sum(1).mean() for a, b in pairs]).sum()
        return features + PIXEL_WEIGHT * F.mse_loss(image, self.target)

    def _features(self, image: Tensor) -> list[Tensor]:
        found = self.network(_sized((color_on_white(image) + 1) / 2), LAYERS)
        return [F.normalize(found[layer], dim=1) for layer in LAYERS]


def color_on_white(images: Tensor) -> Tensor:
    """`[N, 3, H, W]` in `[-1, 1]` of gray, color, or color with alpha."""
    if images.shape[1] != 4:
        return images.expand(-1, 3, -1, -1)
    alpha = (images[:, 3:] + 1) / 2
    return images[:, :3] * alpha + (1 - alpha)


def _sized(images: Tensor) -> Tensor:
    longer = max(images.shape[2:])
    edge = min(max(longer, SMALLEST_PX), LARGEST_PX)
    if edge == longer:
        return images
    size = [max(1, round(side * edge / longer)) for side in images.shape[2:]]
    if edge < longer:
        return F.interpolate(images, size, mode="area")
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


def correlation(noise: Tensor) -> Tensor:
    """Squared correlations of a map `[1, 1, H, W]` with itself one pixel aside, summed over a pyramid (appendix D).

    A level is half the size: means of 2×2 pixels, times 2, which keeps the variance of white noise.
    """
    total = torch.zeros((), device=noise.device)
    while True:
        total = total + sum((noise * noise.roll(1, axis)).mean().square() for axis in (2, 3))
        if min(noise.shape[2:]) < 2 * SMALLEST_MAP_PX:
            return total
        noise = F.avg_pool2d(noise, 2) * 2


def learning_rate(t: float) -> float:
    """At share `t` of the steps: a linear rise, then a constant, then half a cosine down to 0."""
    down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / RAMP_DOWN))
    return HIGHEST_LR * down * min(1.0, t / RAMP_UP)


def project(
    G: nn.Module,
    start: Latent,
    deviation: float,
    distance: Callable[[Tensor], Tensor],
    steps: int,
    seed: int,
    on_step: Callable[[ProjectionStep], None] = lambda step: None,
    every: int = 1,
) -> Latent:
    """The latent to which `steps` steps of Adam lead from `start`. `deviation`: √E‖w − w̄‖² of the space.

    `on_step` is called before the first step with number 0, after each `every`th and after the last.
    """
    G.eval().requires_grad_(False)
    device = start.value.device
    value, fixed = start.value.clone().requires_grad_(True), None
    if isinstance(G, Styled):
        fixed = G.fixed_noise.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([t for t in (value, fixed) if t is not None], HIGHEST_LR)
    latent = replace(start, value=value, noise=fixed)

    def tell(number: int) -> None:
        with torch.no_grad():
            image = draw(G, latent)
            on_step(ProjectionStep(number, image, float(distance(image))))

    tell(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate((step + 0.5) / steps)
        spread = NOISE_OF_W * deviation * max(0.0, 1 - step / (NOISY_SHARE * steps)) ** 2
        drawn = torch.randn(value.shape, generator=generator_at(seed, PROJECTION, step)).to(device)
        loss = distance(draw(G, replace(latent, value=value + spread * drawn)))
        if isinstance(G, Styled) and fixed is not None:
            loss = loss + CORRELATION_WEIGHT * sum(correlation(m) for m in G.noise_maps(fixed))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if isinstance(G, Styled) and fixed is not None:
            _normalize(G.noise_maps(fixed.detach()))
        if (step + 1) % every == 0 or step + 1 == steps:
            tell(step + 1)
    return replace(latent, value=value.detach(), noise=None if fixed is None else fixed.detach())


def _normalize(maps: list[Tensor]) -> None:
    """Gives each noise map a mean of 0 and a mean square of 1, in place."""
    for noise in maps:
        noise.sub_(noise.mean()).mul_(noise.square().mean().clamp_min(1e-12).rsqrt())
