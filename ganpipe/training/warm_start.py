"""Warm start: a training begins with the networks of another run instead of fresh ones.

The networks lie in the run folder from the start, so that a resumed and a reproduced run begin with the same ones. A
tensor is taken over if the network has one of this name and shape; every other one stays fresh, and is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganpipe.compute.checkpoints import load_checkpoint, save_checkpoint
from ganpipe.compute.weights import tensors_sha256
from ganpipe.errors import GanpipeError
from ganpipe.training.summary import StartPoint

FOLDER = "start"  # in the run folder; it holds one checkpoint
MOST_NAMED = 4  # tensors in one sentence

Weights = dict[str, dict[str, Tensor]]  # by network and tensor


def networks_in(saved: Mapping[str, Any]) -> Weights:
    """The networks of a checkpoint, averages included; its optimizers, numbers and histories are left out."""
    return {
        name: dict(value)
        for name, value in saved.items()
        if isinstance(value, dict) and value and all(isinstance(item, Tensor) for item in value.values())
    }


def start_point(run: str, saved: Mapping[str, Any]) -> StartPoint:
    """The start point that a checkpoint of `run` is."""
    return StartPoint(run, int(saved["nimg"]), tensors_sha256(networks_in(saved)))


def write_start(run_dir: Path, run: str, saved: Mapping[str, Any]) -> None:
    """Writes the networks of a checkpoint of `run` into the folder of a run that starts from them."""
    nimg = int(saved["nimg"])
    state = {"run": run, "nimg": nimg} | networks_in(saved)
    save_checkpoint(run_dir / FOLDER, f"{nimg:012d}", state, keep=1)


class WarmStart:
    """The networks that this training starts from."""

    def __init__(self, saved: Mapping[str, Any]) -> None:
        self.run, self.nimg, self.weights = str(saved["run"]), int(saved["nimg"]), networks_in(saved)

    @classmethod
    def read(cls, run_dir: Path, device: torch.device) -> WarmStart | None:
        """Those in the run folder; None: the training starts from scratch."""
        saved = load_checkpoint(run_dir / FOLDER, device)
        return cls(saved) if saved else None

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
        return [key for key, tensor in own.items() if key not in given or given[key].shape != tensor.shape]

    def check_frozen(self, name: str, network: nn.Module, frozen: frozenset[str]) -> None:
        """Raises GanpipeError if a layer that does not learn would keep its fresh weights."""
        if left := [key for key in self.unfit(name, network) if key in frozen]:
            raise GanpipeError(
                f"training.freeze_d_layers would freeze fresh weights: {left[0]} of {name} has another shape in run "
                f"{self.run}. Lower it, or keep the model and the size of the images."
            )

    def sentence(self, networks: Mapping[str, nn.Module]) -> str:
        """For the report: which run, and what did not fit."""
        counts, left = [], []
        for name, network in networks.items():
            unfit, total = self.unfit(name, network), len(network.state_dict())
            counts.append(f"{name} {total - len(unfit)} of {total} tensors")
            left += [f"{name}.{key}" for key in unfit]
        more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
        fresh = f" These do not fit and start fresh: {', '.join(left[:MOST_NAMED])}{more}." if left else ""
        return f"It starts from run {self.run} at {self.nimg:,} images: {', '.join(counts)}.{fresh}"
