"""The promote and compare stages: who becomes champion, what is recorded of it, and what is compared with what."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from ganpipe.errors import GanpipeError
from ganpipe.evaluation.gate_result import KEPT, PROMOTED, UNDECIDED, GateResult, side_picture
from ganpipe.settings.schema import Settings
from ganpipe.stages import promote
from ganpipe.stages.compare import compare
from ganpipe.stages.generate import load_model
from ganpipe.stages.restore import restore_record
from ganpipe.stages.status import workspace_status
from ganpipe.stores import datasets
from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.model_registry import ModelRegistry
from ganpipe.stores.registered_models import read_registered_models
from ganpipe.stores.run_records import RunRecord, all_records, load_record, run_folder
from ganpipe.stores.workspace import Workspace
from tests.conftest import copied, fill_folder
from tests.stages.test_stages import run_evaluate, run_register, run_train, with_runs

NAME = "ganpipe-noise"


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, prepared_noise: Path, mlflow_database: Path, settings: Settings
) -> Path:
    """The dataset `noise` and three runs on it, with the seeds 0, 1 and 2."""
    runs = [settings.with_values({"training.seed": k}) for k in range(3)]
    return with_runs(tmp_path_factory.mktemp("trained"), prepared_noise, mlflow_database, *runs)


@pytest.fixture
def noise(workspace: Workspace, trained: Path) -> Workspace:
    return copied(trained, workspace)


def run_of_seeds(workspace: Workspace, count: int) -> list[RunRecord]:
    by_seed = {record.resolved().training.seed: record for record in all_records(workspace)}
    return [by_seed[k] for k in range(count)]


def say(monkeypatch: pytest.MonkeyPatch, outcome: str) -> None:
    """The gate answers this, whatever the models are."""
    monkeypatch.setattr(promote, "decide_between", lambda *_: GateResult(outcome, f"because {outcome}"))


def alias(workspace: Workspace, name: str) -> str | None:
    try:
        return str(ModelRegistry(workspace).client.get_model_version_by_alias(NAME, name).version)
    except MlflowException:
        return None


def aliases(workspace: Workspace) -> tuple[str | None, ...]:
    return tuple(alias(workspace, name) for name in ("champion", "challenger", "previous"))


def marked_runs(workspace: Workspace) -> list[str]:
    """The runs with the tag `champion` in MLflow."""
    tracker = Tracker(workspace)
    found = tracker.client.search_runs([tracker.experiment("noise")], "tags.champion = 'yes'")
    return [run.info.run_id for run in found]


def test_the_champion_is_the_first_then_the_better_and_can_be_rolled_back(
    noise: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = run_of_seeds(noise, 3)
    first = run_register(noise, records[0], settings)
    assert first.champion
    assert first.gate is not None
    assert first.gate.reason == "There was no champion, and its verdict is fair."
    say(monkeypatch, KEPT)
    assert not run_register(noise, records[1], settings).champion
    assert aliases(noise) == ("1", "2", None)
    say(monkeypatch, PROMOTED)
    assert run_register(noise, records[2], settings).champion
    assert aliases(noise) == ("3", "2", "1")
    assert marked_runs(noise) == [records[2].mlflow_run_id]

    assert str(promote.roll_back(noise, "noise", "its flowers are blurred")) == f"{NAME} v1"
    assert marked_runs(noise) == [records[0].mlflow_run_id]
    assert aliases(noise) == ("1", "2", None)
    assert [bool(load_record(noise, r.run_id).champion) for r in records] == [True, False, False]
    with pytest.raises(GanpipeError, match="nothing to roll back to"):
        promote.roll_back(noise, "noise")
    assert read_registered_models(noise) == ModelRegistry(noise).registered_models()
    changes = workspace_status(noise, settings.data).changes
    told = [(c.model, c.version, c.before, c.action, c.why) for c in changes]
    assert told == [
        (NAME, "1", None, "gate", "There was no champion, and its verdict is fair."),
        (NAME, "3", "1", "gate", "because promoted"),
        (NAME, "1", "3", "rollback", "its flowers are blurred"),
    ]
    assert all(c.by and c.at.startswith("20") for c in changes)
    tags = ModelRegistry(noise).client.get_model_version(NAME, "3").tags
    assert (tags["ganpipe.gate"], tags["ganpipe.promoted_why"]) == ("promoted", "because promoted")
    assert ModelRegistry(noise).client.get_model_version(NAME, "2").tags["ganpipe.gate"] == "kept"
    again = run_register(noise, first, settings)
    assert (again.model_version, again.champion, again.gate) == (f"{NAME} v1", True, first.gate)


@pytest.mark.parametrize("verdict", ["collapsed", "memorized", "poor"])
def test_a_first_model_with_a_bad_verdict_is_registered_and_needs_force(
    noise: Workspace, settings: Settings, verdict: str, caplog: pytest.LogCaptureFixture
) -> None:
    record = run_register(noise, *run_of_seeds(noise, 1), settings, verdict)
    assert (record.model_version, record.champion, aliases(noise)) == (f"{NAME} v1", False, (None, "1", None))
    with pytest.raises(GanpipeError, match=rf"verdict is {verdict}.*promote {record.run_id} --force"):
        promote.promote_run(noise, record)
    with pytest.raises(GanpipeError, match="promote the model of a run with: ganpipe promote RUN"):
        ModelRegistry(noise).find_model("champion", None)
    assert str(load_model(noise, "champion", "noise").reference) == f"{NAME} v1"
    assert f"{NAME} v1 is used, which was not promoted." in caplog.text
    promote.promote_run(noise, record, force=True, because="I like it")
    assert aliases(noise) == ("1", None, None)
    (change,) = workspace_status(noise, settings.data).changes
    assert (change.action, change.why) == ("force", "I like it")


def test_a_model_that_the_gate_kept_out_needs_force_and_an_undecided_one_does_not(
    noise: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = run_of_seeds(noise, 3)
    run_register(noise, records[0], settings)
    say(monkeypatch, KEPT)
    kept = run_register(noise, records[1], settings)
    with pytest.raises(GanpipeError, match="because kept Promote it all the same"):
        promote.promote_run(noise, kept)
    say(monkeypatch, UNDECIDED)
    undecided = run_register(noise, records[2], settings)
    assert aliases(noise) == ("1", "3", None)
    promote.promote_run(noise, undecided)
    promote.promote_run(noise, kept, force=True)
    assert aliases(noise) == ("2", None, "3")
    assert str(promote.roll_back(noise, None)) == f"{NAME} v3"


@pytest.mark.parametrize(("mode", "outcome"), [("ask", "promoted"), ("never", "kept")])
def test_a_person_decides_if_the_settings_say_so(
    noise: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch, mode: str, outcome: str
) -> None:
    by_hand = settings.with_values({"evaluation.promote": mode})
    first, second = run_of_seeds(noise, 2)
    first = run_register(noise, first, by_hand)
    assert first.gate is not None
    assert (first.champion, first.gate.outcome, first.gate.waiting) == (False, outcome, True)
    assert {r.run: r.gate for r in workspace_status(noise, settings.data).runs}[first.run_id] == "waiting"
    promote.promote_run(noise, first)
    say(monkeypatch, KEPT)
    second = run_register(noise, second, by_hand)
    assert second.gate is not None
    assert (second.gate.waiting, aliases(noise)) == (mode == "never", ("1", "2", None))
    assert load_record(noise, first.run_id).gate == replace(first.gate, waiting=False)


def test_who_keeps_the_champion_ends_the_waiting_and_gives_a_reason(
    noise: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = run_of_seeds(noise, 2)
    first = run_register(noise, first, settings)
    say(monkeypatch, PROMOTED)
    second = run_register(noise, second, settings.with_values({"evaluation.promote": "ask"}))
    age = (run_folder(noise, second.run_id) / "run.json").stat().st_mtime_ns
    monkeypatch.setattr(promote, "user_name", lambda: "ada")
    assert str(promote.refuse_run(noise, second, "its petals are gray")) == f"{NAME} v2"
    refused = load_record(noise, second.run_id)
    assert refused is not None
    assert refused.gate is not None
    assert (refused.gate.outcome, refused.gate.waiting) == (KEPT, False)
    assert re.fullmatch(
        r"Refused by ada on [\d-]{10} \(its petals are gray\)\. because promoted", refused.gate.reason
    )
    assert (run_folder(noise, second.run_id) / "run.json").stat().st_mtime_ns == age
    assert aliases(noise) == ("1", "2", None)
    tags = ModelRegistry(noise).client.get_model_version(NAME, "2").tags
    assert (tags["ganpipe.gate"], tags["ganpipe.gate_reason"]) == (KEPT, refused.gate.reason)
    run = Tracker(noise).client.get_run(str(second.mlflow_run_id))
    assert run.data.tags["ganpipe.gate"] == KEPT
    for record in (first, refused):
        with pytest.raises(GanpipeError, match="no model that waits for a person: the gate's answer is"):
            promote.refuse_run(noise, record)
    with pytest.raises(GanpipeError, match=r"its petals are gray.*--force"):
        promote.promote_run(noise, refused)


def test_both_are_drawn_and_judged_now_and_the_answer_is_kept_everywhere(
    migrated: Workspace, prepared_noise: Path, settings: Settings
) -> None:
    """The real gate, on two networks of noise; a record that is lost brings the answer back from MLflow.

    They are trained here: MLflow remembers, in a process, where the artifacts of a run are.
    """
    noise = copied(prepared_noise, migrated)
    records = [run_train(noise, "noise", settings.with_values({"training.seed": k})) for k in range(2)]
    run_register(noise, records[0], settings)
    shutil.rmtree(run_folder(noise, records[0].run_id) / "checkpoints")
    record = run_register(noise, records[1], settings)
    gate = record.gate
    assert gate is not None
    assert gate.comparison is not None
    assert (gate.champion, gate.challenger) == (f"{NAME} v1", f"{NAME} v2")
    assert (gate.comparison.images, gate.comparison.holdout) == (24, 9)
    assert gate.outcome in (KEPT, UNDECIDED, PROMOTED)
    assert record.champion == (gate.outcome == PROMOTED)
    assert gate.picture == str(run_folder(noise, record.run_id) / "gate.png")
    with Image.open(str(gate.picture)) as sheet:
        assert sheet.width > 2.5 * sheet.height
        for side, x in (("champion", 0), ("challenger", (sheet.width + 12) // 3)):
            with Image.open(side_picture(Path(str(gate.picture)), side)) as alone:
                place = (x, sheet.height - alone.height, x + alone.width, sheet.height)
                assert sheet.crop(place).tobytes() == alone.tobytes(), side
    assert str(noise.root) not in (run_folder(noise, record.run_id) / "run.json").read_text()
    tracker = Tracker(noise)
    artifacts = {f.path for f in tracker.client.list_artifacts(str(record.mlflow_run_id), "gate")}
    assert artifacts == {"gate/gate.json", "gate/gate.png"}
    run = tracker.client.get_run(str(record.mlflow_run_id))
    assert run.data.tags["ganpipe.gate"] == gate.outcome
    (run_folder(noise, record.run_id) / "run.json").unlink()
    assert restore_record(noise, record.run_id).gate == gate


def test_the_same_weights_are_no_improvement(noise: Workspace, settings: Settings) -> None:
    first, second = run_of_seeds(noise, 2)
    run_register(noise, first, settings)
    theirs, own = (run_folder(noise, r.run_id) / "model" for r in (first, second))
    shutil.rmtree(own)
    shutil.copytree(theirs, own)
    gate = run_register(noise, second, settings).gate
    assert gate is not None
    assert (gate.outcome, gate.reason) == (KEPT, "Both make the same images, bit for bit.")


@pytest.mark.slow
def test_models_of_other_sizes_are_compared_at_the_larger_one(noise: Workspace, settings: Settings) -> None:
    small = settings.with_values({"data.channels": 1})
    large = settings.with_values({"data.height_px": 32, "data.width_px": 32, "training.seed": 1})
    run_register(noise, run_train(noise, "noise", large), large)
    gate = run_register(noise, run_train(noise, "noise", small), small).gate
    assert gate is not None
    assert gate.comparison is not None
    assert gate.reason.endswith(
        "Images of 32×32 with 3 channels and 16×16 with 1 channel are compared at 32×32 with 3 channels."
    )


def test_a_champion_that_cannot_be_read_leaves_it_undecided(noise: Workspace, settings: Settings) -> None:
    first, second = run_of_seeds(noise, 2)
    first = run_register(noise, first, settings)
    source = ModelRegistry(noise).find_model("champion", None).source
    for folder in (Path(source.removeprefix("file://")), run_folder(noise, first.run_id) / "model"):
        (folder / "generator.safetensors").write_bytes(b"x")
    gate = run_register(noise, second, settings).gate
    assert gate is not None
    assert (gate.outcome, "generator.safetensors is missing or damaged" in gate.reason) == (UNDECIDED, True)


@pytest.mark.slow
def test_a_challenger_is_compared_on_the_newest_images(
    noise: Workspace, settings: Settings, tmp_path: Path
) -> None:
    run_register(noise, *run_of_seeds(noise, 1), settings)
    datasets.add_dataset(noise, str(fill_folder(tmp_path / "more", 160)), "noise", settings.data)
    gate = run_register(noise, run_train(noise, "noise", settings), settings).gate
    assert gate is not None
    assert gate.comparison is not None
    assert gate.comparison.holdout > 9


def test_runs_models_and_folders_are_compared(noise: Workspace, settings: Settings, tmp_path: Path) -> None:
    first, second = run_of_seeds(noise, 2)
    run_register(noise, first, settings)
    run_register(noise, second, settings)
    folder = fill_folder(tmp_path / "any where", 20)

    found = compare(noise, ("noise/1", "noise/2"), None, settings)
    assert (found.a.name, found.b.name, found.dataset) == ("noise/1", "noise/2", "noise")
    assert found.gate.comparison is not None
    assert found.gate.comparison.images == 24
    assert found.a.evaluation.metrics.keys() == found.b.evaluation.metrics.keys()
    with Image.open(found.sheet) as sheet:
        assert sheet.width > 2.5 * sheet.height
    back = compare(noise, (second.run_id, f"{NAME}/1"), "noise", settings).gate.comparison
    assert back is not None
    assert back.energy.value == pytest.approx(-found.gate.comparison.energy.value)
    other = compare(noise, ("champion", str(folder)), "noise", settings)
    assert (other.b.name, other.gate.challenger) == ("any where", "any where")
    assert other.gate.comparison is not None
    assert other.gate.comparison.images == 20, "as many of the model as the folder has"
    same = compare(noise, (str(folder), str(folder)), "noise", settings)
    assert same.gate.reason == "Both make the same images, bit for bit."
    with pytest.raises(GanpipeError, match=r"no model nothing.*no run and no folder"):
        compare(noise, ("champion", "nothing"), None, settings)
    with pytest.raises(GanpipeError, match="has 3 images; evaluation needs at least 8"):
        compare(noise, ("champion", str(fill_folder(tmp_path / "few", 3))), None, settings)


def test_a_run_that_is_not_registered_is_compared_too(noise: Workspace, settings: Settings) -> None:
    first, second = run_of_seeds(noise, 2)
    found = compare(noise, (first.run_id, second.run_id[:10] + second.run_id[10:]), None, settings)
    assert found.gate.challenger == second.run_id
    judged = run_evaluate(noise, first, settings)
    assert judged.evaluation.verdict == found.a.evaluation.verdict
