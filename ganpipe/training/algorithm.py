"""The interface between the trainer and what it trains.

The trainer, checkpoints, EMA, rollback, hashes, the probe and the loss curve know networks, optimizers and scalars by
name only. To add one: implement `Algorithm` in a file of this package and add a row to `algorithms.ALGORITHMS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from ganpipe.compute.device import Compute
from ganpipe.compute.distributed import Distributed
from ganpipe.data.shards import PreparedData
from ganpipe.settings.schema import Settings
from ganpipe.training.divergence import Divergence, Remedies, Remedy, not_finite

Scalars = dict[str, Tensor]


@dataclass(frozen=True)
class Phase:
    """A part of a training whose steps take equally long: its number of images, and an nimg within it."""

    images: int
    nimg: int


@dataclass(frozen=True)
class TrainingContext:
    """Everything an algorithm is built from. `classes`: labels of a class-conditional model, 0 for an unconditional one.

    `warm`: its networks get the weights of another run before the first step.
    """

    data: PreparedData
    settings: Settings
    compute: Compute
    classes: int = 0
    distributed: Distributed = field(default_factory=Distributed)
    warm: bool = False


class Values(Protocol):
    """The scheduled values of one step."""

    @property
    def ema_halflife_images(self) -> float:
        """Half-life of the exported network's moving average, in images."""


class Algorithm(ABC):
    """Networks and optimizers by name, and one step that trains them."""

    exported: ClassVar[str]  # the network whose moving average is validated, sampled and exported
    progress_scalars: ClassVar[dict[str, str]]  # label on the progress bar → scalar
    lazy_scalars: ClassVar[tuple[str, ...]] = ()  # scalars that only some steps return
    lazy_cycle = 1  # steps until lazy regularization comes round again
    frozen: Mapping[str, frozenset[str]] = MappingProxyType({})  # by network: parameters that do not learn

    networks: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]

    @abstractmethod
    def __init__(self, context: TrainingContext) -> None:
        """Fresh networks and optimizers that depend on `training.seed` alone."""

    @abstractmethod
    def probe_copy(self) -> Algorithm:
        """The same on copies of the networks, in one process and uncompiled: for trial steps."""

    @abstractmethod
    def batch(self, position: int, count: int, step: int) -> Any:
        """This process's part of the batch of `count` images at `position`, a function of (seed, position)."""

    @abstractmethod
    def values_at(self, nimg: int, remedies: Remedies) -> Values:
        """The schedules at `nimg`, scaled by what rollbacks have changed."""

    @abstractmethod
    def step(self, batch: Any, values: Any, number: int, microbatch_images: int = 0) -> Scalars:
        """One optimizer step per network; returns scalars that stay on the device (means over the batch)."""

    @abstractmethod
    def remedy(self, divergence: Divergence) -> Remedy:
        """The change that a rollback after this divergence makes."""

    @abstractmethod
    def advice(self) -> str:
        """A sentence: which settings to change if training diverges too often."""

    def phases(self, nimg: int, total_images: int) -> tuple[Phase, ...]:
        """The phases of a training from `nimg` on, the last one with the dearest step; those before `nimg` have no images."""
        return (Phase(total_images - nimg, nimg),)

    def set_progress(self, nimg: int) -> None:
        """Passes `nimg` to networks whose shape changes with time (those with a method `set_progress`)."""
        for network in self.networks.values():
            set_progress(network, nimg)

    def diverged(self, means: Mapping[str, float], nimg: int) -> Divergence | None:
        """The divergence that a point of the loss curve shows; None if it is healthy."""
        if bad := not_finite(means):
            return Divergence(f"{', '.join(bad)} is no longer finite", exploded=True)
        return None

    @property
    def is_suspect(self) -> bool:
        """Whether the last point looked like the start of a collapse: no checkpoint is written then."""
        return False

    def reset_health(self) -> None:  # noqa: B027  (not every algorithm has signs to forget)
        """Forgets signs of a collapse, after a rollback."""

    def derived_scalars(
        self, means: dict[str, float], nimg: int, position: int, remedies: Remedies
    ) -> dict[str, float]:
        """Further scalars of a point of the curve: differences, scheduled values, learning signals."""
        return {}

    def pictures(self, ema: nn.Module) -> dict[str, Image.Image]:
        """Pictures of the training beside its sample grids, each by the name of its folder in the run folder."""
        return {}

    def notes(self) -> list[str]:
        """Sentences for the report."""
        return []

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """State besides networks and optimizers, as plain values; part of every checkpoint."""
        return {}

    def load_state_dict(self, saved: dict[str, dict[str, Any]]) -> None:  # noqa: B027  (nor state of its own)
        """The inverse of `state_dict`."""


def set_progress(network: nn.Module, nimg: int) -> None:
    """Tells a network how many images have been seen, if its shape depends on that."""
    if callable(setter := getattr(network, "set_progress", None)):
        setter(nimg)
