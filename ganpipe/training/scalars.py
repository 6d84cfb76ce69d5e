"""The loss curve: sums of every step's scalars, and points of their means."""

from __future__ import annotations

import torch

from ganpipe.compute.distributed import Distributed
from ganpipe.training.algorithm import Scalars
from ganpipe.training.callbacks import Point
from ganpipe.training.state import State

STEPS = "_steps"


class ScalarAccumulator:
    """The points since the last checkpoint, and the sums since the last point: on the device, then in the state."""

    def __init__(self, lazy: tuple[str, ...]) -> None:
        self.lazy = lazy  # scalars that only some steps return
        self.points: list[Point] = []
        self.running: Scalars = {}

    def add(self, state: State, stats: Scalars) -> None:
        """Adds a step's scalars on the device: reading them would make the device wait.

        In float64, where such sums are exact: a checkpoint in the middle changes no digit.
        """
        running = self.running
        for name, value in stats.items():
            running[name] = running[name] + value.double() if name in running else value.double()
            if name in self.lazy:
                running[f"{name}{STEPS}"] = running.get(f"{name}{STEPS}", torch.zeros(())) + 1
        state.pending_steps += 1

    def absorb(self, state: State) -> None:
        """Moves sums from the device into the state, so that a checkpoint holds them."""
        for name, value in self.running.items():
            state.pending[name] = state.pending.get(name, 0.0) + float(value)
        self.running.clear()

    def means(self, state: State, distributed: Distributed, device: torch.device) -> dict[str, float]:
        """The means over the steps since the last point, and over all processes; the sums start again at zero."""
        self.absorb(state)
        sums, steps = state.pending, state.pending_steps
        counts = {name: sums.pop(f"{name}{STEPS}") for name in self.lazy if f"{name}{STEPS}" in sums}
        names = sorted(sums)
        means = torch.tensor([sums[name] / counts.get(name, steps) for name in names], dtype=torch.float64)
        means = means.to(device)
        distributed.average_([means])
        state.pending, state.pending_steps = {}, 0
        return dict(zip(names, means.tolist(), strict=True))

    def forget(self) -> None:
        """Drops what has been summed and noted since the last checkpoint."""
        self.running.clear()
        self.points.clear()
