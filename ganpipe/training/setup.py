"""Prepares a training: algorithm, state, validator, and the expected duration and memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ganpipe.compute.checkpoints import load_checkpoint
from ganpipe.compute.device import training_compute, tune
from ganpipe.compute.distributed import Distributed, check_batch_divides
from ganpipe.compute.random import GRID, draw_labels, latents
from ganpipe.data.shards import PreparedData
from ganpipe.models.registry import count_classes, count_parameters
from ganpipe.settings.schema import Settings
from ganpipe.training.algorithm import Algorithm, Phase, TrainingContext
from ganpipe.training.algorithms import build_algorithm
from ganpipe.training.divergence import Remedies
from ganpipe.training.posthoc_ema import FOLDER as SNAPSHOTS
from ganpipe.training.posthoc_ema import KEPT_SIGMA_REL, delete_snapshots
from ganpipe.training.probe import PROBE_FILE, ProbeResult, TrialStep, probe_steps, read_probe
from ganpipe.training.state import State
from ganpipe.training.validation import Validator
from ganpipe.training.warm_start import WarmStart

log = logging.getLogger(__name__)

GRID_IMAGES = 64


class TrainingSetup:
    """Everything that the loop needs. The state is that of the newest checkpoint in `run_dir`, or fresh."""

    def __init__(
        self, data: PreparedData, settings: Settings, run_dir: Path, distributed: Distributed
    ) -> None:
        self.data, self.settings, self.options = data, settings, settings.training
        self.run_dir, self.distributed = run_dir, distributed
        self.compute = training_compute(self.options)
        tune(self.compute, self.options.deterministic)
        self.checkpoints = run_dir / "checkpoints"
        self.classes = count_classes(settings.model, data.label_names, data.labeled)
        self.label_counts = data.label_counts if self.classes else ()
        check_batch_divides(self.options.batch_images, distributed.size)
        self.validator = Validator(data, settings, self.compute)
        z_dim, seed, device = settings.model.z_dim, self.options.seed, self.compute.device
        self.fixed_latents = latents(seed, GRID, 0, GRID_IMAGES, z_dim, device)
        self.fixed_labels = draw_labels(self.label_counts, seed, 0, GRID_IMAGES, device)
        self.warm_start = WarmStart.read(run_dir, device)
        self.state = self.new_state()
        if saved := load_checkpoint(self.checkpoints, device):
            self.state.restore(saved)
            log.info("Resuming at %s of %s images.", f"{self.state.nimg:,}", f"{self.options.total_images:,}")
        if distributed.is_main:  # the training takes those again
            delete_snapshots(self.checkpoints / SNAPSHOTS, after_nimg=self.state.nimg)
        self.first_nimg = self.state.nimg

    def new_algorithm(self) -> Algorithm:
        """The algorithm of `model.name` with fresh weights."""
        warm = self.warm_start is not None
        context = TrainingContext(
            self.data, self.settings, self.compute, self.classes, self.distributed, warm
        )
        algorithm = build_algorithm(context)
        counts = (f"{name} has {count_parameters(net):,} weights" for name, net in algorithm.networks.items())
        conditional = f"; class-conditional on {self.classes} labels" if self.classes else ""
        log.info("%s: %s%s.", self.settings.model.name, ", ".join(counts), conditional)
        return algorithm

    def new_state(self) -> State:
        """The state before the first step: fresh weights, or those of the run or file that it starts from."""
        algorithm = self.new_algorithm()
        kept = KEPT_SIGMA_REL if self.options.ema_snapshots else ()
        if self.warm_start is None:
            return State.start(algorithm, kept)
        self.warm_start = self.warm_start.for_networks(algorithm)
        for name, frozen in algorithm.frozen.items():
            self.warm_start.check_frozen(name, algorithm.networks[name], frozen)
        self.warm_start.load(algorithm.networks)
        state = State.start(algorithm, kept)
        self.warm_start.load({state.ema_name: state.ema})
        return state

    def restart(self) -> State:
        """The state before the first step, again."""
        self.state = self.new_state()
        return self.state

    def notes(self) -> list[str]:
        """A sentence for the report on the run or file that it starts from."""
        return [self.warm_start.sentence(self.state.algorithm.networks)] if self.warm_start else []

    def probe(self) -> ProbeResult:
        """The probe of this run: measured on copies before its first step, read again by a resumed run."""
        options, distributed = self.options, self.distributed
        path = self.run_dir / PROBE_FILE
        phases = self.state.algorithm.phases(self.state.nimg, options.total_images)
        if distributed.is_main and not path.exists():
            share = options.batch_images // distributed.size
            steps, lazy = self.trial_steps(phases)
            probe_steps(path, share, options.microbatch_images, self.compute, steps[-1], steps[:-1], lazy)
        distributed.wait()
        result = read_probe(path)
        if self.state.nimg == self.first_nimg:
            left = [phase.images for phase in phases]
            where = f"{self.compute.device} in {self.compute.precision}"
            log.info(result.sentence(left, options.batch_images, distributed.size, where))
        return result

    def trial_steps(self, phases: Sequence[Phase]) -> tuple[list[TrialStep], list[TrialStep]]:
        """A step of each phase, and the further steps of the last one's lazy cycle, on copies of the networks that all share."""
        copy, nimg = self.state.algorithm.probe_copy(), self.state.nimg
        values = copy.values_at(nimg, Remedies())

        def step(phase: Phase, number: int, images: int) -> None:
            copy.set_progress(phase.nimg)
            copy.step(copy.batch(0, images, number), values, number)

        lazy: list[TrialStep] = [partial(step, phases[-1], n) for n in range(1, copy.lazy_cycle)]
        return [partial(step, phase, 0) for phase in phases], lazy
