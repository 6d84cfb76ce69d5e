"""How a peer is timed, and what it hands back."""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class PeerRun:
    """The picture that a peer made, and the time it took, on a clock that stands still while snapshots are taken."""

    name: str
    seconds_per_step: float  # median at the final size, its first step excluded
    total_s: float  # from the built network and the decoded images to the result, all sizes
    picture: Tensor  # [1, 3, H, W] in [0, 1]
    history: list[tuple[float, Tensor]]  # (elapsed_s, image at that moment's size); the last is the result


@dataclass
class Watch:
    """Times the steps of a peer and keeps images of its way, every so many seconds (0: only the result)."""

    name: str
    snapshot_every_s: float = 0.0
    say_every: int = 50
    step_ends: dict[tuple[int, int], list[float]] = field(default_factory=dict)  # by (width, height)
    history: list[tuple[float, Tensor]] = field(default_factory=list)
    paused_s: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def step(self, size: tuple[int, int], picture: Callable[[], Tensor]) -> None:
        """Notes the end of a step; `picture` makes the [1, 3, H, W] that would be shown now."""
        arrived = time.perf_counter()
        elapsed_s = arrived - self.started - self.paused_s
        ends = self.step_ends.setdefault(size, [])
        ends.append(elapsed_s)
        due = (len(self.history) + 1) * self.snapshot_every_s
        if self.snapshot_every_s and elapsed_s >= due:
            self.history.append((elapsed_s, picture().detach().clamp(0, 1)))
        if len(ends) % self.say_every == 0:
            print(f"{self.name}: {size[0]}×{size[1]}, step {len(ends)}, {elapsed_s:.0f} s", file=sys.stderr)
        self.paused_s += time.perf_counter() - arrived

    def finish(self, picture: Tensor) -> PeerRun:
        """The run whose result is `picture`."""
        total_s = time.perf_counter() - self.started - self.paused_s
        ends = self.step_ends[(picture.shape[3], picture.shape[2])]
        seconds = statistics.median(b - a for a, b in itertools.pairwise(ends))
        picture = picture.detach().clamp(0, 1)
        return PeerRun(self.name, seconds, total_s, picture, [*self.history, (total_s, picture)])


def check_steps(steps: int) -> None:
    """Refuses what cannot be timed."""
    if steps < 2:
        raise ValueError(f"steps is {steps}; the first is not timed, so at least 2 are needed.")
