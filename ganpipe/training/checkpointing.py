"""Keeps a training's checkpoints, and takes it back to them."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch

from ganpipe.compute.checkpoints import best_folder, load_checkpoint, save_checkpoint
from ganpipe.errors import GanpipeError
from ganpipe.training.callbacks import Callbacks
from ganpipe.training.divergence import MOST_ROLLBACKS, Diverged, not_finite
from ganpipe.training.scalars import ScalarAccumulator
from ganpipe.training.setup import TrainingSetup
from ganpipe.training.validation import ValidationScore

log = logging.getLogger(__name__)


class Checkpointing:
    """What happens to a game at its checkpoints: the last two, and the best."""

    def __init__(self, game: TrainingSetup, curve: ScalarAccumulator, callbacks: Callbacks) -> None:
        self.setup, self.curve, self.callbacks = game, curve, callbacks
        self.last_score: ValidationScore | None = None

    def save(self) -> None:
        """Hands the points over and writes a checkpoint; ruined weights would be kept as good, and are not."""
        state, world = self.setup.state, self.setup.world
        self.curve.absorb(state)
        self.share_sums()
        if bad := not_finite(state.pending):
            raise Diverged(f"{', '.join(bad)} is no longer finite")
        if world.is_main:
            self.callbacks.points(self.curve.points.copy())
            self.write()
        self.curve.points.clear()
        world.wait()

    def write(self) -> None:
        """The state on the disk. After a rollback under another name: the file of the same nimg is not touched."""
        state = self.setup.state
        name = f"{len(state.remedies.rollbacks)}-{state.nimg:012d}"
        save_checkpoint(self.setup.checkpoints, name, state.as_dict())

    def share_sums(self) -> None:
        """What processes have each for themselves becomes the mean of all: what a checkpoint of the first one restores."""
        state, world = self.setup.state, self.setup.world
        if world.size == 1:
            return
        names = sorted(state.pending)
        sums = torch.tensor(
            [state.pending[name] for name in names], dtype=torch.float64, device=self.setup.compute.device
        )
        world.average_([sums])
        state.pending = dict(zip(names, sums.tolist(), strict=True))
        running = [b for m in (state.G, state.D, state.G_ema) for b in m.buffers() if b.is_floating_point()]
        if running:
            world.average_(running)

    def save_if_best(self) -> float:
        """The average's score; a better one than all before is kept as a checkpoint of its own."""
        state = self.setup.state
        score = self.last_score = self.scored()
        better = state.best is None or score.value < state.best.value
        if math.isfinite(score.value) and better:
            state.best = score
            save_checkpoint(
                best_folder(self.setup.checkpoints), f"{state.nimg:012d}", state.as_dict(), keep=1
            )
        return score.value

    def scored(self) -> ValidationScore:
        """How good the average is now."""
        state = self.setup.state
        return self.setup.judge.score(state.G_ema, self.setup.label_counts, state.nimg)

    def clearly_better(self) -> dict[str, Any] | None:
        """The best checkpoint, where the last average is worse than it by more than both scores' errors."""
        state, best = self.setup.state, self.setup.state.best
        if best is None or best.nimg == state.nimg or not self.setup.world.is_main:
            return None
        last = self.last_score
        if last is None or last.nimg != state.nimg:
            last = self.scored()
        if not last.value - best.value > 2 * math.hypot(last.error, best.error):
            return None
        return load_checkpoint(best_folder(self.setup.checkpoints), self.setup.compute.device)

    def roll_back(self, why: str) -> None:
        """Goes back to the newest good checkpoint by the rule of `rescue`.

        Raises:
            GanpipeError: that was done often enough.
        """
        game, state, broke_at = self.setup, self.setup.state, self.setup.state.nimg
        remedies = state.remedies
        if len(remedies.rollbacks) >= MOST_ROLLBACKS:
            raise GanpipeError(self.broke_too_often(why))
        self.curve.forget()
        saved = load_checkpoint(game.checkpoints, game.compute.device)
        if saved:
            state.restore(saved)
        else:
            state = game.restart()
        # A checkpoint remembers the remedies of its own time; those of later rollbacks count.
        state.remedies = remedies
        state.health.narrow_points = state.health.lost_points = 0
        finite = "finite" not in why
        rollback = remedies.apply(why, finite, game.phases.penalty != "none", broke_at, state.nimg)
        log.warning(rollback.sentence())
        # From here on a kill resumes with the remedy, not with the break.
        game.world.wait()
        if game.world.is_main:
            self.write()
        game.world.wait()

    def broke_too_often(self, why: str) -> str:
        """All the evidence, and what to do."""
        state, settings = self.setup.state, self.setup.settings
        rollbacks = enumerate(state.remedies.rollbacks, 1)
        before = " ".join(f"({k}) at {r['broke_at_nimg']:,}: {r['why']}." for k, r in rollbacks)
        return (
            f"Training broke at {state.nimg:,} images: {why}; it had been taken back {MOST_ROLLBACKS} times: {before} "
            f"Lower training.d_lr ({settings.training.d_lr:g}) and training.g_lr ({settings.training.g_lr:g}), or raise "
            f"loss.gamma ({settings.loss.gamma:g})."
        )
