"""A training that starts from the champion, a run or a file: which one is pinned, and the same request finds the same run."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from ganpipe.errors import GanpipeError
from ganpipe.evaluation.drift import Drift
from ganpipe.files import sha256_of
from ganpipe.settings.schema import Settings
from ganpipe.stages import reproduce, train
from ganpipe.stages.lineage import trace_lineage
from ganpipe.stages.promote import promote_run
from ganpipe.stages.requests import RunRequest
from ganpipe.stages.restore import restore_record
from ganpipe.stores import datasets
from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.model_registry import ModelRegistry
from ganpipe.stores.run_records import RECORD, RunRecord, all_records, run_folder
from ganpipe.stores.workspace import Workspace
from tests.conftest import TINY, Killed, copied, fill_folder, with_
from tests.stages.test_stages import run_train, with_runs


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, prepared_noise: Path, mlflow_database: Path, settings: Settings
) -> Path:
    """The dataset `noise` and two runs on it, with the seeds 0 and 1."""
    runs = [settings.with_values({"training.seed": k}) for k in range(2)]
    return with_runs(tmp_path_factory.mktemp("trained"), prepared_noise, mlflow_database, *runs)


@pytest.fixture
def noise(workspace: Workspace, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(train, "find_drift", lambda *_: None)  # VGG19 takes longer than these trainings
    return copied(trained, workspace)


def make_champion(workspace: Workspace, seed: int) -> RunRecord:
    """Promotes the run of this seed by hand."""
    record = next(r for r in all_records(workspace) if r.resolved().training.seed == seed)
    ModelRegistry(workspace).register(record, run_folder(workspace, record.run_id) / "model")
    promote_run(workspace, record, force=True)
    return record


def warm(settings: Settings, **values: object) -> Settings:
    return with_(settings, training__start_from="champion", training__seed=7, **values)


def test_a_run_starts_from_the_champion_and_says_so(
    noise: Workspace, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    champion = make_champion(noise, 0)
    with caplog.at_level(logging.WARNING, "ganpipe"):
        record = run_train(noise, "noise", warm(settings))
    assert f"Run {record.run_id} starts from run {champion.run_id}, the champion of noise." in caplog.text
    assert record.starts_from is not None
    assert (record.starts_from.run, record.starts_from.nimg) == (champion.run_id, 64)
    assert record.origin()["starts_from"] == champion.run_id
    assert record.train is not None
    assert record.train.notes[0].startswith(f"It starts from run {champion.run_id} at 64 images: ")
    assert record.fingerprint not in {r.fingerprint for r in all_records(noise) if r.run_id != record.run_id}
    path = run_folder(noise, record.run_id) / RECORD
    path.write_text("damaged")
    assert restore_record(noise, record.run_id).starts_from == record.starts_from


def test_the_same_request_is_up_to_date_whoever_is_champion_later(
    noise: Workspace, settings: Settings
) -> None:
    make_champion(noise, 0)
    first = run_train(noise, "noise", warm(settings))
    make_champion(noise, 7)
    assert run_train(noise, "noise", warm(settings)) == all_records(noise)[-1]
    assert len([r for r in all_records(noise) if r.starts_from]) == 1
    other = run_train(noise, "noise", warm(settings, training__d_lr=1e-4))
    assert other.starts_from is not None
    assert other.starts_from.run == first.run_id, "a new request takes the new champion"


def test_an_interrupted_run_resumes_from_the_champion_that_it_began_with(
    noise: Workspace, settings: Settings
) -> None:
    first = make_champion(noise, 0)

    def kill(progress: object) -> None:
        if getattr(progress, "done", 0) >= 40:
            raise Killed

    with pytest.raises(Killed):
        run_train(noise, "noise", warm(settings), kill)
    make_champion(noise, 1)
    shutil.rmtree(
        run_folder(noise, first.run_id) / "checkpoints"
    )  # nor are the old champion's needed any more
    record = run_train(noise, "noise", warm(settings))
    assert record.starts_from is not None
    assert record.starts_from.run == first.run_id
    assert reproduce.reproduce(noise, record)["identical"]
    shutil.rmtree(run_folder(noise, record.run_id) / "start")
    with pytest.raises(GanpipeError, match="which are no longer in"):
        reproduce.reproduce(noise, record)


def test_without_a_champion_or_its_checkpoint_it_starts_from_scratch_and_says_why(
    noise: Workspace, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    record = run_train(noise, "noise", warm(settings))
    assert record.starts_from is None
    assert "noise has no champion yet. Training starts from scratch." in caplog.text
    champion = make_champion(noise, 0)
    shutil.rmtree(run_folder(noise, champion.run_id) / "checkpoints")
    assert run_train(noise, "noise", warm(settings, training__d_lr=1e-4)).starts_from is None
    assert f"run {champion.run_id}, which made ganpipe-noise v1, has no checkpoint any more." in caplog.text


def test_fresh_layers_are_not_to_be_frozen(settings: Settings) -> None:
    with pytest.raises(GanpipeError, match=r"start_from is scratch: fresh layers must learn"):
        train.check_request(with_(settings, training__freeze_d_layers=1))


def asked(workspace: Workspace, start_from: str, *overrides: str) -> Settings:
    """The settings of a command with this start, on the dataset `noise`."""
    tiny = [f"{key}={value}" for key, value in TINY.items()]
    given = [*tiny, "training.seed=7", f"training.start_from={start_from}", *overrides]
    return RunRequest(str(workspace.root), "noise", "demo", given).settings()


def generator_of(workspace: Workspace, seed: int, folder: str) -> RunRecord:
    """The run of this seed; its generator's files are copied into a folder of the workspace."""
    record = next(r for r in all_records(workspace) if r.resolved().training.seed == seed)
    shutil.copytree(
        run_folder(workspace, record.run_id) / "model", workspace.root / folder, dirs_exist_ok=True
    )
    return record


def test_a_run_starts_from_a_run_that_is_no_champion(noise: Workspace, settings: Settings) -> None:
    source = next(r for r in all_records(noise) if r.resolved().training.seed == 1)
    by_name, by_mlflow = (asked(noise, name) for name in (source.run_id, str(source.mlflow_run_id)))
    assert by_name == by_mlflow, "one run, one fingerprint"
    record = run_train(noise, "noise", by_name)
    assert record.starts_from is not None
    assert (record.starts_from.run, record.starts_from.nimg) == (source.run_id, 64)
    assert record.parent == source.run_id
    shutil.rmtree(run_folder(noise, source.run_id) / "checkpoints")
    assert run_train(noise, "noise", by_name).run_id == record.run_id, "it is finished"
    with pytest.raises(GanpipeError, match=f"run {source.run_id}, .* has no checkpoint any more"):
        run_train(noise, "noise", asked(noise, source.run_id, "training.d_lr=1e-4"))


def test_a_run_starts_from_a_generators_folder_and_its_file_decides_the_fingerprint(
    noise: Workspace, settings: Settings
) -> None:
    generator_of(noise, 0, "own")
    record = run_train(noise, "noise", asked(noise, "own"))
    assert record.starts_from is not None
    sha256 = sha256_of(noise.root / "own" / "generator.safetensors")
    assert record.starts_from.reference == f"generator.safetensors@sha256:{sha256}"
    assert record.origin()["starts_from"] == record.starts_from.reference
    assert record.train is not None
    assert record.train.notes[0].startswith("It starts from generator.safetensors (SHA-256 ")
    [link] = [step for step in trace_lineage(noise, record.run_id).chain if step.kind == "run"]
    assert f"starts from generator.safetensors@sha256:{sha256}" in link.about

    shutil.copytree(noise.root / "own", noise.root / "moved")
    assert run_train(noise, "noise", asked(noise, "moved/generator.safetensors")).run_id == record.run_id
    generator_of(noise, 1, "own")
    assert run_train(noise, "noise", asked(noise, "own")).run_id != record.run_id, "other contents"
    shutil.rmtree(noise.root / "moved")
    assert reproduce.reproduce(noise, record)["identical"], "from what its own folder keeps"
    (run_folder(noise, record.run_id) / RECORD).write_text("damaged")
    assert restore_record(noise, record.run_id).starts_from == record.starts_from


def test_a_file_that_changed_since_it_was_named_is_refused(noise: Workspace) -> None:
    generator_of(noise, 0, "own")
    named = asked(noise, "own")
    generator_of(noise, 1, "own")
    with pytest.raises(GanpipeError, match="it has changed"):
        run_train(noise, "noise", named)
    assert len(all_records(noise)) == 2, "no run has begun"


@pytest.mark.parametrize(
    ("start_from", "why"),
    [
        (
            "nowhere",
            r"is 'nowhere', and there is neither a run of this name nor a file .*/nowhere; name a run",
        ),
        ("own", r"nor a file .*/own/generator\.safetensors"),
        ("weights.pt", r"is 'weights\.pt'; it must be a \.safetensors file"),
    ],
)
def test_a_start_that_is_not_there_is_refused_before_anything_begins(
    workspace: Workspace, start_from: str, why: str
) -> None:
    (workspace.root / "own").mkdir()
    (workspace.root / "weights.pt").write_bytes(b"pickle")
    with pytest.raises(GanpipeError, match=why):
        asked(workspace, start_from)


@pytest.mark.slow
def test_a_run_on_changed_data_tells_how_much_they_changed(
    workspace: Workspace, trained: Path, settings: Settings, tmp_path: Path
) -> None:
    copied(trained, workspace)
    before = all_records(workspace)[0].version
    more = fill_folder(tmp_path / "more", 110)  # 20 of them are new
    datasets.add_dataset(workspace, str(more), "noise", settings.data)
    record = run_train(workspace, "noise", settings)
    assert isinstance(record.drift, Drift)
    assert record.drift.before == before
    assert not record.drift.changed, "noise was added to noise"
    assert sum(record.drift.images) <= 110
    assert record.train is not None
    assert record.train.notes[0].startswith("The data hardly changed (energy distance ")
    run = Tracker(workspace).client.get_run(str(record.mlflow_run_id))
    assert "The data hardly changed" in run.data.tags["ganpipe.notes"]
