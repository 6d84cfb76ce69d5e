"""The fully connected GAN, for small images.

Goodfellow et al. 2014 (arXiv 1406.2661) with common tutorial layer sizes: a generator that widens, a
discriminator that narrows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganpipe.imaging.image import ImageShape
from ganpipe.settings.schema import ModelSettings


class MlpGenerator(nn.Module):
    """`z: [N, z_dim]` → images `[N, C, H, W]` in `[-1, 1]` through three widening layers."""

    def __init__(self, settings: ModelSettings, shape: ImageShape, classes: int = 0) -> None:
        super().__init__()
        width = settings.mlp_width
        self.shape = shape
        self.layers = nn.Sequential(
            nn.Linear(settings.z_dim, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 2 * width),
            nn.BatchNorm1d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Linear(2 * width, 4 * width),
            nn.BatchNorm1d(4 * width),
            nn.LeakyReLU(0.2),
            nn.Linear(4 * width, shape.numel),
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        flat = torch.tanh(self.layers(z))
        return flat.view(-1, self.shape.channels, self.shape.height_px, self.shape.width_px)


class MlpDiscriminator(nn.Module):
    """Images `[N, C, H, W]` → logits `[N]` through two narrowing layers."""

    def __init__(self, settings: ModelSettings, shape: ImageShape, classes: int = 0) -> None:
        super().__init__()
        width = settings.mlp_width
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(shape.numel, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Linear(2 * width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layers(images).squeeze(1)
