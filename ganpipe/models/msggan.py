"""MSG-GAN (Karnewar & Wang 2020, arXiv 1903.06048): G's images at every scale, all shown to D at once.

The base is `progan` at full size (MSG-ProGAN). D joins the images of a scale to its map of that size without a layer
between, φ_simple: of the paper's three functions the best one for this base (table 5). Each join gets minibatch stddev.

Departure: none at the largest scale, so that with one scale (`model.scales=1`) the networks are those of `progan`.
"""

from __future__ import annotations

import math
from itertools import accumulate, repeat

import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.imaging.image import ImageShape
from ganpipe.models.layers import base_size, doublings
from ganpipe.models.presentation import Presentation
from ganpipe.models.progan import DiscriminatorLayers, GeneratorLayers
from ganpipe.settings.schema import ModelSettings


def shown_levels(settings: ModelSettings, shape: ImageShape) -> list[int]:
    """The levels whose images D is shown, the largest first."""
    levels = doublings(shape) + 1
    return list(reversed(range(levels)))[: settings.scales or levels]


def join(scales: tuple[Tensor, ...]) -> Tensor:
    """The pixels of all scales side by side, `[N, C, P]`: noise, penalties and interpolation then need no loop."""
    return torch.cat([images.flatten(2) for images in scales], 2)


class MsgGenerator(GeneratorLayers):
    """`z: [N, z_dim]` → images near `[-1, 1]`, without an output activation.

    In training mode those of all scales, joined; in evaluation mode those of the largest one, `[N, C, H, W]`.
    """

    def __init__(self, settings: ModelSettings, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(settings, shape, sorted(shown_levels(settings, shape)))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.synthesis(self.mapping(z))

    def synthesis(self, w: Tensor) -> Tensor:
        """The images of a smallest map."""
        maps = list(accumulate(self.blocks, lambda x, block: block(x), initial=w))[1:]
        if not self.training:
            return self.image(self.levels, maps[-1])
        return join(
            tuple(self.image(k, maps[k]) for k in reversed(range(len(maps))) if str(k) in self.images)
        )


class MsgDiscriminator(DiscriminatorLayers, Presentation):
    """Images of all scales, joined, → logits `[N]`; in evaluation mode, images `[N, C, H, W]` of full size."""

    def __init__(self, settings: ModelSettings, shape: ImageShape, classes: int = 0) -> None:
        largest, *others = shown_levels(settings, shape)
        super().__init__(settings, shape, [largest], others)
        height, width = base_size(shape)
        self.sizes = [(height * 2**k, width * 2**k) for k in (largest, *others)]

    def present(self, images: Tensor) -> Tensor:
        """The images at every scale, by average pooling, joined."""
        pooled = repeat(2, len(self.sizes) - 1)
        return join(tuple(accumulate(pooled, F.avg_pool2d, initial=images)))

    def scales(self, shown: Tensor) -> tuple[Tensor, ...]:
        """The images of each scale."""
        parts = shown.split([math.prod(size) for size in self.sizes], dim=2)
        return tuple(part.unflatten(2, size) for part, size in zip(parts, self.sizes, strict=True))

    def join(self, scales: tuple[Tensor, ...]) -> Tensor:
        """The inverse of `scales`."""
        return join(scales)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        largest, *others = self.scales(images if self.training else self.present(images))
        x = self.block(self.levels, self.read(self.levels, largest))
        for level in reversed(range(self.levels)):
            if level in self.joined:
                x = torch.cat([x, others[self.levels - 1 - level].to(x.dtype)], 1)
            x = self.block(level, x)
        return x
