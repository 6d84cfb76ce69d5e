"""What the metrics see: VGG19's activations of pictures at one size."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.compute.device import Compute
from ganpipe.imaging.tensors import composite_on_white
from ganpipe.progress import Progress, Report, ignore
from ganpipe.vgg19.network import Vgg19

EXTRACTOR_LAYER = "relu5_4"
CLASS_LAYERS = ("relu2_2", "relu3_4", "relu4_4", "relu5_4")
BATCH = 64

Features = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Extracted:
    """Features of N pictures: `deep: [N, 512]` for the distances, `wide: [N, 2816]` for telling classes apart."""

    deep: Features
    wide: Features

    def __len__(self) -> int:
        return len(self.deep)


@torch.no_grad()
def extract(
    network: Vgg19,
    pixels: Tensor,
    size_px: int,
    compute: Compute,
    name: str = "look",
    report: Report = ignore,
) -> Extracted:
    """Features of uint8 pictures `[N, H, W, C]`, scaled so that the longer edge is `size_px`.

    deep: relu5_4, averaged over the map; wide: four layers, mean and maximum over the map.
    """
    deep, wide = [], []
    started = time.monotonic()
    for start in range(0, len(pixels), BATCH):
        images = (
            composite_on_white(pixels[start : start + BATCH].to(compute.device)).permute(0, 3, 1, 2).float()
            / 255
        )
        images = _scaled(images.expand(-1, 3, -1, -1), size_px)
        with compute.autocast():
            maps = network(images.contiguous(memory_format=torch.channels_last), CLASS_LAYERS)
        pooled = {name: (m.float().mean((2, 3)), m.float().amax((2, 3))) for name, m in maps.items()}
        deep.append(pooled[EXTRACTOR_LAYER][0].double().cpu())
        wide.append(torch.cat([part for pair in pooled.values() for part in pair], 1).double().cpu())
        done = min(start + BATCH, len(pixels))
        report(Progress(name, done, len(pixels), "images", time.monotonic() - started))
    return Extracted(torch.cat(deep).numpy(), torch.cat(wide).numpy())


def _scaled(images: Tensor, size_px: int) -> Tensor:
    height, width = images.shape[2:]
    scale = size_px / max(height, width)
    size = max(32, round(height * scale)), max(32, round(width * scale))
    if (height, width) == size:
        return images
    return F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
