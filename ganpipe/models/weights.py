"""A network as two files that run no code when they are read: safetensors and JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from ganpipe.errors import GanpipeError
from ganpipe.files import read_json, sha256_of, write_bytes, write_json
from ganpipe.images import ImageShape
from ganpipe.models import build_generator
from ganpipe.settings.schema import ModelSettings, from_dict

WEIGHTS, CONFIG = "generator.safetensors", "generator.json"

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class NetworkFiles:
    """What the two files of one kind of network are called."""

    weights: str
    config: str

    def write(
        self, folder: Path, network: nn.Module, described: dict[str, Any], origin: dict[str, Any]
    ) -> None:
        """Writes the weights, and the JSON that says how to build the network and where it comes from."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
        write_bytes(folder / self.weights, save(tensors))
        checksum = {"weights_sha256": sha256_of(folder / self.weights)}
        write_json(folder / self.config, described | checksum | {"origin": origin})

    def read(
        self, folder: Path, build: Callable[[dict[str, Any]], Network]
    ) -> tuple[Network, dict[str, Any]]:
        """The network that `build` makes of the JSON, with its weights, on the CPU in evaluation mode, and the JSON.

        Raises:
            GanpipeError: a file is missing or damaged, or the two do not fit each other.
        """
        config = read_json(folder / self.config)
        path = folder / self.weights
        if not path.exists() or sha256_of(path) != config.get("weights_sha256"):
            raise GanpipeError(
                f"{path} is missing or damaged: its bytes are not those that {self.config} names."
            )
        try:
            network = build(config)
            network.load_state_dict(load_file(path))
        except (SafetensorError, RuntimeError, KeyError, TypeError, GanpipeError) as error:
            raise GanpipeError(f"{path} does not fit its model ({str(error).splitlines()[0]}).") from None
        return network.eval(), config


FILES = NetworkFiles(WEIGHTS, CONFIG)


def save_generator(
    folder: Path,
    G: nn.Module,
    settings: ModelSettings,
    shape: ImageShape,
    origin: dict[str, Any],
    labels: dict[str, int] | None = None,
) -> None:
    """Writes the generator's weights, and the JSON that says how to build it and where it comes from.

    `labels`: of a conditional model, each with the number of its training images.
    """
    described = {"format": 2, "model": settings.model_dump(), "shape": asdict(shape), "labels": labels or {}}
    FILES.write(folder, G, described, origin)


def load_generator(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The generator in `folder`, on the CPU in evaluation mode, and its JSON.

    Raises:
        GanpipeError: a file is missing or damaged, or the two do not fit each other.
    """

    def build(config: dict[str, Any]) -> nn.Module:
        settings = from_dict({"model": config["model"]}).model
        shape = ImageShape(**config["shape"])
        return build_generator(settings, shape, len(config["labels"]))

    return FILES.read(folder, build)
