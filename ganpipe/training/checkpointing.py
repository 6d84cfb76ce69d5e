"""A training's checkpoints: the last two, the best one, and rollback to them."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch

from ganpipe.compute.checkpoints import best_folder, load_checkpoint, save_checkpoint
from ganpipe.errors import GanpipeError
from ganpipe.training.callbacks import Callbacks
from ganpipe.training.divergence import MOST_ROLLBACKS, Diverged, Divergence, not_finite
from ganpipe.training.points import POINTS, append_new_points
from ganpipe.training.scalars import ScalarAccumulator
from ganpipe.training.setup import TrainingSetup
from ganpipe.training.validation import ValidationScore

log = logging.getLogger(__name__)


class Checkpointing:
    """Writes checkpoints of a training, and rolls it back to them."""

    def __init__(self, setup: TrainingSetup, scalars: ScalarAccumulator, callbacks: Callbacks) -> None:
        self.setup, self.scalars, self.callbacks = setup, scalars, callbacks
        self.last_score: ValidationScore | None = None

    def save(self) -> None:
        """Hands over the points of the curve, which are on the disk then, and writes a checkpoint.

        Raises:
            Diverged: a sum is not finite; the weights would be kept as good.
            Exception: the callback's, after the checkpoint.
        """
        state, distributed = self.setup.state, self.setup.distributed
        self.scalars.absorb(state)
        self.average_state()
        if bad := not_finite(state.pending):
            raise Diverged(Divergence(f"{', '.join(bad)} is no longer finite", finite=False))
        points, failure = self.scalars.points.copy(), None
        if distributed.is_main:
            append_new_points(self.setup.run_dir / POINTS, points)
            try:
                self.callbacks.points(points)
            except Exception as error:
                failure = error
            self.write()
        self.scalars.points.clear()
        distributed.wait()
        if failure is not None:
            raise failure

    def write(self) -> None:
        """Writes the state. After a rollback under another name, so that no file of the same nimg is overwritten."""
        state = self.setup.state
        name = f"{len(state.remedies.rollbacks)}-{state.nimg:012d}"
        save_checkpoint(self.setup.checkpoints, name, state.as_dict())

    def average_state(self) -> None:
        """Replaces what differs between processes (sums, batch norm's statistics) by its mean over all of them."""
        state, distributed = self.setup.state, self.setup.distributed
        if distributed.size == 1:
            return
        names = sorted(state.pending)
        sums = torch.tensor(
            [state.pending[name] for name in names], dtype=torch.float64, device=self.setup.compute.device
        )
        distributed.average_([sums])
        state.pending = dict(zip(names, sums.tolist(), strict=True))
        networks = [*state.algorithm.networks.values(), state.ema]
        buffers = [b for network in networks for b in network.buffers() if b.is_floating_point()]
        if buffers:
            distributed.average_(buffers)

    def save_if_best(self) -> float:
        """Scores the average; a score better than all before is kept as a checkpoint of its own. Returns the score."""
        state = self.setup.state
        score = self.last_score = self.validate()
        better = state.best is None or score.value < state.best.value
        if math.isfinite(score.value) and better:
            state.best = score
            save_checkpoint(
                best_folder(self.setup.checkpoints), f"{state.nimg:012d}", state.as_dict(), keep=1
            )
        return score.value

    def validate(self) -> ValidationScore:
        """The average's validation score now."""
        state = self.setup.state
        return self.setup.validator.score(state.ema, self.setup.label_counts, state.nimg)

    def clearly_better(self) -> dict[str, Any] | None:
        """The best checkpoint, if the last average is worse than it by more than twice both scores' errors."""
        state, best = self.setup.state, self.setup.state.best
        if best is None or best.nimg == state.nimg or not self.setup.distributed.is_main:
            return None
        last = self.last_score
        if last is None or last.nimg != state.nimg:
            last = self.validate()
        if not last.value - best.value > 2 * math.hypot(last.error, best.error):
            return None
        return load_checkpoint(best_folder(self.setup.checkpoints), self.setup.compute.device)

    def roll_back(self, divergence: Divergence) -> None:
        """Goes back to the newest good checkpoint with the algorithm's remedy.

        Raises:
            GanpipeError: training has been rolled back too often.
        """
        setup, state, diverged_at = self.setup, self.setup.state, self.setup.state.nimg
        remedies = state.remedies
        if len(remedies.rollbacks) >= MOST_ROLLBACKS:
            raise GanpipeError(self.too_many_rollbacks(divergence))
        self.scalars.forget()
        if saved := load_checkpoint(setup.checkpoints, setup.compute.device):
            state.restore(saved)
        else:
            state = setup.restart()
        # A checkpoint holds the remedies of its own time; those of later rollbacks count.
        state.remedies = remedies
        state.algorithm.reset_health()
        remedy = state.algorithm.remedy(divergence)
        rollback = remedies.apply(remedy, divergence.why, diverged_at, state.nimg)
        log.warning(rollback.sentence())
        # From here on a killed run resumes with the remedy, not with the divergence.
        setup.distributed.wait()
        if setup.distributed.is_main:
            self.write()
        setup.distributed.wait()

    def too_many_rollbacks(self, divergence: Divergence) -> str:
        """All the evidence, and what to do."""
        state = self.setup.state
        rollbacks = enumerate(state.remedies.rollbacks, 1)
        before = " ".join(f"({k}) at {r['diverged_at_nimg']:,}: {r['why']}." for k, r in rollbacks)
        return (
            f"Training diverged at {state.nimg:,} images: {divergence.why}; it had been rolled back "
            f"{MOST_ROLLBACKS} times: {before} {state.algorithm.advice()}"
        )
