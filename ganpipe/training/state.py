"""The state of a training: what a checkpoint holds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ganpipe.training.algorithm import Algorithm, set_progress
from ganpipe.training.divergence import Remedies
from ganpipe.training.validation import Validated

NUMBERS = ("nimg", "step", "pending", "pending_steps")


@dataclass
class State:
    """Everything that changes while training. `ema`: the moving average of the exported network.

    `averages`: its power-function averages by σ_rel (posthoc_ema); empty if none are kept.
    """

    algorithm: Algorithm
    ema: nn.Module
    averages: dict[float, nn.Module] = field(default_factory=dict)
    nimg: int = 0
    step: int = 0
    pending: dict[str, float] = field(default_factory=dict)  # sums of scalars since the last point
    pending_steps: int = 0
    remedies: Remedies = field(default_factory=Remedies)
    best: Validated | None = None
    warnings: dict[str, str] = field(default_factory=dict)  # the first of each kind

    @classmethod
    def start(cls, algorithm: Algorithm, sigma_rel: Sequence[float] = ()) -> State:
        """The state before the first step: the averages are copies of the exported network."""
        ema = copy.deepcopy(algorithm.networks[algorithm.exported]).requires_grad_(False)
        return cls(algorithm, ema, {sigma: copy.deepcopy(ema) for sigma in sigma_rel})

    @property
    def ema_name(self) -> str:
        return f"{self.algorithm.exported}_ema"

    @property
    def position(self) -> int:
        """Where the next step begins in the endless data order."""
        return self.nimg + self.remedies.skipped_images

    def modules(self) -> dict[str, Any]:
        """Networks, their averages and optimizers by name, in the order of `weights_sha256`."""
        optimizers = {f"{name}_optimizer": opt for name, opt in self.algorithm.optimizers.items()}
        averages = {f"{self.ema_name}_{sigma:g}": average for sigma, average in self.averages.items()}
        return {**self.algorithm.networks, self.ema_name: self.ema, **averages, **optimizers}

    def set_progress(self) -> None:
        """Passes `nimg` to all networks whose shape changes with time."""
        self.algorithm.set_progress(self.nimg)
        for average in (self.ema, *self.averages.values()):
            set_progress(average, self.nimg)

    def as_dict(self) -> dict[str, Any]:
        """Tensors and plain values only."""
        parts = {name: module.state_dict() for name, module in self.modules().items()}
        return parts | {
            **{name: getattr(self, name) for name in NUMBERS},
            "remedies": dict(vars(self.remedies)),
            "algorithm": self.algorithm.state_dict(),
            "best": self.best.as_dict() if self.best else None,
            "warnings": self.warnings,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """The inverse of `as_dict`."""
        for name in NUMBERS:
            setattr(self, name, saved[name])
        self.set_progress()
        for name, module in self.modules().items():
            module.load_state_dict(saved[name])
        self.remedies = Remedies(**saved["remedies"])
        self.algorithm.load_state_dict(saved["algorithm"])
        self.best = Validated.from_dict(saved["best"]) if saved["best"] else None
        self.warnings = saved["warnings"]
