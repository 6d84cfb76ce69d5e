"""A training's checkpoints: the last two, the best one, and rollback to them."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ganpipe.compute.checkpoints import best_folder, load_checkpoint, save_checkpoint
from ganpipe.errors import GanpipeError
from ganpipe.training.algorithm import set_progress
from ganpipe.training.callbacks import Callbacks
from ganpipe.training.divergence import (
    MOST_ROLLBACKS,
    Diverged,
    Divergence,
    RolledBackTooOften,
    is_early,
    not_finite,
)
from ganpipe.training.points import POINTS, append_new_points
from ganpipe.training.posthoc_ema import (
    FOLDER,
    TRIED_SIGMA_REL,
    delete_snapshots,
    rebuild_average,
    save_snapshot,
)
from ganpipe.training.scalars import ScalarAccumulator
from ganpipe.training.setup import TrainingSetup
from ganpipe.training.summary import Validation
from ganpipe.training.validation import Validated, find_warnings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """The average that becomes the model. `validated`: None without validation. `notes`: why it was chosen."""

    model: nn.Module
    validated: Validated | None = None
    notes: tuple[str, ...] = ()

    @property
    def validation(self) -> Validation | None:
        return self.validated.validation if self.validated else None


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
        networks = [*state.algorithm.networks.values(), state.ema, *state.averages.values()]
        buffers = [b for network in networks for b in network.buffers() if b.is_floating_point()]
        if buffers:
            distributed.average_(buffers)

    def validate(self) -> Validation:
        """Validates the average. One that is better than the best before is kept as a checkpoint of its own."""
        setup, state = self.setup, self.setup.state
        found = self.last = self.measure(self.setup.state.ema)
        self.warn(found.validation)
        if setup.validator.holds_out_enough and (
            state.best is None or setup.validator.is_better(found, state.best)
        ):
            state.best = found
            save_checkpoint(best_folder(setup.checkpoints), self.name(), state.as_dict(), keep=1)
        return found.validation

    def save_averages(self) -> None:
        """Writes a snapshot of the power-function averages, before the checkpoint of the same step."""
        if self.setup.distributed.is_main:
            save_snapshot(self.snapshots, self.setup.state.averages, self.setup.state.nimg)

    @property
    def snapshots(self) -> Path:
        return self.setup.checkpoints / FOLDER

    def measure(self, average: nn.Module) -> Validated:
        """Measures an average now."""
        setup = self.setup
        return setup.validator.validate(average, setup.label_counts, setup.state.nimg)

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
        """The last average; the best or a rebuilt one if that is better by more than chance explains."""
        setup, state = self.setup, self.setup.state
        if not setup.options.validation_images or not setup.distributed.is_main:
            return Choice(state.ema)
        if self.last is None or self.last.validation.nimg != state.nimg:
            self.last = self.measure(state.ema)
        choice = Choice(state.ema, self.last)
        if state.best is not None and setup.validator.is_better(state.best, self.last):
            choice = self.choose_best(state.best, self.last)
        return self.choose_length(choice) if state.averages and setup.validator.holds_out_enough else choice

    def choose_best(self, best: Validated, last: Validated) -> Choice:
        """The average of the best checkpoint; the last one if that checkpoint is gone."""
        setup, state = self.setup, self.setup.state
        saved = load_checkpoint(best_folder(setup.checkpoints), setup.compute.device)
        if saved is None:
            return Choice(state.ema, last)
        model = copy.deepcopy(state.ema)
        set_progress(model, saved["nimg"])
        model.load_state_dict(saved[state.ema_name])
        note = (
            f"The model is the average at {saved['nimg']:,} images: it is nearer to the held-out images than the last one "
            f"(energy distance gained {setup.validator.gain(last, best)}; validation_energy in MLflow)."
        )
        return Choice(model, best, (note,))

    def choose_length(self, choice: Choice) -> Choice:
        """Post-hoc EMA: the best of the lengths that are tried, if it is better than what was chosen before."""
        ema, validator, before = self.setup.state.ema, self.setup.validator, choice.validated
        assert before is not None
        try:
            tried = {s: self.measure(rebuild_average(self.snapshots, ema, s)) for s in TRIED_SIGMA_REL}
        except GanpipeError as error:
            return replace(choice, notes=(*choice.notes, f"Post-hoc EMA rebuilt no average. {error}"))
        sigma = min(tried, key=lambda s: tried[s].validation.energy or 0.0)
        found = tried[sigma]
        listed = ", ".join(f"{s:g} {validated.validation.energy:.3f}" for s, validated in tried.items())
        if not validator.is_better(found, before):
            note = (
                f"Post-hoc EMA: σ_rel {sigma:g} is the best of {len(tried)} lengths, and not better than the average at "
                f"{before.validation.nimg:,} images by more than chance explains (energy {before.validation.energy:.3f}; "
                f"by σ_rel: {listed})."
            )
            return replace(choice, notes=(*choice.notes, note))
        note = (
            f"The model is the average of σ_rel {sigma:g} (post-hoc EMA): it is nearer to the held-out images than the "
            f"average at {before.validation.nimg:,} images (energy distance gained {validator.gain(before, found)}; "
            f"energy by σ_rel: {listed})."
        )
        return Choice(rebuild_average(self.snapshots, ema, sigma), found, (note,))

    def roll_back(self, divergence: Divergence) -> None:
        """Goes back to the newest good checkpoint with the algorithm's remedy.

        Raises:
            RolledBackTooOften: training has been rolled back too often.
        """
        setup, state, diverged_at = self.setup, self.setup.state, self.setup.state.nimg
        remedies, best = state.remedies, state.best
        if len(remedies.rollbacks) >= MOST_ROLLBACKS:
            raise RolledBackTooOften(self.too_many_rollbacks(divergence))
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
            delete_snapshots(self.snapshots, after_nimg=state.nimg)
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
