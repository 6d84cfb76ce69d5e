"""The state of a training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ganpipe.training.ada import AdaState
from ganpipe.training.divergence import Health, Remedies
from ganpipe.training.validation import ValidationScore


@dataclass
class State:
    """All that changes: what a checkpoint holds."""

    G: nn.Module
    D: nn.Module
    G_ema: nn.Module
    g_opt: torch.optim.Optimizer
    d_opt: torch.optim.Optimizer
    nimg: int = 0
    step: int = 0
    pending: dict[str, float] = field(default_factory=dict)  # sums since the last point
    pending_steps: int = 0
    health: Health = field(default_factory=Health)
    remedies: Remedies = field(default_factory=Remedies)
    adaptive: AdaState = field(default_factory=AdaState)
    best: ValidationScore | None = None

    NUMBERS = ("nimg", "step", "pending", "pending_steps")
    RECORDS = {"health": Health, "remedies": Remedies, "adaptive": AdaState}  # noqa: RUF012

    def modules(self) -> dict[str, Any]:
        """What has a `state_dict`, by name."""
        return {"G": self.G, "D": self.D, "G_ema": self.G_ema, "g_opt": self.g_opt, "d_opt": self.d_opt}

    def as_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers."""
        parts = {name: module.state_dict() for name, module in self.modules().items()}
        numbers = {name: getattr(self, name) for name in self.NUMBERS}
        records = {name: dict(vars(getattr(self, name))) for name in self.RECORDS}
        return parts | numbers | records | {"best": vars(self.best) if self.best else None}

    def restore(self, saved: dict[str, Any]) -> None:
        """The inverse of `as_dict`."""
        for name, module in self.modules().items():
            module.load_state_dict(saved[name])
        for name in self.NUMBERS:
            setattr(self, name, saved[name])
        for name, cls in self.RECORDS.items():
            setattr(self, name, cls(**saved[name]))
        self.best = ValidationScore(**saved["best"]) if saved["best"] else None

    @property
    def position(self) -> int:
        """Where in the endless order of images and draws the next step begins."""
        return self.nimg + self.remedies.skipped_images
