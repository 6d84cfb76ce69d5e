"""The search for γ: where it begins, when it goes on, and the sentence that it ends with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ganpipe.errors import GanpipeError
from ganpipe.settings.schema import Settings
from ganpipe.stages import tune_gamma as stage
from ganpipe.stages.tune_gamma import (
    Probe,
    check_gamma,
    describe_choice,
    first_gammas,
    heuristic_gamma,
    tune_gamma,
)
from ganpipe.stores.dataset_versions import open_version
from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.run_records import all_records
from ganpipe.stores.workspace import Workspace
from ganpipe.training.divergence import Divergence
from ganpipe.training.gan import GanAlgorithm
from tests.conftest import with_


def tune(place: Workspace, settings: Settings, gamma: float = 0.0064) -> stage.GammaResult:
    version = open_version(place, "noise", settings.data)
    """With a γ that is among those around the heuristic, unless `gamma` is another."""
    changed = {"training__validation_images": 32, "loss__gamma": gamma}
    return tune_gamma(place, version, with_(settings, **changed))


def give_energies(monkeypatch: pytest.MonkeyPatch, best: float) -> None:
    """Energies that are lowest at γ `best`, and differences that are all clear."""

    def energy(self: stage.Tuning, gamma: float) -> float:
        return abs(gamma - best)

    monkeypatch.setattr(stage.Tuning, "energy", energy)
    monkeypatch.setattr(stage.Validator, "is_better", lambda self, after, before: after is not before)


def test_the_heuristic_is_that_of_stylegan2_ada(settings: Settings) -> None:
    large = {"data__height_px": 256, "data__width_px": 256, "training__batch_images": 64}
    assert heuristic_gamma(with_(settings, **large)) == 0.2
    assert heuristic_gamma(settings) == 0.0064


def test_the_present_gamma_is_among_those_that_are_tried(settings: Settings) -> None:
    around = [0.0016, 0.0032, 0.0064, 0.013, 0.026]
    assert first_gammas(with_(settings, loss__gamma=1)) == [*around, 1]
    assert first_gammas(with_(settings, loss__gamma=0.0064)) == around
    assert first_gammas(with_(settings, loss__gamma=0)) == around


def test_five_probes_are_trained_and_the_best_is_named(
    comparable: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_energies(monkeypatch, best=0.0128)
    result = tune(comparable, settings)
    assert [probe.gamma for probe in result.probes] == [0.0016, 0.0032, 0.0064, 0.013, 0.026]
    assert result.gamma == 0.013
    assert result.sentence.startswith("γ 0.013; 0.0064 ")
    with Image.open(result.picture) as picture:
        assert picture.width > 4 * 500
        assert picture.height > 2 * 500
    client = Tracker(comparable).client
    for record in all_records(comparable):
        assert (
            client.get_run(str(record.mlflow_run_id)).data.tags["mlflow.parentRunId"] == result.mlflow_run_id
        )
    lengths = {record.train.nimg for record in all_records(comparable) if record.train}
    assert lengths == {64}
    assert tune(comparable, settings) == result
    assert len(all_records(comparable)) == 5


@pytest.mark.slow
def test_the_search_goes_on_beyond_an_end_that_is_the_best(
    comparable: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_energies(monkeypatch, best=0.1)
    result = tune(comparable, settings)
    assert [probe.gamma for probe in result.probes][5:] == [0.1, 0.4]
    assert result.gamma == 0.1


@pytest.mark.slow
def test_the_search_goes_on_between_the_best_and_a_neighbor_that_is_far_away(
    comparable: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.16 between 0.026 and 1, then 0.064 and 0.4 between it and its neighbors."""
    give_energies(monkeypatch, best=0.2)
    result = tune(comparable, settings, gamma=1)
    assert [probe.gamma for probe in result.probes][5:] == [0.064, 0.16, 0.4, 1]
    assert result.gamma == 0.16


@pytest.mark.slow
def test_the_search_ends_after_four_steps_beyond_an_end(
    comparable: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_energies(monkeypatch, best=0.0)
    result = tune(comparable, settings)
    assert len(result.probes) == 9
    assert result.gamma == min(probe.gamma for probe in result.probes)
    assert result.sentence.endswith("It is the lowest that was tried.")


def test_a_probe_that_diverges_is_named(
    comparable: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverged(self: GanAlgorithm, means: object, nimg: int) -> Divergence | None:
        return Divergence("made up") if self.settings.loss.gamma > 0.01 else None

    monkeypatch.setattr(GanAlgorithm, "diverged", diverged)
    monkeypatch.setattr(stage, "MOST_FURTHER", 0)
    result = tune(comparable, settings)
    assert [probe.energy is None for probe in result.probes] == [False, False, False, True, True]
    assert result.gamma <= 0.0064
    assert "0.013 diverged" in result.sentence


def test_if_all_diverge_the_learning_rates_are_named(
    comparable: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GanAlgorithm, "diverged", lambda *_: Divergence("made up"))
    with pytest.raises(GanpipeError, match=r"diverged with every γ \(0\.0016, .*\); lower training\.d_lr"):
        tune(comparable, settings)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"loss__name": "bce"}, "loss.name=bce with loss.penalty=auto has no γ to tune; set loss.penalty=r1"),
        ({"loss__name": "wgan-gp"}, "loss.name=wgan-gp with loss.penalty=auto has no γ"),
    ],
)
def test_a_loss_without_gamma_is_refused(
    settings: Settings, changed: dict[str, object], sentence: str
) -> None:
    with pytest.raises(GanpipeError, match=sentence):
        check_gamma(with_(settings, **changed))
    check_gamma(with_(settings, loss__gamma=0))  # γ is what is looked for


PROBES = [
    Probe(0.15, "a", 0.41, 0.99, 1.0, 1.0),
    Probe(0.3, "b", 0.22, 0.90, 1.0, 1.0, as_good_as_best=True),
    Probe(0.6, "c", 0.21, 0.81, 1.0, 1.0, as_good_as_best=True),
    Probe(2.4, "d", 0.33, 0.62, 1.0, 1.0),
]


def test_the_sentence_says_what_was_measured() -> None:
    assert describe_choice(PROBES, 0.6) == (
        "γ 0.6; 0.15 let D win, 2.4 starved it (D tells 99%, 81%, 62% of the pairs apart, energy 0.410, 0.210, 0.330). "
        "Chance explains the difference from 0.3."
    )


def test_a_gamma_is_no_limit_if_a_farther_one_is_as_good() -> None:
    lower = [replace(PROBES[0], gamma=0.04, as_good_as_best=True), PROBES[0]]
    assert describe_choice([*lower, *PROBES[2:]], 0.6).startswith("γ 0.6; 2.4 starved it (")


def test_the_sentence_claims_no_more_than_was_measured() -> None:
    odd = [replace(PROBES[0], told_apart=0.5), PROBES[2], replace(PROBES[3], told_apart=0.95)]
    assert describe_choice(odd, 0.6).startswith("γ 0.6; 0.15 was worse, 2.4 was worse (")
    only = [PROBES[1], PROBES[2]]
    assert describe_choice(only, 0.6) == (
        "γ 0.6 (D tells 81% of the pairs apart, energy 0.210). Chance explains the difference from 0.3. It is the highest "
        "that was tried."
    )


def test_the_picture_shows_every_probe(comparable: Workspace, settings: Settings, tmp_path: Path) -> None:
    probes = [replace(probe, run=f"run-{k}") for k, probe in enumerate(PROBES)]
    for probe in probes:
        folder = comparable.runs / probe.run / "grids"
        folder.mkdir(parents=True)
        Image.new("RGB", (50, 40)).save(folder / "000000000064.png")
    assert stage.draw_grids(comparable, probes).size == (4 * 50 + 3 * 12, 40 + 22)
    assert stage.draw_grids(comparable, [*probes, probes[0]]).size == (4 * 50 + 3 * 12, 2 * (40 + 22))
