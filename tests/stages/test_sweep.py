"""Sweeps with the real Optuna, MLflow and trainer: trials are proposed, trained, pruned, resumed and reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import yaml
from PIL import Image

from ganpipe.errors import GanpipeError
from ganpipe.settings import schema
from ganpipe.settings.params import parse_assignments
from ganpipe.settings.schema import Settings
from ganpipe.settings.sweep import Dimension
from ganpipe.stages import gc, sweep, train, trials
from ganpipe.stages.sweep import SweepPlan, default_space, plan_sweep
from ganpipe.stores.dataset_versions import open_version
from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.run_records import all_records, run_folder
from ganpipe.stores.workspace import Workspace
from ganpipe.training import validation
from ganpipe.training.callbacks import Point
from ganpipe.training.validation import Validator
from tests.conftest import Killed, with_

SPACE = (
    Dimension("training.g_lr", 1e-4, 1e-2, log=True),
    Dimension("training.batch_images", choices=(4, 8)),
)


def plan(place: Workspace, settings: Settings, count: int = 3) -> SweepPlan:
    version = open_version(place, "noise", settings.data)
    return plan_sweep(version, with_(settings, training__validation_images=32), SPACE, count)


def run_all(place: Workspace, planned: SweepPlan) -> sweep.SweepResult:
    while (number := sweep.next_trial(place, planned)) is not None:
        sweep.run_trial(place, planned, number)
    return sweep.finish_sweep(place, planned)


def test_a_sweep_trains_its_trials_and_writes_the_best_settings(
    comparable: Workspace, settings: Settings
) -> None:
    planned = plan(comparable, settings)
    result = run_all(comparable, planned)
    assert [trial.number for trial in result.trials] == [0, 1, 2]
    assert result.trials[0].params == {
        "training.g_lr": 2e-4,
        "training.batch_images": 8,
    }  # the settings as they are
    assert result.best is not None
    assert result.best.energy == min(trial.energy for trial in result.trials if trial.energy is not None)
    assert str(result.fragment).endswith("best.yaml")
    text = Path(str(result.fragment)).read_text()
    assert text == result.settings
    tree = yaml.safe_load(text)
    assert {f"training.{key}": value for key, value in tree["training"].items()} == result.best.params
    with Image.open(str(result.chart)) as chart:
        assert chart.width > 600
    records = {record.run_id: record for record in all_records(comparable)}
    best = records[str(result.best.run)].resolved().flat()
    assert {key: best[key] for key in result.best.params} == result.best.params
    assert result.importances == {}  # of three trials


def test_the_setting_that_decides_has_the_largest_importance() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda t: t.suggest_float("rate", 0, 1) ** 2 + 0.01 * t.suggest_float("width", 0, 1), 20)
    importances = sweep.find_importances(study)
    assert importances["rate"] > 0.9
    assert sum(importances.values()) == pytest.approx(1)


def test_trials_are_nested_under_one_run_of_mlflow(comparable: Workspace, settings: Settings) -> None:
    result = run_all(comparable, plan(comparable, settings, 2))
    client = Tracker(comparable).client
    parent = client.get_run(str(result.mlflow_run_id))
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["best.training.batch_images"] in ("4", "8")
    for trial in result.trials:
        (record,) = [record for record in all_records(comparable) if record.run_id == trial.run]
        tags = client.get_run(str(record.mlflow_run_id)).data.tags
        assert tags["mlflow.parentRunId"] == result.mlflow_run_id
    curve = client.get_metric_history(str(result.mlflow_run_id), "validation_energy")
    assert {m.step: m.value for m in curve} == {t.number: t.energy for t in result.trials}


@pytest.mark.slow
def test_a_killed_sweep_resumes_its_trial_and_ends_as_if_nothing_had_happened(
    comparable: Workspace, settings: Settings, tmp_path: Path, prepared_noise: Path
) -> None:
    planned = plan(comparable, settings)
    number = sweep.next_trial(comparable, planned)

    def kill(progress: object) -> None:
        if getattr(progress, "stage", "") == "train" and getattr(progress, "done", 0) >= 40:
            raise Killed

    assert number == 0
    with pytest.raises(Killed):
        sweep.run_trial(comparable, planned, number, kill)
    assert sweep.next_trial(comparable, planned) == 0
    resumed = run_all(comparable, planned)
    (comparable.state / "sweeps").rename(tmp_path / "sweeps")
    again = run_all(comparable, planned)  # a new study: the same proposals, whose trainings are finished
    assert [replace(trial, run=None) for trial in again.trials] == [
        replace(t, run=None) for t in resumed.trials
    ]


@pytest.mark.slow
def test_more_trials_are_added_to_those_that_there_are(comparable: Workspace, settings: Settings) -> None:
    first = run_all(comparable, plan(comparable, settings, 1))
    second = run_all(comparable, plan(comparable, settings, 2))
    assert first.name == second.name
    assert second.trials[:1] == first.trials
    assert len(second.trials) == 2


def give_energies(monkeypatch: pytest.MonkeyPatch, energy: Callable[[Settings, int], float]) -> None:
    """Validations that return what a function of settings and nimg says."""
    real = Validator.validate

    def validate(self: Validator, ema: object, counts: object, nimg: int) -> validation.Validated:
        found = real(self, ema, counts, nimg)  # type: ignore[arg-type]
        return replace(found, validation=replace(found.validation, energy=energy(self.settings, nimg)))

    monkeypatch.setattr(Validator, "validate", validate)


def test_a_trial_that_is_worse_than_the_others_ends_early(
    comparable: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "RANDOM_TRIALS", 1)
    monkeypatch.setattr(schema, "SHORTEST_INTERVAL_STEPS", 1)  # between checkpoints
    give_energies(monkeypatch, lambda s, nimg: 0.1 if s.training.g_lr == 2e-4 else 0.9)
    result = run_all(comparable, plan(comparable, with_(settings, training__log_every_images=8), 2))
    assert [trial.state for trial in result.trials] == ["finished", "pruned"]
    assert "its validation energy is above the median" in result.trials[1].reason
    assert result.best == result.trials[0]
    (record,) = [record for record in all_records(comparable) if record.run_id == result.trials[1].run]
    assert record.state == "pruned"
    assert Tracker(comparable).client.get_run(str(record.mlflow_run_id)).info.status == "KILLED"


@pytest.mark.slow
def test_only_the_best_trial_keeps_its_checkpoints_and_gc_takes_those_too(
    comparable: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_energies(monkeypatch, lambda s, nimg: s.training.g_lr)
    result = run_all(comparable, plan(comparable, settings))
    assert result.best is not None

    def with_checkpoints() -> set[str]:
        return {
            r.run_id for r in all_records(comparable) if list(run_folder(comparable, r.run_id).rglob("*.pt"))
        }

    assert with_checkpoints() == {result.best.run}
    gc.collect(comparable, with_(settings, gc__keep_runs=0))
    assert with_checkpoints() == set()
    assert all((run_folder(comparable, r.run_id) / "model").is_dir() for r in all_records(comparable))


def test_a_run_that_was_there_before_keeps_its_checkpoints(comparable: Workspace, settings: Settings) -> None:
    planned = plan(comparable, settings, 2)
    own = trials.with_validations(planned.settings)
    record = train.train_model(comparable, planned.version, own)
    run_all(comparable, planned)
    assert record.run_id in {trial.run for trial in run_all(comparable, planned).trials}
    assert list((run_folder(comparable, record.run_id) / "checkpoints").glob("*.pt"))


def test_a_trial_that_diverges_does_not_end_the_sweep(
    comparable: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ganpipe.training.divergence import Divergence
    from ganpipe.training.gan import GanAlgorithm

    def diverged(self: GanAlgorithm, means: object, nimg: int) -> Divergence | None:
        return None if self.settings.training.g_lr == 2e-4 else Divergence("made up")

    monkeypatch.setattr(GanAlgorithm, "diverged", diverged)
    result = run_all(comparable, plan(comparable, settings, 2))
    assert [trial.state for trial in result.trials] == ["finished", "diverged"]
    assert "it had been rolled back" in result.trials[1].reason


def test_the_default_space_lies_around_the_settings(settings: Settings) -> None:
    found = {d.key: d for d in default_space(settings)}
    assert list(found) == [
        "training.g_lr",
        "training.d_lr",
        "loss.gamma",
        "training.batch_images",
        "model.g_channels",
        "model.d_channels",
    ]
    assert (found["training.g_lr"].low, found["training.g_lr"].high) == (5e-5, 8e-4)
    assert found["model.g_channels"].choices == (4, 8)  # 2 is not allowed
    other = {d.key for d in default_space(with_(settings, model__name="mlp", loss__name="bce"))}
    assert other == {"training.g_lr", "training.d_lr", "training.batch_images", "model.mlp_width"}


def test_trials_without_validation_are_refused(comparable: Workspace, settings: Settings) -> None:
    with pytest.raises(GanpipeError, match=r"training\.validation_images is 0, and trials are compared"):
        plan_sweep(open_version(comparable, "noise", settings.data), settings, SPACE, 2)


def test_too_few_held_out_images_are_refused(
    comparable: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "LEAST_HELD_OUT", 1000)
    with pytest.raises(GanpipeError, match="trials are compared on at least 1000"):
        plan(comparable, settings)


def test_the_fragment_is_what_set_takes(comparable: Workspace, settings: Settings) -> None:
    planned = plan(comparable, settings, 1)
    best = sweep.TrialResult(0, "finished", {"training.g_lr": 0.00123, "loss.name": "hinge"}, 0.25, "noise-1")
    tree = yaml.safe_load(sweep.best_settings(planned, best, 7))
    assert parse_assignments(
        [f"training.g_lr={tree['training']['g_lr']}", f"loss.name={tree['loss']['name']}"]
    )


def test_points_are_reported_by_their_share_of_the_training() -> None:
    class Reported:
        def __init__(self) -> None:
            self.seen: list[tuple[float, int]] = []

        def report(self, value: float, step: int) -> None:
            self.seen.append((value, step))

        def should_prune(self) -> bool:
            return True

    trial = Reported()
    points = [Point(nimg, {"validation_energy": nimg / 100}) for nimg in (26, 50, 75)] + [
        Point(100, {"loss_d": 1.0})
    ]
    sweep._prune(trial, 100, points)  # type: ignore[arg-type]
    assert trial.seen == [(0.26, 1), (0.5, 2), (0.75, 3)]
    with pytest.raises(train.Pruned, match="Ended at 75 of 100 images"):
        sweep._prune(trial, 100, points[:3])  # type: ignore[arg-type]
