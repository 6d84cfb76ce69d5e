"""The encoder of a variational autoencoder (Kingma & Welling 2014, arXiv 1312.6114); its decoder is DCGAN's generator."""

from __future__ import annotations

from torch import Tensor, nn

from ganpipe.imaging.image import ImageShape
from ganpipe.models.convolutions import Conv
from ganpipe.models.dcgan import halving_layers, init_weights, smallest_map_channels
from ganpipe.models.layers import base_size
from ganpipe.settings.schema import ModelSettings


class VaeEncoder(nn.Module):
    """Images `[N, C, H, W]` → mean and log variance `[N, z_dim]` of q(z|x), a normal distribution for each image.

    As wide as the decoder, with batch norm in both.
    """

    def __init__(self, settings: ModelSettings, shape: ImageShape, classes: int = 0) -> None:
        super().__init__()
        widest = smallest_map_channels(shape, settings.g_channels)
        self.layers = nn.Sequential(
            *halving_layers(shape, settings.g_channels, batch_norm=True),
            Conv(widest, 2 * settings.z_dim, base_size(shape)),
        )
        self.apply(init_weights)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.layers(images).flatten(1).chunk(2, dim=1)
        return mean, log_variance
