"""The tune-gamma stage: short trainings that differ in γ alone, judged by their validation energy.

They begin with the present γ and those around γ₀ = 0.0002·pixels/batch, the heuristic of StyleGAN2-ADA (Karras et al. 2020,
arXiv 2006.06676), from a quarter to four times as much, and go on around the best so far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from statistics import mean

from PIL import Image

from ganpipe.errors import GanpipeError
from ganpipe.imaging.grid import rows_of_sheets
from ganpipe.imaging.provenance import save_png
from ganpipe.progress import Report, ignore
from ganpipe.settings.schema import Settings
from ganpipe.stages import train
from ganpipe.stages.evaluate import evaluation_compute
from ganpipe.stages.generate import load_run_model
from ganpipe.stages.run import compute_names
from ganpipe.stages.trials import (
    check_comparable,
    drop_checkpoints,
    has_discriminator,
    nest_under,
    with_validations,
)
from ganpipe.stores.best_effort import BestEffort
from ganpipe.stores.dataset_shards import load_dataset
from ganpipe.stores.dataset_versions import DatasetVersion
from ganpipe.stores.fingerprint import train_fingerprint
from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.run_records import RunRecord, run_folder
from ganpipe.stores.workspace import Workspace
from ganpipe.training.callbacks import Point
from ganpipe.training.divergence import RolledBackTooOften
from ganpipe.training.gradient_penalties import select_penalty
from ganpipe.training.points import POINTS, read_points
from ganpipe.training.validation import Validated, Validator

PER_PIXEL = 0.0002
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
BEYOND = 4.0  # the step beyond an end that is the best so far
FAR = 5.0  # a neighbor of the best that is more than so many times larger or smaller is not near enough
MOST_FURTHER = 4  # probes after the first ones


@dataclass(frozen=True)
class Probe:
    """A short training. `energy`: None if it diverged. `told_apart`: the share of pairs of images that D tells apart.

    It and the gradient norms are means over the second half of the training; NaN if it diverged at once.
    """

    gamma: float
    run: str
    energy: float | None
    told_apart: float
    d_grad: float
    g_grad: float
    as_good_as_best: bool = False


@dataclass(frozen=True)
class GammaResult:
    """The result of tuning γ: the best γ, the probes by γ, and a sentence. `picture`: the last grids."""

    gamma: float
    sentence: str
    probes: list[Probe]
    picture: str
    mlflow_run_id: str


def heuristic_gamma(settings: Settings) -> float:
    """0.0002·height·width/batch, with two digits."""
    pixels = settings.data.height_px * settings.data.width_px
    return _rounded(PER_PIXEL * pixels / settings.training.batch_images)


def first_gammas(settings: Settings) -> list[float]:
    """The γ that are always tried: those around the heuristic, and the present one if it is not 0."""
    middle = heuristic_gamma(settings)
    around = {_rounded(factor * middle) for factor in FACTORS}
    return sorted(around | {settings.loss.gamma} - {0.0})


def _rounded(gamma: float) -> float:
    return float(f"{gamma:.2g}")


def check_gamma(settings: Settings) -> None:
    """Raises GanpipeError if the training has no γ."""
    model, loss = settings.model.name, settings.loss
    if not has_discriminator(settings):
        raise GanpipeError(f"model.name={model} has no gradient penalty, so there is no γ to tune.")
    if select_penalty(loss.model_copy(update={"gamma": 1.0})) in ("none", "interpolated"):
        raise GanpipeError(
            f"loss.name={loss.name} with loss.penalty={loss.penalty} has no γ to tune; set loss.penalty=r1, for example."
        )


@dataclass
class Tuning:
    """The probes so far, with what they are judged by. `validated`: None for a probe that diverged."""

    workspace: Workspace
    version: DatasetVersion
    settings: Settings
    report: Report
    wait: bool

    def __post_init__(self) -> None:
        fingerprint = train_fingerprint(self.version.version, self.settings, compute_names(self.settings))
        self.name = f"{self.version.name}-gamma-{fingerprint[:12]}"
        self.tracker = Tracker(self.workspace)
        self.mlflow_run = self.tracker.begin_sweep(self.version.name, self.name)
        self.compute = evaluation_compute(self.settings)
        data = load_dataset(self.workspace, self.version, self.settings.data)
        self.validator = Validator(data, self.settings, self.compute)
        self.validated: dict[float, Validated | None] = {}
        self.runs: dict[float, str] = {}

    def probe(self, gamma: float) -> None:
        """Trains with this γ, and judges the model."""
        settings = self.settings.with_values({"loss.gamma": gamma})

        def begin(record: RunRecord) -> None:
            self.runs[gamma] = record.run_id
            nest_under(self.workspace, self.mlflow_run)(record)

        try:
            record = train.train_model(
                self.workspace, self.version, settings, self.report, self.wait, begin, train.Trial(self.name)
            )
        except RolledBackTooOften:
            self.validated[gamma] = None
            return
        self.runs[gamma] = record.run_id
        self.validated[gamma] = self.judge(record)

    def judge(self, record: RunRecord) -> Validated:
        """The validation of a run's model, with the features that tell which of two is better."""
        model = load_run_model(self.workspace, record, self.compute)
        counts = list(model.config["labels"].values())
        return self.validator.validate(model.G, counts, record.train.nimg if record.train else 0)

    def energy(self, gamma: float) -> float:
        """The validation energy of a probe; infinite if it diverged."""
        validated = self.validated[gamma]
        return math.inf if validated is None else validated.validation.energy or 0.0

    def best(self) -> float:
        """The γ with the lowest energy.

        Raises:
            GanpipeError: every probe has diverged.
        """
        best = min(self.validated, key=self.energy)
        if self.validated[best] is None:
            tried = ", ".join(f"{gamma:g}" for gamma in sorted(self.validated))
            raise GanpipeError(
                f"Training diverged with every γ ({tried}); lower training.d_lr and training.g_lr."
            )
        return best

    def next_gamma(self) -> float | None:
        """The next γ to try: beyond the best so far if it is an end, or between it and a neighbor that is far away."""
        best, tried = self.best(), sorted(self.validated)
        if best == tried[0]:
            return _rounded(best / BEYOND)
        if best == tried[-1]:
            return _rounded(best * BEYOND)
        at = tried.index(best)
        far = [near for near in (tried[at - 1], tried[at + 1]) if max(best / near, near / best) > FAR]
        return _rounded(math.sqrt(best * far[0])) if far else None

    def probes(self) -> list[Probe]:
        """All probes by γ."""
        return [self.describe(gamma) for gamma in sorted(self.validated)]

    def describe(self, gamma: float) -> Probe:
        """A probe with what its loss curve shows."""
        points = read_points(run_folder(self.workspace, self.runs[gamma]) / POINTS)
        d_sign, d_grad, g_grad = (late_mean(points, name) for name in ("d_sign", "d_grad", "g_grad"))
        energy, own, best = self.energy(gamma), self.validated[gamma], self.validated[self.best()]
        as_good = own is not None and best is not None and not self.validator.is_better(best, own)
        shown = None if own is None else energy
        return Probe(gamma, self.runs[gamma], shown, (1 + d_sign) / 2, d_grad, g_grad, as_good)


def late_mean(points: Sequence[Point], name: str) -> float:
    """The mean of a scalar over the second half of a curve; NaN if the training diverged before its first point."""
    values = [point.values[name] for point in points[len(points) // 2 :]]
    return mean(values) if values else math.nan


def tune_gamma(
    workspace: Workspace,
    version: DatasetVersion,
    settings: Settings,
    report: Report = ignore,
    wait: bool = True,
) -> GammaResult:
    """Trains the probes, or finds those that are finished, and says which γ is best.

    Raises:
        Interrupted: a signal; the same command goes on from there.
        GanpipeError: the training has no γ, its probes cannot be compared, or all of them diverge.
    """
    train.check_request(settings)
    check_gamma(settings)
    check_comparable(version, settings)
    middle = heuristic_gamma(settings)
    fixed = train.fix_length(workspace, version, settings.with_values({"loss.gamma": middle}), wait)
    tuning = Tuning(workspace, version, with_validations(fixed), report, wait)
    for gamma in first_gammas(settings):
        tuning.probe(gamma)
    for _ in range(MOST_FURTHER):
        if (further := tuning.next_gamma()) is None:
            break
        tuning.probe(further)
    probes, best = tuning.probes(), tuning.best()
    picture = workspace.reports / f"{tuning.name}.png"
    save_png(
        draw_grids(workspace, probes), picture, {"kind": "gamma", "runs": [probe.run for probe in probes]}
    )
    drop_checkpoints(workspace, tuning.name, tuning.runs[best])
    record = BestEffort("MLflow", f"the picture is in {picture} alone")
    record(lambda: tuning.tracker.end_sweep(tuning.mlflow_run, {"loss.gamma": best}, [picture]))
    return GammaResult(best, describe_choice(probes, best), probes, str(picture), tuning.mlflow_run)


def describe_choice(probes: Sequence[Probe], best: float) -> str:
    """Such as "γ 0.6; 0.15 let D win, 2.4 starved it.", made from what was measured.

    Named are the nearest γ on each side from which on all are worse by more than chance explains. Below the best one D wins
    if it tells more pairs apart than there, above it starves if it tells fewer apart.
    """
    chosen = next(probe for probe in probes if probe.gamma == best)
    below = _worse_from_the_end([probe for probe in probes if probe.gamma < best])
    above = _worse_from_the_end([probe for probe in reversed(probes) if probe.gamma > best])
    sides = [_fault(probe, chosen) for probe in (*below[-1:], *above[-1:])]
    shown = [probe for probe in (*below[-1:], chosen, *above[-1:]) if probe.energy is not None]
    told = ", ".join(f"{probe.told_apart:.0%}" for probe in shown)
    energies = ", ".join(f"{probe.energy:.3f}" for probe in shown)
    figures = f"D tells {told} of the pairs apart, energy {energies}"
    sentence = f"γ {best:g}; {', '.join(sides)} ({figures})." if sides else f"γ {best:g} ({figures})."
    alike = [f"{probe.gamma:g}" for probe in probes if probe.as_good_as_best and probe.gamma != best]
    sentence += f" Chance explains the difference from {', '.join(alike)}." if alike else ""
    gammas = [probe.gamma for probe in probes]
    if best in (min(gammas), max(gammas)):
        sentence += f" It is the {'lowest' if best == min(gammas) else 'highest'} that was tried."
    return sentence


def _worse_from_the_end(side: Sequence[Probe]) -> list[Probe]:
    return list(takewhile(lambda probe: not probe.as_good_as_best, side))


def _fault(probe: Probe, best: Probe) -> str:
    if probe.energy is None:
        return f"{probe.gamma:g} diverged"
    if probe.gamma < best.gamma and probe.told_apart > best.told_apart:
        return f"{probe.gamma:g} let D win"
    if probe.gamma > best.gamma and probe.told_apart < best.told_apart:
        return f"{probe.gamma:g} starved it"
    return f"{probe.gamma:g} was worse"


def draw_grids(workspace: Workspace, probes: Sequence[Probe]) -> Image.Image:
    """The last grids of all probes, each below its γ; the latents are the same."""
    shown = [(probe, grids[-1]) for probe in probes if (grids := _grids(workspace, probe))]
    titles = [
        f"gamma {probe.gamma:g}: {'diverged' if probe.energy is None else f'energy {probe.energy:.3f}'}"
        for probe, _ in shown
    ]
    return rows_of_sheets([Image.open(path).convert("RGB") for _, path in shown], titles)


def _grids(workspace: Workspace, probe: Probe) -> list[Path]:
    return sorted((run_folder(workspace, probe.run) / "grids").glob("*.png"))
