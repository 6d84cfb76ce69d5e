"""The state of a feed-forward training: everything that a checkpoint must hold for an exact resume."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ganpipe.errors import GanpipeError
from ganpipe.style.feedforward.network import FeedforwardNetwork
from ganpipe.style.objective import Losses

CURVE_IMAGES = 40  # images averaged into one point of the loss curve


@dataclass
class TrainingState:
    """Network, optimizer, counters and loss curve.

    `pending: [4]`: sums of total, content and style loss since the last point of the curve, and the images in them.
    """

    model: FeedforwardNetwork
    optimizer: torch.optim.Adam
    pending: Tensor
    nimg: int = 0
    steps: int = 0
    seconds: float = 0.0
    curve: list[tuple[int, float, float, float]] = field(default_factory=list)

    @property
    def note(self) -> str:
        """The latest loss, for the progress line."""
        return f"loss {self.curve[-1][1]:.3f}" if self.curve else ""

    def add(self, losses: Losses, count: int, total: int) -> None:
        """Counts a step of `count` images and adds a point to the curve when one is due.

        Raises:
            GanpipeError: the loss is not finite.
        """
        self.pending += torch.stack(
            [
                *(part.sum() for part in (losses.total, losses.content, losses.style)),
                torch.tensor(float(count), device=self.pending.device),
            ]
        )
        before, self.nimg, self.steps = self.nimg, self.nimg + count, self.steps + 1
        if self.nimg // CURVE_IMAGES > before // CURVE_IMAGES or self.nimg == total:
            mean_total, content, style = (self.pending[:3] / self.pending[3]).tolist()
            self.curve.append((self.nimg, mean_total, content, style))
            self._check(mean_total)
            self.pending.zero_()

    def check_finite(self) -> None:
        """Raises GanpipeError if a loss since the last point of the curve is not finite."""
        if self.pending[3] > 0:
            self._check(float(self.pending[0]))

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise GanpipeError(
                f"The feed-forward network's loss became {loss} at {self.nimg:,} images; set training.precision to "
                "fp32, use other images, or set style.feedforward to never."
            )

    def as_dict(self) -> dict[str, Any]:
        """Returns tensors (weights and Adam's moments by name, pending losses) and plain numbers."""
        tensors = {"pending": self.pending}
        for name, weight in self.model.named_parameters():
            moments = self.optimizer.state[weight]
            tensors |= {f"weight/{name}": weight, f"first/{name}": moments["exp_avg"]}
            tensors[f"second/{name}"] = moments["exp_avg_sq"]
        return {
            "tensors": {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            "nimg": self.nimg,
            "steps": self.steps,
            "seconds": self.seconds,
            "curve": self.curve,
        }

    @torch.no_grad()
    def restore(self, saved: dict[str, Any]) -> None:
        """Restores what `as_dict` returned."""
        tensors = saved["tensors"]
        for name, weight in self.model.named_parameters():
            weight.copy_(tensors[f"weight/{name}"])
            # Fused Adam reads by address: moments need the memory layout of their weights, channels last.
            first, second = (
                torch.empty_like(weight).copy_(tensors[f"{k}/{name}"]) for k in ("first", "second")
            )
            step = torch.tensor(float(saved["steps"]), device=weight.device)
            self.optimizer.state[weight] = {"step": step, "exp_avg": first, "exp_avg_sq": second}
        self.pending.copy_(tensors["pending"])
        self.nimg, self.steps, self.seconds = saved["nimg"], saved["steps"], saved["seconds"]
        self.curve = [(int(n), t, c, s) for n, t, c, s in saved["curve"]]
