"""FastGAN (Liu et al. 2021, arXiv 2101.04775) for 50 to 1,000 images.

G: transposed 4×4 start, nearest doubling, gated linear units; skip-layer excitation carries the channels of small maps
to large ones (section 3.1). D: blocks of two paths, the same excitation, and decoders that must reconstruct the image
from its features (section 3.2): a self-supervision that keeps D from memorizing.

Departures: any size from 32 to 512 that is a small base doubled; below 64 pixels the excitation spans two doublings
instead of four; no noise is injected, so that an image depends on its latent alone; one decoder for the whole image
and one for a quarter of it, and no third for the half-size branch.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from ganpipe.imaging.image import ImageShape
from ganpipe.models.convolutions import Conv, ConvTranspose
from ganpipe.models.layers import base_size, doublings, size_problem
from ganpipe.settings.schema import ModelSettings

SMALLEST_PX, LARGEST_PX = 32, 512
NARROWEST = 64  # as published, at the map of 128 pixels
SHARES = (16, 16, 8, 4, 2, 1, 0.5, 0.25)  # multiples of it, at the base and after each doubling
DECODED_UP_TO = 4  # doublings of a decoder: 8 → 128 pixels
QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))


def shape_problem(shape: ImageShape) -> str | None:
    """Why this shape is impossible, as the end of a sentence; None if fastgan can make it."""
    return size_problem(shape, SMALLEST_PX, LARGEST_PX)


def width_at(level: int, settings: ModelSettings) -> int:
    """Channels after `level` doublings of the base; a multiple of 4."""
    return max(4, round(NARROWEST * settings.width * SHARES[level] / 4) * 4)


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Module:
    """A convolution with spectral normalization, without bias, as everywhere in FastGAN."""
    return spectral_norm(Conv(inputs, outputs, kernel, stride, padding, bias=False))


def glu_block(inputs: int, outputs: int) -> list[nn.Module]:
    """3×3 convolution, batch norm, gated linear unit."""
    return [conv(inputs, 2 * outputs, 3, padding=1), nn.BatchNorm2d(2 * outputs), nn.GLU(1)]


def upsample_block(inputs: int, outputs: int, twice: bool = False) -> nn.Sequential:
    """Nearest doubling and one or two gated convolutions."""
    more = glu_block(outputs, outputs) if twice else []
    return nn.Sequential(nn.Upsample(scale_factor=2.0, mode="nearest"), *glu_block(inputs, outputs), *more)


class Excitation(nn.Module):
    """`large · σ(W₂ act(W₁ pool₄(small)))`: channels of a large map weighed by a small one (eq. 1)."""

    def __init__(self, small: int, large: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(conv(small, large, 4), nn.SiLU(), conv(large, large, 1), nn.Sigmoid())

    def forward(self, small: Tensor, large: Tensor) -> Tensor:
        return large * self.weigh(_four_by_four(small))


def _four_by_four(x: Tensor) -> Tensor:
    """Means over a 4×4 grid. Adaptive pooling has no deterministic backward on a GPU; most sizes do not need it."""
    height, width = x.shape[2:]
    if height % 4 or width % 4:
        return F.adaptive_avg_pool2d(x, 4)
    return F.avg_pool2d(x, (height // 4, width // 4))


class FastGanGenerator(nn.Module):
    """`z: [N, z_dim]` → images `[N, C, H, W]` in `[-1, 1]`."""

    def __init__(self, settings: ModelSettings, shape: ImageShape, classes: int = 0) -> None:
        super().__init__()
        levels = doublings(shape)
        wide = [width_at(level, settings) for level in range(levels + 1)]
        self.span = 4 if levels >= 4 else 2
        self.start = nn.Sequential(
            spectral_norm(ConvTranspose(settings.z_dim, 2 * wide[0], base_size(shape), bias=False)),
            nn.BatchNorm2d(2 * wide[0]),
            nn.GLU(1),
        )
        self.steps = nn.ModuleList(
            upsample_block(wide[level], wide[level + 1], twice=level % 2 == 0) for level in range(levels)
        )
        self.excite = nn.ModuleList(
            Excitation(wide[level - self.span], wide[level]) for level in range(self.span, levels + 1)
        )
        self.to_image = conv(wide[-1], shape.channels, 3, padding=1)
        self.apply(_init)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        maps = [self.start(z[:, :, None, None])]
        for level, step in enumerate(self.steps, start=1):
            x = step(maps[-1])
            if level >= self.span:
                x = self.excite[level - self.span](maps[level - self.span], x)
            maps.append(x)
        return torch.tanh(self.to_image(maps[-1]))


class TwoPaths(nn.Module):
    """Halves a map: the mean of a path of two convolutions and one of average pooling and 1×1."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            conv(inputs, outputs, 4, stride=2, padding=1),
            nn.BatchNorm2d(outputs),
            nn.LeakyReLU(0.2),
            conv(outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.LeakyReLU(0.2),
        )
        self.direct = nn.Sequential(
            nn.AvgPool2d(2), conv(inputs, outputs, 1), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.main(x) + self.direct(x)) / 2


def decoder(inputs: int, channels: int, doubled: int) -> nn.Sequential:
    """A decoder that reconstructs an image from features, after `doubled` doublings of their size."""
    narrower = [max(8, inputs // 2 ** (k + 1)) for k in range(doubled)]
    steps = [upsample_block(a, b) for a, b in zip([inputs, *narrower], narrower, strict=False)]
    return nn.Sequential(
        *steps, conv(narrower[-1] if narrower else inputs, channels, 3, padding=1), nn.Tanh()
    )


class FastGanDiscriminator(nn.Module):
    """Images `[N, C, H, W]` → logits `[N, P]`, P patches; it can also reconstruct its input."""

    def __init__(self, settings: ModelSettings, shape: ImageShape, classes: int = 0) -> None:
        super().__init__()
        levels = doublings(shape)
        wide = [width_at(level, settings) for level in range(levels, 0, -1)]  # the full size first, down to 8
        self.span = 3 if len(wide) > 4 else 2
        self.from_image = nn.Sequential(conv(shape.channels, wide[0], 3, padding=1), nn.LeakyReLU(0.2))
        self.downs = nn.ModuleList(TwoPaths(a, b) for a, b in pairwise(wide))
        self.excite = nn.ModuleList(
            Excitation(wide[k - self.span], wide[k]) for k in range(self.span, len(wide))
        )
        self.to_logits = nn.Sequential(
            conv(wide[-1], wide[-1], 1), nn.BatchNorm2d(wide[-1]), nn.LeakyReLU(0.2), conv(wide[-1], 1, 4)
        )
        self.small = nn.Sequential(
            nn.AvgPool2d(2),
            conv(shape.channels, wide[1], 3, padding=1),
            nn.LeakyReLU(0.2),
            *(TwoPaths(a, b) for a, b in pairwise(wide[1:])),
            conv(wide[-1], 1, 4),
        )
        doubled = min(levels - 1, DECODED_UP_TO)
        # The names of the two decoders are keys of its weights and so part of every hash.
        self.draw_whole = decoder(wide[-1], shape.channels, doubled)
        self.draw_quarter = decoder(wide[-2], shape.channels, doubled)
        self.apply(_init)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self._logits(images, self._features(images))

    def reconstruct(self, images: Tensor, quarter: int) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Logits, and pairs of (reconstruction, original) in `[-1, 1]`: the whole image, and one of its quarters (0 to 3)."""
        maps = self._features(images)
        row, column = QUARTERS[quarter]
        whole, part = self.draw_whole(maps[-1]), self.draw_quarter(_quarter(maps[-2], row, column))
        pairs = [(whole, images), (part, _quarter(images, row, column))]
        sized = [
            (decoded, F.interpolate(seen.float(), decoded.shape[2:], mode="area")) for decoded, seen in pairs
        ]
        return self._logits(images, maps), sized

    def _features(self, images: Tensor) -> list[Tensor]:
        maps = [self.from_image(images)]
        for level, down in enumerate(self.downs, start=1):
            x = down(maps[-1])
            if level >= self.span:
                x = self.excite[level - self.span](maps[level - self.span], x)
            maps.append(x)
        return maps

    def _logits(self, images: Tensor, maps: list[Tensor]) -> Tensor:
        return torch.cat([self.to_logits(maps[-1]).flatten(1), self.small(images).flatten(1)], 1)


def _quarter(x: Tensor, row: int, column: int) -> Tensor:
    height, width = x.shape[2] // 2, x.shape[3] // 2
    return x[:, :, row * height : (row + 1) * height, column * width : (column + 1) * width]


def _init(module: nn.Module) -> None:
    """Draws N(0, 0.02) for convolutions, N(1, 0.02) for batch norm's gains, as published."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        # Under spectral normalization the first parameter is the weight before it was divided.
        nn.init.normal_(next(module.parameters()), 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
