"""A training's checkpoints: the last two, the best one, and rollback to them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch

from ganpipe.compute.checkpoints import best_folder, load_checkpoint, save_checkpoint
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.gate_result import Change
from ganpipe.training.callbacks import Callbacks
from ganpipe.training.divergence import MOST_ROLLBACKS, Diverged, Divergence, is_early, not_finite
from ganpipe.training.points import POINTS, append_new_points
from ganpipe.training.scalars import ScalarAccumulator
from ganpipe.training.setup import TrainingSetup
from ganpipe.training.summary import Validation
from ganpipe.training.validation import Validated, find_warnings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """The validation of the average that becomes the model. `saved`: its checkpoint if it is not the last average."""

    validation: Validation | None
    saved: dict[str, Any] | None = None
    gain: Change | None = None  # over the last average


class Checkpointing:
    """Writes checkpoints of a training, and rolls it back to them."""

    def __init__(self, setup: TrainingSetup, scalars: ScalarAccumulator, callbacks: Callbacks) -> None:
        self.setup, self.scalars, self.callbacks = setup, scalars, callbacks
        self.last: Validated | None = None

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
            raise Diverged(Divergence(f"{', '.join(bad)} is no longer finite", exploded=True))
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
        """Writes the state."""
        save_checkpoint(self.setup.checkpoints, self.name(), self.setup.state.as_dict())

    def name(self) -> str:
        """Another name after a rollback, so that no file of the same nimg is overwritten or counts as newer."""
        state = self.setup.state
        return f"{len(state.remedies.rollbacks)}-{state.nimg:012d}"

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

    def validate(self) -> Validation:
        """Validates the average. One that is better than the best before is kept as a checkpoint of its own."""
        setup, state = self.setup, self.setup.state
        found = self.last = self.measure()
        self.warn(found.validation)
        if setup.validator.holds_out_enough and (
            state.best is None or setup.validator.is_better(found, state.best)
        ):
            state.best = found
            save_checkpoint(best_folder(setup.checkpoints), self.name(), state.as_dict(), keep=1)
        return found.validation

    def measure(self) -> Validated:
        """Measures the average now."""
        setup, state = self.setup, self.setup.state
        return setup.validator.validate(state.ema, setup.label_counts, state.nimg)

    def warn(self, validation: Validation) -> None:
        """Says what is wrong with the samples, once of each kind, and not of a training that has only begun."""
        setup = self.setup
        if is_early(validation.nimg, setup.options):
            return
        for kind, sentence in find_warnings(validation).items():
            if kind not in setup.state.warnings:
                setup.state.warnings[kind] = sentence
                log.warning(sentence)

    def choose(self) -> Choice:
        """The last average, or the best one if the last is worse than that by more than chance explains."""
        setup, state = self.setup, self.setup.state
        if not setup.options.validation_images or not setup.distributed.is_main:
            return Choice(None)
        if self.last is None or self.last.validation.nimg != state.nimg:
            self.last = self.measure()
        if state.best is None or not setup.validator.is_better(state.best, self.last):
            return Choice(self.last.validation)
        saved = load_checkpoint(best_folder(setup.checkpoints), setup.compute.device)
        return Choice(state.best.validation, saved, setup.validator.gain(self.last, state.best))

    def roll_back(self, divergence: Divergence) -> None:
        """Goes back to the newest good checkpoint with the algorithm's remedy.

        Raises:
            GanpipeError: training has been rolled back too often.
        """
        setup, state, diverged_at = self.setup, self.setup.state, self.setup.state.nimg
        remedies, best = state.remedies, state.best
        if len(remedies.rollbacks) >= MOST_ROLLBACKS:
            raise GanpipeError(self.too_many_rollbacks(divergence))
        self.scalars.forget()
        if saved := load_checkpoint(setup.checkpoints, setup.compute.device):
            state.restore(saved)
        else:
            state = setup.restart()
        # A checkpoint holds what was true at its own time. Remedies of later rollbacks count, and the best average has
        # a checkpoint of its own.
        state.remedies, state.best = remedies, best
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
