"""The sweep stage: a search over settings. Each trial is a training; Optuna proposes it and ends it early if it is worse.

The study lies in the workspace: a killed sweep goes on where it was. A trial's proposal depends on the seed, its number and
the trials before it alone.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from ganpipe.files import sha256_of_json, write_text
from ganpipe.imaging.provenance import save_png
from ganpipe.models.registry import MODELS
from ganpipe.progress import Report, ignore
from ganpipe.reports.sweep_chart import DrawnTrial, sweep_chart
from ganpipe.settings.schema import FIELDS, Settings
from ganpipe.settings.sweep import Dimension
from ganpipe.settings.validation import bounds_of
from ganpipe.settings.yaml_files import dump_yaml
from ganpipe.stages import train
from ganpipe.stages.run import compute_names
from ganpipe.stages.trials import (
    VALIDATIONS,
    check_comparable,
    drop_checkpoints,
    energy_of,
    has_discriminator,
    nest_under,
    with_validations,
)
from ganpipe.stores.best_effort import BestEffort
from ganpipe.stores.dataset_versions import DatasetVersion
from ganpipe.stores.fingerprint import train_fingerprint
from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.run_records import RunRecord
from ganpipe.stores.workspace import Workspace, sqlite_uri
from ganpipe.training.callbacks import Point
from ganpipe.training.divergence import RolledBackTooOften
from ganpipe.training.gradient_penalties import select_penalty

FARTHER = 4.0  # learning rates and γ of the default space: from a quarter to four times the settings'
RANDOM_TRIALS = 5  # before the sampler has a model of the trials, and before one is ended early
RUN, REASON = "run", "reason"  # attributes of a trial
STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "diverged"}
DIGITS = 3  # of a proposed number that is not whole
FRAGMENT, CHART = "best.yaml", "sweep.png"


@dataclass(frozen=True)
class SweepPlan:
    """A sweep: what its trials have in common, the space, and how many of them there will be."""

    name: str
    version: DatasetVersion
    settings: Settings
    space: tuple[Dimension, ...]
    trials: int


@dataclass(frozen=True)
class TrialResult:
    """An ended trial. `state`: finished, pruned or diverged. `energy`: None unless it is finished."""

    number: int
    state: str
    params: dict[str, Any]
    energy: float | None = None
    run: str | None = None
    reason: str = ""

    def sentence(self) -> str:
        """Such as "Trial 3: energy 0.213 with training.g_lr 0.002, loss.gamma 0.5."."""
        values = ", ".join(f"{key} {value}" for key, value in self.params.items())
        came = self.state if self.energy is None else f"energy {self.energy:.3f}"
        return f"Trial {self.number}: {came} with {values}." + (f" {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep. `importances`: shares of the variance of the energy (fANOVA), by setting; they sum to 1.

    `settings`: the best ones as a fragment of params.yaml, which is in the file `fragment`, too. Paths are strings; without a
    finished trial there are none.
    """

    name: str
    dataset: str
    version: str
    trials: list[TrialResult]
    best: TrialResult | None
    importances: dict[str, float] = field(default_factory=dict)
    settings: str = ""
    fragment: str | None = None
    chart: str | None = None
    mlflow_run_id: str | None = None


def plan_sweep(
    version: DatasetVersion, settings: Settings, space: tuple[Dimension, ...], trials: int
) -> SweepPlan:
    """The sweep of these settings on this version, over `space` or the default one.

    Its name follows from all of this but the number of trials: a higher number adds to the ones that there are.

    Raises:
        GanpipeError: the settings cannot be trained, or their trainings cannot be compared.
    """
    train.check_request(settings)
    check_comparable(version, settings)
    space = space or default_space(settings)
    common = train_fingerprint(version.version, settings, compute_names(settings))
    name = f"{version.name}-sweep-{sha256_of_json([common, [str(d) for d in space]])[:12]}"
    return SweepPlan(name, version, settings, space, trials)


def default_space(settings: Settings) -> tuple[Dimension, ...]:
    """Learning rates, γ, batch and width, around the settings."""
    flat, rates = settings.flat(), ["training.g_lr"]
    if has_discriminator(settings):
        rates.append("training.d_lr")
        rates += ["loss.gamma"] if select_penalty(settings.loss) in ("r1", "r2", "both") else []
    sizes = ("training.batch_images", *MODELS[settings.model.name].widths)
    around = [_around(key, flat[key]) for key in rates if flat[key] > 0]
    doubled = [_doubled(key, flat[key]) for key in sizes]
    return (*around, *(d for d in doubled if len(d.choices) > 1))


def _around(key: str, value: float) -> Dimension:
    _, highest = bounds_of(FIELDS[key])
    return Dimension(key, value / FARTHER, min(FARTHER * value, highest or FARTHER * value), log=True)


def _doubled(key: str, value: float) -> Dimension:
    """Half, the same and twice the value, as far as they are allowed."""
    lowest, highest = bounds_of(FIELDS[key])
    near = [type(value)(value / 2), value, value * 2]
    return Dimension(key, choices=tuple(v for v in near if (lowest or 0) <= v <= (highest or v)))


def sweep_folder(workspace: Workspace, plan: SweepPlan) -> Path:
    """Where the study and its outcome lie."""
    return workspace.state / "sweeps" / plan.name


def open_study(workspace: Workspace, plan: SweepPlan) -> optuna.Study:
    """The sweep's study, made if there is none; its first trial are the settings as they are."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = sweep_folder(workspace, plan)
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=sqlite_uri(folder / "study.db"),
        study_name=plan.name,
        pruner=MedianPruner(n_startup_trials=RANDOM_TRIALS, n_warmup_steps=1),
        load_if_exists=True,
    )
    flat = plan.settings.flat()
    if not study.get_trials(deepcopy=False) and all(d.holds(flat[d.key]) for d in plan.space):
        study.enqueue_trial({d.key: flat[d.key] for d in plan.space})
    return study


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    if dimension.is_whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def next_trial(workspace: Workspace, plan: SweepPlan) -> int | None:
    """The number of the trial to train: one that was begun and has not ended, or a new one; None if all have ended."""
    study = open_study(workspace, plan)
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        if trial.state == TrialState.RUNNING and _is_proposed(trial, plan):
            return trial.number
        if trial.state == TrialState.RUNNING:  # killed while it was proposed
            study.tell(trial.number, state=TrialState.FAIL)
    if len(_ended(trials, plan)) >= plan.trials:
        return None
    seed = int(sha256_of_json([plan.settings.training.seed, len(trials)])[:8], 16)
    study.sampler = TPESampler(n_startup_trials=RANDOM_TRIALS, seed=seed)
    return study.ask({d.key: _distribution(d) for d in plan.space}).number


def _is_proposed(trial: FrozenTrial, plan: SweepPlan) -> bool:
    return len(trial.params) == len(plan.space)


def _ended(trials: list[FrozenTrial], plan: SweepPlan) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state.is_finished() and _is_proposed(trial, plan)]


def run_trial(
    workspace: Workspace, plan: SweepPlan, number: int, report: Report = ignore, wait: bool = True
) -> TrialResult:
    """Trains a trial, or resumes it, and tells the study what came of it.

    Raises:
        Interrupted: a signal; the same sweep resumes the trial.
        GanpipeError: its settings cannot be trained.
    """
    study = open_study(workspace, plan)
    trial = optuna.trial.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)
    try:
        record = _train(workspace, plan, trial, report, wait)
        study.tell(number, energy_of(record))
    except train.Pruned as pruned:
        trial.set_user_attr(REASON, str(pruned))
        study.tell(number, state=TrialState.PRUNED)
    except RolledBackTooOften as diverged:
        trial.set_user_attr(REASON, str(diverged))
        study.tell(number, state=TrialState.FAIL)
    best = _best(results(study, plan))
    drop_checkpoints(workspace, plan.name, best.run if best else None)
    return _result(study.get_trials(deepcopy=False)[number], plan)


def _train(
    workspace: Workspace, plan: SweepPlan, trial: optuna.Trial, report: Report, wait: bool
) -> RunRecord:
    """The finished training of a trial, nested under the sweep's run of MLflow, whose curve gets its energy."""
    tracker = Tracker(workspace)
    parent = tracker.begin_sweep(plan.version.name, plan.name)
    settings = plan.settings.with_values(_values(trial, plan))
    settings = with_validations(train.fix_length(workspace, plan.version, settings, wait))

    def begin(record: RunRecord) -> None:
        trial.set_user_attr(RUN, record.run_id)
        nest_under(workspace, parent)(record)

    pruning = train.Trial(plan.name, partial(_prune, trial, settings.training.total_images))
    record = train.train_model(workspace, plan.version, settings, report, wait, begin, pruning)
    trial.set_user_attr(RUN, record.run_id)  # it may have been there already
    attempt = BestEffort("MLflow", "the curve of the sweep lacks this trial")
    attempt(lambda: tracker.trial(parent, trial.number, energy_of(record)))
    return record


def _values(trial: FrozenTrial | optuna.Trial, plan: SweepPlan) -> dict[str, Any]:
    """The proposed settings; numbers of a range have as many digits as the best ones are printed with."""
    return {
        d.key: float(f"{trial.params[d.key]:.{DIGITS}g}") if _is_real(d) else trial.params[d.key]
        for d in plan.space
    }


def _is_real(dimension: Dimension) -> bool:
    return not dimension.choices and not dimension.is_whole


def _prune(trial: optuna.Trial, total_images: int, points: list[Point]) -> None:
    """Reports new validations; raises Pruned if the last one is worse than the median of the trials before."""
    for point in points:
        if (energy := point.values.get("validation_energy")) is not None:
            trial.report(energy, max(1, round(VALIDATIONS * point.nimg / total_images)))
    if points and points[-1].nimg < total_images and trial.should_prune():
        raise train.Pruned(
            f"Ended at {points[-1].nimg:,} of {total_images:,} images: its validation energy is above the median of the "
            "trials before it."
        )


def results(study: optuna.Study, plan: SweepPlan) -> list[TrialResult]:
    """The ended trials, in order."""
    return [_result(trial, plan) for trial in _ended(study.get_trials(deepcopy=False), plan)]


def _result(trial: FrozenTrial, plan: SweepPlan) -> TrialResult:
    run, reason = (trial.user_attrs.get(name) for name in (RUN, REASON))
    energy = trial.value if trial.state == TrialState.COMPLETE else None
    return TrialResult(trial.number, STATES[trial.state], _values(trial, plan), energy, run, reason or "")


def _best(trials: list[TrialResult]) -> TrialResult | None:
    finished = [trial for trial in trials if trial.energy is not None]
    return min(finished, key=lambda trial: trial.energy or 0.0, default=None)


def finish_sweep(workspace: Workspace, plan: SweepPlan) -> SweepResult:
    """Writes the best settings as a fragment of params.yaml, and the chart; MLflow gets both."""
    study = open_study(workspace, plan)
    trials = results(study, plan)
    best, folder = _best(trials), sweep_folder(workspace, plan)
    if best is None:
        return SweepResult(plan.name, plan.version.name, plan.version.version, trials, None)
    importances = find_importances(study)
    drawn = [DrawnTrial(t.params, t.energy) for t in trials if t.energy is not None]
    chart = sweep_chart(plan.space, drawn, importances)
    save_png(chart, folder / CHART, {"kind": "sweep", "sweep": plan.name, "runs": [t.run for t in trials]})
    fragment = best_settings(plan, best, len(trials))
    write_text(folder / FRAGMENT, fragment)
    tracker = Tracker(workspace)
    mlflow_run = tracker.begin_sweep(plan.version.name, plan.name)
    files = [folder / FRAGMENT, folder / CHART]
    record = BestEffort("MLflow", f"the outcome is in {folder} alone")
    record(lambda: tracker.end_sweep(mlflow_run, best.params, files))
    return SweepResult(
        plan.name,
        plan.version.name,
        plan.version.version,
        trials,
        best,
        importances,
        fragment,
        str(folder / FRAGMENT),
        str(folder / CHART),
        mlflow_run,
    )


def find_importances(study: optuna.Study) -> dict[str, float]:
    """The share of the variance of the energy that each setting explains (fANOVA; Hutter et al. 2014), largest first.

    Empty if fewer than RANDOM_TRIALS are finished, or if all are equally good.
    """
    if sum(trial.state == TrialState.COMPLETE for trial in study.get_trials(deepcopy=False)) < RANDOM_TRIALS:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
        except (ValueError, RuntimeError):
            return {}
    return {key: float(share) for key, share in found.items()}


def best_settings(plan: SweepPlan, best: TrialResult, trials: int) -> str:
    """The best trial's settings as a fragment of params.yaml."""
    tree: dict[str, dict[str, Any]] = {}
    for key, value in best.params.items():
        section, name = key.split(".")
        tree.setdefault(section, {})[name] = value
    head = (
        f"# The best of {trials} trials of ganpipe sweep on {plan.version.name}: validation energy {best.energy:.3f} "
        f"(run {best.run}).\n"
    )
    return head + dump_yaml(tree)
