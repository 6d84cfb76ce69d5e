"""Warm start: a training begins with the networks of another run, or with the tensors of a file, instead of fresh ones.

The networks lie in the run folder from the start, so that a resumed and a reproduced run begin with the same ones. A
tensor is taken over if the network has one of this name and shape; every other one stays fresh, and is named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from ganpipe.compute.checkpoints import load_checkpoint, save_checkpoint
from ganpipe.compute.weights import tensors_sha256
from ganpipe.errors import GanpipeError, first_line
from ganpipe.training.algorithm import Algorithm
from ganpipe.training.summary import StartPoint

FOLDER = "start"  # in the run folder; it holds one checkpoint
ANY = "any"  # the tensors of a file, before the networks are known
PROGRESS = "_extra_state"  # torch's name for the state of a network beside its tensors
MOST_NAMED = 4  # tensors in one sentence

Weights = dict[str, dict[str, Tensor]]  # by network and tensor


def networks_in(saved: Mapping[str, Any]) -> Weights:
    """The networks of a checkpoint, averages included; its optimizers, numbers and histories are left out."""
    return {
        name: dict(value)
        for name, value in saved.items()
        if isinstance(value, dict) and value and all(isinstance(item, Tensor) for item in value.values())
    }


@dataclass(frozen=True)
class WarmStart:
    """The networks that a training starts from, and where they come from."""

    point: StartPoint
    weights: Weights

    @classmethod
    def of_run(cls, run: str, saved: Mapping[str, Any]) -> WarmStart:
        """The networks in a checkpoint of `run`."""
        weights = networks_in(saved)
        return cls(StartPoint(run, int(saved["nimg"]), tensors_sha256(weights)), weights)

    @classmethod
    def of_file(cls, path: Path) -> WarmStart:
        """The tensors of a safetensors file. Its bytes are read once, so that what is loaded is what was hashed.

        Raises:
            GanpipeError: it cannot be read, is empty, or holds a value that is not finite.
        """
        try:
            data = path.read_bytes()
            tensors = load(data)
        except (OSError, SafetensorError) as error:
            raise GanpipeError(f"{path} is no readable safetensors file ({first_line(error)}).") from None
        if not tensors:
            raise GanpipeError(f"{path} holds no tensor.")
        if bad := [name for name, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()]:
            raise GanpipeError(f"{path} holds values that are not finite, the first in {bad[0]}.")
        return cls(StartPoint("", 0, hashlib.sha256(data).hexdigest(), path.name), {ANY: tensors})

    @classmethod
    def read(cls, run_dir: Path, device: torch.device) -> WarmStart | None:
        """Those in the run folder; None: the training starts from scratch."""
        saved = load_checkpoint(run_dir / FOLDER, device)
        if saved is None:
            return None
        return cls(
            StartPoint(**{field.name: saved[field.name] for field in fields(StartPoint)}), networks_in(saved)
        )

    def write(self, run_dir: Path) -> None:
        """Writes them into the folder of a run that starts from them."""
        save_checkpoint(
            run_dir / FOLDER, f"{self.point.nimg:012d}", asdict(self.point) | self.weights, keep=1
        )

    def for_networks(self, algorithm: Algorithm) -> WarmStart:
        """The same by network. A file's tensor NETWORK.NAME is the network's NAME; others are the exported network's.

        The exported network's moving average, if it is not there, begins as the network itself.

        Raises:
            GanpipeError: it is a file, and none of its tensors fits any network.
        """
        if ANY not in self.weights:
            return self
        exported, average = algorithm.exported, f"{algorithm.exported}_ema"
        weights: Weights = {name: {} for name in (*algorithm.networks, average)}
        for key, tensor in self.weights[ANY].items():
            network, _, name = key.partition(".")
            known = network in weights
            weights[network if known else exported][name if known else key] = tensor
        weights[average] = weights[average] or weights[exported]
        found = replace(self, weights=weights)
        if not any(found._fits(name, network) for name, network in algorithm.networks.items()):
            raise GanpipeError(
                f"training.start_from: no tensor of {self.point} fits. It has {_first(_shapes(self.weights[ANY]))}; "
                f"{exported} has {_first(_shapes(algorithm.networks[exported].state_dict()))}. Set model.name, its sizes "
                "and the size of the images to those of the file."
            )
        return found

    def _fits(self, name: str, network: nn.Module) -> bool:
        """Whether a tensor of the network is taken over."""
        return len(self.unfit(name, network)) < len(network.state_dict())

    def load(self, networks: Mapping[str, nn.Module]) -> None:
        """Takes over the tensors that fit."""
        for name, network in networks.items():
            unfit = set(self.unfit(name, network))
            given = self.weights.get(name, {})
            own = network.state_dict().keys()
            network.load_state_dict(
                {key: given[key] for key in own if key not in unfit},
                strict=False,
            )

    def unfit(self, name: str, network: nn.Module) -> list[str]:
        """The tensors of a network that stay fresh."""
        given = self.weights.get(name, {})
        own = network.state_dict()
        left = [key for key, tensor in own.items() if key not in given or given[key].shape != tensor.shape]
        # How far a network has grown means nothing without its weights; a bias of one value always fits.
        grown_alone = PROGRESS in own and PROGRESS not in left and 2 * len(left) > len(own)
        return [*left, PROGRESS] if grown_alone else left

    def check_frozen(self, name: str, network: nn.Module, frozen: frozenset[str]) -> None:
        """Raises GanpipeError if a layer that does not learn would keep its fresh weights."""
        if left := [key for key in self.unfit(name, network) if key in frozen]:
            there = left[0] in self.weights.get(name, {})
            why = "has another shape in" if there else "is not in"
            raise GanpipeError(
                f"training.freeze_d_layers would freeze fresh weights: {left[0]} of {name} {why} {self.point}. Lower it, "
                "or start from a run with the same model and size of images."
            )

    def sentence(self, networks: Mapping[str, nn.Module]) -> str:
        """For the report: the run or file, and what did not fit."""
        counts, left = [], []
        for name, network in networks.items():
            unfit, total = self.unfit(name, network), len(network.state_dict())
            counts.append(f"{name} {total - len(unfit)} of {total} tensors")
            left += [f"{name}.{key}" for key in unfit]
        seen = f" at {self.point.nimg:,} images" if self.point.run else ""
        fresh = f" These do not fit and start fresh: {_first(left)}." if left else ""
        return f"It starts from {self.point}{seen}: {', '.join(counts)}.{fresh}"


def _shapes(tensors: Mapping[str, Tensor]) -> list[str]:
    return [f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items()]


def _first(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
