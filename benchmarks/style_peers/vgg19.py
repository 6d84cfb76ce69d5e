"""The peers' network: VGG19 as torchvision lays it out, with the weights that ganpipe uses, and images for it.

The peers know VGG19 in that layout and would download its weights.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms import functional as TF

from ganpipe.vgg19.network import Vgg19

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's normalization, RGB in [0, 1]
# Places in torchvision's `vgg19().features`.
STYLE = (1, 6, 11, 20, 29)  # relu1_1 … relu5_1
CONTENT = 22  # relu4_2
# RMS activation of the embedded network on scikit-learn's two photographs at 256×171, where a loss reads it. The
# peers' losses have units and were weighed for torchvision's network; on Caffe's raw activations (or those divided by
# one number) crowsonkb's content drowns the style, and after 100 steps the photo's colors are still there. With each
# such layer divided by its level, and the factor taken back in the next convolution, the style's colors arrive.
LEVELS = {1: 53.0, 6: 215.0, 11: 279.0, 20: 927.0, 22: 754.0, 29: 146.0}


def embedded_vgg19() -> nn.Sequential:
    """torchvision's `vgg19().features` up to relu5_1, contiguous and frozen, with the embedded weights.

    Its input is torchvision's (RGB, normalized), whose step to that of ganpipe's network is linear and goes into the
    first convolution: exactly with replicated borders; a border of zeros means a gray less than 0.5 of 255 away
    from Caffe's. Its activations are the embedded network's divided by LEVELS, where a loss reads them.
    """
    network = models.vgg.make_layers(models.vgg.cfgs["E"])[: STYLE[-1] + 1]
    ours = Vgg19("relu5_1")  # takes RGB in [0, 1] less mean_rgb
    places = [(k, layer) for k, layer in enumerate(network) if isinstance(layer, nn.Conv2d)]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    level = 1.0
    with torch.no_grad():
        for (place, conv), source in zip(places, ours.convolutions.values(), strict=True):
            assert isinstance(source, nn.Conv2d)
            assert source.bias is not None
            assert conv.bias is not None
            weight, bias = source.weight.data, source.bias.data
            if place == 0:
                bias = bias + (weight * (mean - ours.mean_rgb)).sum((1, 2, 3))
                weight = weight * std
            before, level = level, LEVELS.get(place + 1, level)
            conv.weight.copy_(weight * (before / level))
            conv.bias.copy_(bias / level)
    return network.eval().requires_grad_(False)


def activations(network: nn.Sequential, picture: Tensor) -> dict[int, Tensor]:
    """Computes the activations that the losses read, by place, for `picture: [1, 3, H, W]` in [0, 1]."""
    x, found = TF.normalize(picture, list(MEAN), list(STD)), {}
    for place, layer in enumerate(network):
        x = layer(x)
        if place in LEVELS:
            found[place] = x
    return found


def open_rgb(path: Path) -> Image.Image:
    """The image as RGB."""
    return Image.open(path).convert("RGB")


def at_edge(image: Image.Image, long_edge_px: int, enlarge: bool = True) -> Tensor:
    """`[1, 3, H, W]` in [0, 1] with that longer edge, bicubic."""
    if enlarge or max(image.size) > long_edge_px:
        width, height = (round(long_edge_px * side / max(image.size)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return TF.to_tensor(image)[None]
