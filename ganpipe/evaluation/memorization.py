"""Memorization: whether generated images copy training images. Every training image is searched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor
from torch.nn import functional as F

from ganpipe.compute.device import Compute
from ganpipe.evaluation.extractors import Features
from ganpipe.imaging.tensors import composite_on_white

SIDE_PX = 16
LEAST_HELD_OUT = 100  # below it the nearest held-out images say too little about an honest model
CANDIDATES = 3  # nearest training images by thumbnail whose features are compared
PIXELS_BLOCK = 2_048  # training images whose thumbnails are compared at once
SHIFTS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))

THUMBNAIL = f"thumbnail {SIDE_PX}×{SIDE_PX}, normalized; best of mirrored and ±1 pixel"


def thumbnails(pixels: Tensor) -> Tensor:
    """16×16 thumbnails `[N, C, 16, 16]` in [0, 1] of uint8 images `[N, H, W, C]`."""
    images = composite_on_white(pixels).permute(0, 3, 1, 2).float().div(255)
    return F.interpolate(images, (SIDE_PX, SIDE_PX), mode="bilinear", antialias=True, align_corners=False)


def normalized(thumbs: Tensor) -> Tensor:
    """Thumbnails as vectors `[N, C·16·16]` with mean 0 and length 1: brightness and contrast do not count.

    One of a single color becomes 0.
    """
    flat = thumbs.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    return flat / flat.norm(dim=1, keepdim=True).clamp(min=0.01 * flat.shape[1] ** 0.5)


def variants(thumbs: Tensor) -> Tensor:
    """Normalized thumbnails `[V, N, C·16·16]`: as they are, mirrored, and both shifted by a pixel each way."""
    padded = F.pad(thumbs, (1, 1, 1, 1), mode="replicate")
    shifted = [padded[:, :, 1 + y : 1 + y + SIDE_PX, 1 + x : 1 + x + SIDE_PX] for y, x in SHIFTS]
    return torch.stack([normalized(side) for part in shifted for side in (part, part.flip(3))])


@dataclass(frozen=True)
class Neighbors:
    """The nearest training images of each query: `distances` and `rows`, `[N, CANDIDATES]`, nearest first."""

    distances: Features
    rows: np.ndarray


def nearest_training_images(queries: Tensor, shards: Iterable[Tensor], compute: Compute) -> Neighbors:
    """Searches all training images (uint8 shards) for those whose thumbnail is nearest to each query's `[N, H, W, C]`."""
    asked = variants(thumbnails(queries.to(compute.device)))
    best = torch.full((len(queries), CANDIDATES), -2.0, device=compute.device)
    rows = torch.zeros_like(best, dtype=torch.long)
    start = 0
    for shard in shards:
        for part in shard.split(PIXELS_BLOCK):
            similar = _similarity(asked, normalized(thumbnails(part.to(compute.device))))
            value, place = similar.topk(min(CANDIDATES, len(part)), 1)
            best, order = torch.cat([best, value], 1).topk(CANDIDATES, 1)
            rows = torch.cat([rows, place + start], 1).gather(1, order)
            start += len(part)
    return Neighbors((2 - 2 * best.double()).clamp(min=0).sqrt().cpu().numpy(), rows.cpu().numpy())


def _similarity(asked: Tensor, thumbs: Tensor) -> Tensor:
    """The largest inner product over all variants, `[N, training images]`."""
    best = asked[0] @ thumbs.T
    for variant in asked[1:]:
        torch.maximum(best, variant @ thumbs.T, out=best)
    return best


@dataclass(frozen=True)
class CopyTest:
    """How near generated images are to training images, compared with held-out images.

    `share`: nearer than 95% of the held-out images are (0.05 if none is copied). `farther`: probability that a
    generated image is farther from the training images than a held-out one (CT, 0.5 if none is copied).
    """

    share: float
    farther: float
    samples: int
    held_out: int

    @property
    def share_limit(self) -> float:
        """The largest `share` that chance explains."""
        return 0.05 + max(0.03, 3.5 * (0.0475 * (1 / self.samples + 1 / self.held_out)) ** 0.5)

    @property
    def farther_limit(self) -> float:
        """The smallest `farther` that chance explains."""
        n, h = self.samples, self.held_out
        return min(0.35, 0.5 - 3.5 * ((n + h + 1) / (12 * n * h)) ** 0.5)

    @property
    def copies(self) -> bool:
        """Whether more images are near to training images than chance explains."""
        return self.share > self.share_limit or self.farther < self.farther_limit


def compare_copies(fake: Features, holdout: Features) -> CopyTest:
    """Compares distances to the nearest training image, of generated and of held-out images (Meehan et al. 2020)."""
    share = float((fake < np.quantile(holdout, 0.05)).mean())
    farther = float(mannwhitneyu(fake, holdout).statistic) / (len(fake) * len(holdout))
    return CopyTest(share, farther, len(fake), len(holdout))
