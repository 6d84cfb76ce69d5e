"""Memorization: whether generated images copy training images. Every training image is searched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import betabinom, mannwhitneyu
from torch import Tensor
from torch.nn import functional as F

from ganpipe.compute.device import Compute
from ganpipe.evaluation.distances import kth_nearest_other
from ganpipe.evaluation.extractors import Features
from ganpipe.evaluation.verdict import IDENTICAL, Suspect
from ganpipe.imaging.tensors import composite_on_white

SIDE_PX = 16
NEAR = 0.05  # share of held-out images that count as near to a training image
CHANCE = 2e-4  # that an honest model is said to copy, by either test
CANDIDATES = 1  # nearest training images by thumbnail whose features are compared: the source of a copy is the first (LOG.md)
SUSPECTS = 10  # generated images that are shown beside their nearest training images
SEARCHED = 4  # times as many are nearest by thumbnail and compared by features
SEARCH_BLOCK = 2_048  # training images whose thumbnails are compared at once

THUMBNAIL = f"thumbnail {SIDE_PX}×{SIDE_PX}, normalized; best of mirrored and shifted"


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


def variants(pixels: Tensor) -> Tensor:
    """Normalized thumbnails `[18, N, C·16·16]` of uint8 images: mirrored or not, shifted by half a thumbnail's pixel or not."""
    height, width = (max(1, round(side / (2 * SIDE_PX))) for side in pixels.shape[1:3])
    images = F.pad(pixels.permute(0, 3, 1, 2).float(), (width, width, height, height), mode="replicate")
    images = images.to(torch.uint8).permute(0, 2, 3, 1)
    places = [(y, x) for y in (height, 0, 2 * height) for x in (width, 0, 2 * width)]
    shifted = [thumbnails(images[:, y : y + pixels.shape[1], x : x + pixels.shape[2]]) for y, x in places]
    return torch.stack([normalized(side) for part in shifted for side in (part, part.flip(3))])


def nearest_other_thumbnail(pixels: Tensor) -> Features:
    """Distance of each image's normalized thumbnail to the nearest other one's."""
    return kth_nearest_other(normalized(thumbnails(pixels)).double().numpy(), 1)


@dataclass(frozen=True)
class Neighbors:
    """The nearest training images of each query: `distances` and `rows`, `[N, CANDIDATES]`, nearest first."""

    distances: Features
    rows: np.ndarray


def nearest_training_images(queries: Tensor, shards: Iterable[Tensor], compute: Compute) -> Neighbors:
    """Searches all training images (uint8 shards) for those whose thumbnail is nearest to each query's `[N, H, W, C]`."""
    asked = variants(queries.to(compute.device))
    best = torch.full((len(queries), CANDIDATES), -2.0, device=compute.device)
    rows = torch.zeros_like(best, dtype=torch.long)
    start = 0
    for shard in shards:
        for part in shard.split(SEARCH_BLOCK):
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

    `share`: nearer than 95% of the held-out images are (0.05 if none is copied). `identical`: less than half as far as
    the nearest of all held-out images (0 if none is copied). `farther`: probability that a generated image is farther
    from the training images than a held-out one (CT, 0.5 if none is copied).
    """

    share: float
    identical: float
    farther: float
    samples: int
    held_out: int

    @property
    def share_by_chance(self) -> float:
        """Probability of a `share` at least as large if none is copied: it depends on the ranks alone."""
        rank = max(1, math.ceil(NEAR * self.held_out))
        return float(
            betabinom.sf(round(self.share * self.samples) - 1, self.samples, rank, self.held_out + 1 - rank)
        )

    @property
    def farther_limit(self) -> float:
        """The smallest `farther` that chance explains."""
        n, h = self.samples, self.held_out
        return min(0.35, 0.5 - 3.5 * ((n + h + 1) / (12 * n * h)) ** 0.5)

    @property
    def copies(self) -> bool:
        """Whether more images are near to training images than chance explains."""
        near = self.share > NEAR + 0.03 and self.share_by_chance < CHANCE
        return self.identical > IDENTICAL or near or self.farther < self.farther_limit


def near_limit(holdout: Features) -> float:
    """The distance below which NEAR of the held-out images lie."""
    rank = max(1, math.ceil(NEAR * len(holdout)))
    return float(np.partition(holdout, rank - 1)[rank - 1])


def find_suspects(
    near: Neighbors,
    feature_distance: Callable[[np.ndarray, np.ndarray], Features],
    holdout_thumbs: Features,
    holdout_deep: Features,
) -> list[Suspect]:
    """The SUSPECTS generated images that are likeliest copies: nearest by thumbnail, then in the order of their features.

    `feature_distance`: between generated images and training images, both by row. The other two: distances of held-out
    images to their nearest training images, by thumbnails and by features.
    """
    images = np.argsort(near.distances[:, 0], kind="stable")[: SEARCHED * SUSPECTS]
    rows = near.rows[images, 0]
    thumbs = near.distances[images, 0] / max(near_limit(holdout_thumbs), 1e-9)
    deep = feature_distance(images, rows) / max(near_limit(holdout_deep), 1e-9)
    order = np.argsort(deep, kind="stable")[:SUSPECTS]
    return [Suspect(int(images[k]), int(rows[k]), float(thumbs[k]), float(deep[k])) for k in order]


def compare_copies(fake: Features, holdout: Features) -> CopyTest:
    """Compares distances to the nearest training image, of generated and of held-out images (Meehan et al. 2020)."""
    share = float((fake < near_limit(holdout)).mean())
    identical = float((fake < holdout.min() / 2).mean())
    farther = float(mannwhitneyu(fake, holdout).statistic) / (len(fake) * len(holdout))
    return CopyTest(share, identical, farther, len(fake), len(holdout))
