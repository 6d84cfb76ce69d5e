"""Network weights: safetensors with a JSON description, and their SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ganpipe.errors import GanpipeError
from ganpipe.files import read_json, sha256_of, write_bytes, write_json


def tensors_of(value: Any, prefix: str = "") -> dict[str, Tensor]:
    """Every tensor in a nested state, by its path, in a fixed order."""
    if isinstance(value, Tensor):
        return {prefix: value}
    pairs = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list | tuple)
        else ()
    )
    found: dict[str, Tensor] = {}
    for key, item in sorted(pairs, key=lambda pair: str(pair[0])):
        found |= tensors_of(item, f"{prefix}/{key}")
    return found


def weights_sha256(parts: Iterable[Any]) -> str:
    """SHA-256 over the bytes of all weights and optimizer moments, in the given order.

    `parts`: networks and optimizers, each with a `state_dict`.
    """
    digest = hashlib.sha256()
    for part in parts:
        _add_tensors(digest, part.state_dict())
    return digest.hexdigest()


def tensors_sha256(value: Any) -> str:
    """SHA-256 over the names and bytes of all tensors in a nested state."""
    digest = hashlib.sha256()
    _add_tensors(digest, value)
    return digest.hexdigest()


def _add_tensors(digest: hashlib._Hash, value: Any) -> None:
    for name, tensor in tensors_of(value).items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())


Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class NetworkFiles:
    """The file names of one kind of network."""

    weights: str
    config: str

    def write(
        self, folder: Path, network: nn.Module, described: dict[str, Any], origin: dict[str, Any]
    ) -> None:
        """Writes the weights, and a JSON file with the architecture and origin."""
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
        config, data = self._read(folder)
        path = folder / self.weights
        try:
            network = build(config)
            network.load_state_dict(load(data))
        except (SafetensorError, RuntimeError, KeyError, TypeError, GanpipeError) as error:
            raise GanpipeError(f"{path} does not fit its model ({str(error).splitlines()[0]}).") from None
        return network.eval(), config

    def damage(self, folder: Path) -> str | None:
        """Why the files cannot be used, told by their checksum; None if they are whole."""
        try:
            self._read(folder)
        except GanpipeError as error:
            return str(error)
        return None

    def _read(self, folder: Path) -> tuple[dict[str, Any], bytes]:
        """The JSON and the bytes of the weights, compared with its checksum.

        Read once, so that what is loaded is what was hashed; and safetensors opens no path that is not UTF-8.

        Raises:
            GanpipeError: one of the two is missing or damaged.
        """
        config, path = read_json(folder / self.config), folder / self.weights
        data = path.read_bytes() if path.is_file() else b""
        named = config.get("weights_sha256") if isinstance(config, dict) else None
        if hashlib.sha256(data).hexdigest() != named:
            raise GanpipeError(
                f"{path} is missing or damaged: its bytes are not those that {self.config} names."
            )
        return config, data
