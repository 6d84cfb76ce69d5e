"""VGG19's convolutions (Simonyan & Zisserman 2014, arXiv 1409.1556), frozen, up to a named layer."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganpipe.vgg19.layers import average_pool, relu_
from ganpipe.vgg19.weights import (
    LAYERS,
    Weights,
    embedded_weights,
    fold_preprocessing,
    preprocessing_of,
    read_weights,
)

Borders = Literal["zeros", "replicate"]


class Vgg19(nn.Module):
    """VGG19's convolution stack up to `last`, frozen; images go in as RGB in [0, 1].

    `pooling` is "max" as trained, or "average", which gives smoother gradients in style transfer
    (Gatys et al. 2016, section 2) and also takes the last row or column of an odd side. `borders`: what the first
    convolution sees around the image, "zeros" (the mean color) as trained, or "replicate" (the nearest pixels).
    `weights` are the embedded ones unless given.

    Raises:
        GanpipeError: the weights cannot be read, or are not VGG19's.
    """

    mean_rgb: Tensor

    def __init__(
        self,
        last: str = "relu5_4",
        pooling: str = "max",
        weights: Weights | None = None,
        borders: Borders = "zeros",
    ) -> None:
        super().__init__()
        names = [layer.name for layer in LAYERS]
        self.layers = LAYERS[: names.index(last) + 1]
        self.weights = weights or embedded_weights()
        stored = read_weights(self.weights.path)
        preprocessing = preprocessing_of(stored, self.weights)
        self.convolutions = nn.ModuleDict()
        for layer in self.layers:
            weight, bias = stored.convolution(layer)
            if layer == LAYERS[0]:
                weight = fold_preprocessing(weight, preprocessing)
            padding_mode: Borders = borders if layer == LAYERS[0] else "zeros"
            self.convolutions[layer.name] = _convolution(weight, bias, padding_mode)
        self.pooling = pooling
        self.register_buffer("mean_rgb", torch.tensor(preprocessing.mean).view(1, 3, 1, 1))
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, wanted: tuple[str, ...]) -> dict[str, Tensor]:
        """Activations of the wanted layers for `images: [N, 3, H, W]` in [0, 1]."""
        x = images - self.mean_rgb
        found: dict[str, Tensor] = {}
        block = 1
        for layer in self.layers:
            if layer.block != block:
                x, block = self._pool(x), layer.block
            # In place: nothing else uses the convolution's output, and its gradient does not need it.
            x = relu_(self.convolutions[layer.name](x))
            if layer.name in wanted:
                found[layer.name] = x
                if len(found) == len(wanted):
                    break
        return found

    def _pool(self, x: Tensor) -> Tensor:
        # Without a gradient from deep layers in an odd last row, dark notches stayed at the lower edge of images (LOG.md).
        return F.max_pool2d(x, 2) if self.pooling == "max" else average_pool(x)


def _convolution(weight: Tensor, bias: Tensor, padding_mode: Borders) -> nn.Conv2d:
    """Builds a 3×3 convolution from its weights; "meta" skips random initialization."""
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, padding_mode=padding_mode, device="meta")
    conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
    return conv
