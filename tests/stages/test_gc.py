"""`ganpipe gc`: what is needed stays, what is not goes, whatever kills it in between."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ganpipe.cli import main
from ganpipe.compute.locks import Busy
from ganpipe.compute.process_identity import this_process
from ganpipe.data.prepare import preparation_key
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.verdict import Evaluation, Metric
from ganpipe.imaging.image import ImageShape
from ganpipe.services.recovery import find_unsettled, recover
from ganpipe.settings.schema import Settings
from ganpipe.stages import gc, generate, promote, train
from ganpipe.stores import dataset_versions, datasets
from ganpipe.stores.dataset_shards import load_dataset, open_version_at
from ganpipe.stores.dvc_cache import AbsentVersion, DatasetCache
from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.outbox import Outbox
from ganpipe.stores.run_records import RunRecord, load_record, run_folder, save_record
from ganpipe.stores.workspace import Workspace
from ganpipe.training.trainer import train as train_model
from tests.conftest import Killed, activated, copied, noise_data, with_


def test_snapshots_of_averages_go_with_the_checkpoints(settings: Settings, tmp_path: Path) -> None:
    train_model(noise_data(), with_(settings, training__ema_snapshots=4), tmp_path)
    gc.delete_all_checkpoints(tmp_path / "checkpoints")
    assert [path for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()] == []


def registered(workspace: Workspace, settings: Settings, verdict: str = "fair") -> RunRecord:
    """A finished, evaluated and registered run on the dataset as it is now."""
    version = dataset_versions.open_version(workspace, "noise", settings.data)
    record = train.train_model(workspace, version, settings)
    evaluation = Evaluation({"kd": Metric(1.0, "test", 10)}, verdict)
    record = save_record(workspace, replace(record, evaluation=evaluation))
    Outbox(workspace, record).evaluation()
    return promote.register_model(
        workspace, record, evaluation, version, with_(settings, evaluation__promote="never")
    )


@dataclass
class Lived:
    """A workspace with runs on two versions: `old` on the first, `champion` and `last` on the second."""

    place: Workspace
    settings: Settings
    old: RunRecord
    champion: RunRecord
    last: RunRecord

    def plan(self) -> gc.Plan:
        return gc.plan_removals(self.place, self.settings)

    def checkpoints(self, record: RunRecord) -> list[Path]:
        return list((run_folder(self.place, record.run_id) / "checkpoints").rglob("*.pt"))


@pytest.fixture(scope="session")
def lived_template(
    tmp_path_factory: pytest.TempPathFactory, prepared_noise: Path, mlflow_database: Path, settings: Settings
) -> Path:
    folder = tmp_path_factory.mktemp("lived")
    shutil.copytree(prepared_noise, folder, dirs_exist_ok=True)
    with activated(folder / "workspace") as place:
        shutil.copy(mlflow_database, place.state / "mlflow.db")
        registered(place, settings)
        datasets.remove_from_dataset(place, "noise", ["00[0-9].png"], settings.data)
        champion = registered(place, with_(settings, training__seed=1))
        promote.promote_run(place, champion)
        registered(place, with_(settings, training__seed=2))
        registered(place, with_(settings, training__seed=3))
    return folder


@pytest.fixture
def lived(workspace: Workspace, lived_template: Path, settings: Settings) -> Lived:
    copied(lived_template, workspace)
    recover(workspace)  # the workspace has moved
    by_seed = {}
    for folder in workspace.runs.iterdir():
        record = load_record(workspace, folder.name)
        assert record is not None
        by_seed[record.settings["training"]["seed"]] = record
    keep = with_(settings, gc__keep_runs=1, gc__keep_champions=0)
    return Lived(workspace, keep, by_seed[0], by_seed[1], by_seed[3])


@pytest.mark.slow
def test_the_plan_is_what_is_deleted_and_the_dry_run_deletes_nothing(
    lived: Lived, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["gc", "--workspace", str(lived.place.root), "--json", "--set", "gc.keep_runs=1"]
    words += ["--set", "gc.keep_champions=0"]
    words += [w for key in ("height_px", "width_px") for w in ("--set", f"data.{key}=16")]

    def files() -> set[Path]:
        return {p for p in lived.place.root.rglob("*") if p.is_file() and "locks" not in p.parts}

    before = files()
    assert main([*words, "--dry-run"]) == 0
    dry = json.loads(capsys.readouterr().out)
    assert files() == before
    assert main(words) == 0
    done = json.loads(capsys.readouterr().out)
    assert (dry["dry_run"], done["dry_run"]) == (True, False)
    assert done["items"] == dry["items"]
    assert done["bytes"] == dry["bytes"] > 0
    gone = before - files()
    kinds = {"checkpoints", "features", "images", "shards"}
    assert {kind for kind, size in done["kinds"].items() if size} == kinds
    assert gone
    assert all({"checkpoints", "cache", "features", "prepared"} & set(path.parts) for path in gone), gone
    assert main([*words, "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == []


def test_features_of_datasets_as_they_are_prepared_now_stay(lived: Lived) -> None:
    prepared = lived.place.state / "prepared"
    key = preparation_key("noise", lived.settings.data)
    kept, other = (prepared / name / "features/a.npz" for name in (key, "noise-99x99-00000000"))
    for file in (kept, other):
        file.parent.mkdir(parents=True)
        file.touch()
    assert list(lived.place.features.glob("*.npz"))
    gc.collect(lived.place, lived.settings)
    assert kept.exists()
    assert not other.exists()
    assert not list(lived.place.features.glob("*.npz"))


def test_checkpoints_of_champions_the_last_runs_and_what_is_not_finished_stay(lived: Lived) -> None:
    place = lived.place
    interrupted = next(
        r
        for f in place.runs.iterdir()
        if (r := load_record(place, f.name)) and r.settings["training"]["seed"] == 2
    )
    save_record(place, replace(interrupted, state="interrupted"))
    save_record(place, lived.last)  # it stays the latest
    gc.collect(place, lived.settings)
    assert not lived.checkpoints(lived.old)
    for record in (lived.champion, lived.last, interrupted):
        assert len(lived.checkpoints(record)) == 2, record.settings["training"]["seed"]
    assert generate.load_model(place, lived.old.run_id, None).reference.version == "1"


def test_an_earlier_champion_and_the_parent_of_a_kept_run_stay(lived: Lived, settings: Settings) -> None:
    place = lived.place
    promote.promote_run(place, lived.old)  # the champion before is one of those that are kept now
    gc.collect(place, with_(lived.settings, gc__keep_runs=0, gc__keep_champions=1))
    assert lived.checkpoints(lived.champion)
    assert lived.checkpoints(lived.old)
    promote.roll_back(place, "noise")
    promote.promote_run(place, lived.last)
    save_record(place, replace(lived.last, continues=lived.champion.run_id))
    plan = gc.plan_removals(place, with_(lived.settings, gc__keep_runs=0, gc__keep_champions=0))
    names = [r.what for r in plan.removals if r.kind == "checkpoints"]
    assert lived.champion.run_id not in names
    assert lived.old.run_id in names


def test_images_of_a_version_that_nobody_keeps_go_and_the_anchor_stays(lived: Lived) -> None:
    place, cache = lived.place, DatasetCache(lived.place)
    listing = cache.listing(lived.old.version)
    kept = set(cache.listing(lived.champion.version).files.values())
    only_old = [md5 for file, md5 in listing.files.items() if md5 not in kept and file != "manifest.jsonl"]
    assert len(only_old) == 10
    gc.collect(place, lived.settings)
    assert not any(cache.path(md5).exists() for md5 in only_old)
    assert all(cache.path(md5).exists() for md5 in kept)
    assert cache.listing(lived.old.version).records == listing.records
    version = open_version_at(place, "noise", lived.champion.version, lived.settings.data)
    data = load_dataset(place, version, lived.settings.data)
    assert data.first_holdout_keys
    with pytest.raises(AbsentVersion):
        cache.bring(lived.old.version)


def test_what_somebody_else_has_in_dvcs_cache_stays(lived: Lived) -> None:
    place, cache = lived.place, DatasetCache(lived.place)
    files = cache.listing(lived.old.version).files
    kept = set(cache.listing(lived.champion.version).files.values())
    only_old = [md5 for file, md5 in sorted(files.items()) if md5 not in kept and file != "manifest.jsonl"]
    (place.root / "photo.png.dvc").write_text(
        f"outs:\n- md5: {only_old[0]}\n  hash: md5\n  path: photo.png\n"
    )
    foreign = cache.path("ab" * 16 + ".dir")
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text(json.dumps([{"relpath": "photos/a.png", "md5": only_old[1]}]))
    gc.collect(place, lived.settings)
    assert [cache.path(md5).exists() for md5 in only_old] == [True, True, *[False] * 8]
    assert foreign.exists()


def test_a_cache_outside_the_workspace_is_left_alone(lived: Lived, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shutil.move(lived.place.root / ".dvc/cache", shared)
    with (lived.place.root / ".dvc/config").open("a") as file:
        file.write(f"[cache]\n    dir = {shared}\n")
    assert [r.what for r in lived.plan().removals if r.kind == "images"] == []


def test_nothing_of_the_cache_goes_if_a_kept_version_is_not_whole(lived: Lived) -> None:
    DatasetCache(lived.place).path(lived.champion.version).unlink()
    plan = lived.plan()
    assert not [r for r in plan.removals if r.kind == "images"]
    assert "DVC's cache is left alone" in plan.notes[0]


@pytest.mark.slow
def test_shards_of_other_settings_go_and_those_of_a_run_at_work_stay(lived: Lived) -> None:
    place, larger = lived.place, with_(lived.settings, data__height_px=32, data__width_px=32)
    version = dataset_versions.open_version(place, "noise", larger.data)
    load_dataset(place, version, larger.data)
    at_work = replace(
        lived.last, run_id="noise-atwork", settings=larger.as_dict(), state="running", process=this_process()
    )
    save_record(place, at_work)
    assert not [r for r in lived.plan().removals if "32x32" in r.what]
    before = {r.what for r in lived.plan().removals}
    shutil.rmtree(run_folder(place, "noise-atwork"))
    found = [r for r in lived.plan().removals if r.what not in before]
    assert {r.kind for r in found} == {"shards"}
    assert [("32x32" in r.what, "DVC's cache" in r.what) for r in found] == [
        (True, False),
        (True, False),
        (False, True),
    ]
    gc.collect(place, lived.settings)
    assert not list(place.root.rglob("*32x32*/*.npy"))
    assert load_dataset(place, version, larger.data).shape == ImageShape(3, 32, 32), "they are made again"


def test_a_run_that_was_deleted_in_mlflow_goes_for_good_unless_its_model_is_registered(lived: Lived) -> None:
    tracker = Tracker(lived.place)
    run = tracker.client.create_run(tracker.experiment("noise"), tags={"ganpipe.run": "noise-x"}).info
    foreign = tracker.client.create_run(tracker.experiment("noise")).info
    note = lived.place.root / "note.txt"
    note.write_text("x" * 1000)
    for info in (run, foreign):
        tracker.client.log_artifact(info.run_id, str(note))
    for run_id in (run.run_id, foreign.run_id, str(lived.old.mlflow_run_id)):
        tracker.client.delete_run(run_id)
    (found,) = [r for r in lived.plan().removals if r.kind == "mlflow"]
    assert (found.what, found.bytes) == ("1 deleted run(s)", 1000)
    found.delete()
    assert not [r for r in lived.plan().removals if r.kind == "mlflow"]
    assert not Path(run.artifact_uri.removeprefix("file://")).exists()
    assert Path(foreign.artifact_uri.removeprefix("file://"), "note.txt").exists()
    assert tracker.client.get_run(str(lived.old.mlflow_run_id)).info.lifecycle_stage == "deleted"


@pytest.mark.parametrize("after", [0, 1, 3, 8])
def test_a_kill_leaves_a_sound_workspace_and_the_next_one_deletes_the_rest(
    lived: Lived, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    unlink: Callable[..., None] = Path.unlink
    left = [after]

    def kill(path: Path, missing_ok: bool = False) -> None:
        if ".pt" in path.name or ".json" in path.name or "md5" in path.parts:
            if not left[0]:
                raise Killed
            left[0] -= 1
        unlink(path, missing_ok)

    before = lived.plan()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", kill)
        with pytest.raises(Killed):
            gc.collect(lived.place, lived.settings)
    recover(lived.place, prefect=False)
    assert find_unsettled(lived.place, prefect=False) == []
    rest = gc.collect(lived.place, lived.settings)
    assert {r.what for r in rest.removals} <= {r.what for r in before.removals}
    assert lived.plan().removals == []
    assert not lived.checkpoints(lived.old)


def test_a_training_in_progress_is_waited_for_and_a_damaged_record_deletes_nothing(lived: Lived) -> None:
    with lived.place.lock("training"), pytest.raises(Busy):
        gc.collect(lived.place, lived.settings)
    assert lived.checkpoints(lived.old)
    (run_folder(lived.place, lived.last.run_id) / "run.json").write_text("{")
    with pytest.raises(GanpipeError, match="ganpipe doctor --fix"):
        gc.collect(lived.place, lived.settings)
    assert lived.checkpoints(lived.old)
