"""The stages with the real DVC and MLflow: versions, resumption under one id, registration, the way back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from ganpipe.errors import GanpipeError
from ganpipe.evaluation import feature_cache
from ganpipe.evaluation.extractors import Extracted, Network, extract
from ganpipe.evaluation.verdict import Evaluation, Metric
from ganpipe.files import write_json
from ganpipe.imaging.provenance import read_origin
from ganpipe.progress import Progress
from ganpipe.settings.schema import Settings
from ganpipe.stages import evaluate, generate, promote, reproduce, train
from ganpipe.stages.compare import compare
from ganpipe.stages.requests import RunRequest
from ganpipe.stages.restore import restore_in_mlflow
from ganpipe.stages.run import cancelled_training, find_up_to_date
from ganpipe.stages.run_details import run_details
from ganpipe.stages.status import workspace_status
from ganpipe.stores import dataset_versions, datasets
from ganpipe.stores.code import read_code
from ganpipe.stores.dataset_summaries import dataset_names, records_at
from ganpipe.stores.dvc import dvc
from ganpipe.stores.fingerprint import train_fingerprint
from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.run_records import (
    RunRecord,
    all_records,
    find_record,
    load_record,
    run_folder,
    save_record,
)
from ganpipe.stores.workspace import Workspace
from tests.conftest import activated, copied, fill_folder, noise_image
from tests.training.test_divergence import break_at


def run_train(workspace: Workspace, name: str, settings: Settings, *rest: Any, **options: Any) -> RunRecord:
    """Trains on the dataset as it is now."""
    version = dataset_versions.open_version(workspace, name, settings.data)
    return train.train_model(workspace, version, settings, *rest, **options)


def with_runs(folder: Path, prepared_noise: Path, database: Path, *runs: Settings) -> Path:
    """In `folder`: the dataset `noise`, and a run on it for each of the settings."""
    shutil.copytree(prepared_noise, folder, dirs_exist_ok=True)
    with activated(folder / "workspace") as place:
        shutil.copy(database, place.state / "mlflow.db")
        for settings in runs:
            run_train(place, "noise", settings)
    return folder


def run_evaluate(workspace: Workspace, record: RunRecord, settings: Settings) -> evaluate.Judged:
    """Evaluates on the dataset as it is now."""
    version = dataset_versions.open_version(workspace, record.dataset, record.resolved().data)
    return evaluate.evaluate_run(workspace, record, version, settings)


@pytest.fixture
def noise(migrated: Workspace, prepared_noise: Path) -> Workspace:
    """A workspace with the dataset `noise`: 90 images, prepared, and with an empty MLflow."""
    return copied(prepared_noise, migrated)


def test_the_version_is_dvcs_own_hash_and_follows_the_bytes(
    noise: Workspace, settings: Settings, tmp_path: Path
) -> None:
    first = dataset_versions.open_version(noise, "noise", settings.data)
    pointer = yaml.safe_load((noise.root / "data/raw/noise.dvc").read_text())
    assert first.version == pointer["outs"][0]["md5"]
    assert first.version.endswith(".dir")
    assert "up to date" in dvc(noise, "status", "data/raw/noise.dvc")

    again = datasets.add_dataset(noise, str(tmp_path / "in"), "noise", settings.data)
    assert (again.version, again.accepted, again.duplicates) == (first.version, 0, 90)
    more = datasets.add_dataset(noise, str(fill_folder(tmp_path / "in", 91)), "noise", settings.data)
    assert (more.accepted, more.version != first.version) == (1, True)

    old = records_at(noise, f"noise@{first.version}")
    now = records_at(noise, "noise")
    assert (len(old), len(now)) == (90, 91)


@pytest.mark.slow
def test_preparing_is_a_dvc_stage_and_is_done_once(
    workspace: Workspace, added_noise: Path, settings: Settings
) -> None:
    noise = copied(added_noise, workspace)
    out = datasets.prepare_dataset(noise, "noise", settings.data)
    written = (out / "meta.json").stat().st_mtime_ns
    assert f"prepare@{out.name}" in (noise.root / "dvc.lock").read_text()
    assert "up to date" in dvc(noise, "status", f"prepare@{out.name}")
    datasets.prepare_dataset(noise, "noise", settings.data)
    assert (out / "meta.json").stat().st_mtime_ns == written
    larger = settings.with_values({"data.height_px": 32, "data.width_px": 32})
    beside = datasets.prepare_dataset(noise, "noise", larger.data)
    assert json.loads((beside / "meta.json").read_text())["settings"]["height_px"] == 32
    assert (out / "meta.json").stat().st_mtime_ns == written, (
        "two resolutions of one raw set lie side by side"
    )


def test_a_data_set_comes_back_from_its_pointer(noise: Workspace, settings: Settings) -> None:
    """As in a fresh clone: the pointer is there, the images are in DVC's cache."""
    import shutil

    version = dataset_versions.open_version(noise, "noise", settings.data).version
    shutil.rmtree(noise.raw("noise"))
    shutil.rmtree(noise.state / "versions")
    info = dataset_versions.open_version(noise, "noise", settings.data)
    assert (info.version, info.images) == (version, 90)
    assert datasets.verify_dataset(noise, "noise", settings.data) == datasets.VerifyResult([], [])


def test_unknown_data_sets_and_bad_names_are_one_sentence(noise: Workspace, settings: Settings) -> None:
    with pytest.raises(GanpipeError, match=r"no dataset cats \(there are: noise\)"):
        dataset_versions.open_version(noise, "cats", settings.data)
    with pytest.raises(GanpipeError, match="cannot name a dataset"):
        datasets.add_dataset(noise, "/tmp", "../evil", settings.data)


def test_an_interrupted_training_goes_on_under_the_same_mlflow_run_with_one_curve(
    noise: Workspace, settings: Settings
) -> None:
    class Killed(BaseException):
        pass

    def kill(p: Progress) -> None:
        if p.stage == "train" and p.done >= 48:
            raise Killed

    with pytest.raises(Killed):
        run_train(noise, "noise", settings, kill)
    tracker = Tracker(noise)
    record = run_train(noise, "noise", settings)
    experiment = tracker.experiment("noise")
    runs = tracker.client.search_runs([experiment])
    assert [r.info.run_id for r in runs] == [record.mlflow_run_id]
    assert runs[0].info.status == "FINISHED"
    curve = tracker.client.get_metric_history(str(record.mlflow_run_id), "loss_g")
    assert [m.step for m in curve] == [16, 32, 48, 64]
    assert runs[0].data.params["training.batch_images"] == "8"
    assert runs[0].inputs.dataset_inputs[0].dataset.digest == record.version
    assert tracker.logged_grids(str(record.mlflow_run_id)) == [32, 64]


def test_a_vae_is_generated_from_compared_and_its_reconstructions_are_in_mlflow_even_when_logged_again(
    noise: Workspace, settings: Settings, tmp_path: Path
) -> None:
    vae = run_train(noise, "noise", settings.with_values({"model.name": "vae"}))
    gan = run_train(noise, "noise", settings)
    found = compare(noise, (vae.run_id, gan.run_id), None, settings)
    assert (found.a.title, found.b.title) == (f"{vae.run_id} (vae)", f"{gan.run_id} (dcgan)")
    assert Path(found.sheet).exists()
    model = generate.load_run_model(noise, vae)
    assert len(generate.generate_images(model, 3, 0, tmp_path / "drawn")) == 3
    tracker = Tracker(noise)
    for again in (False, True):
        if again:
            tracker.client.delete_run(str(vae.mlflow_run_id))
            vae = restore_in_mlflow(noise, vae)
        run_id = str(vae.mlflow_run_id)
        assert tracker.logged_grids(run_id) == [32, 64]
        assert tracker.logged_grids(run_id, "reconstructions") == [32, 64]
        curve = tracker.client.get_metric_history(run_id, "kl")
        assert [point.step for point in curve] == [16, 32, 48, 64]
    details = run_details(noise, vae.run_id)
    assert [picture.path.parent.name for picture in details.reconstructions] == ["reconstructions"] * 2
    assert run_details(noise, gan.run_id).reconstructions == []


def test_a_signal_before_the_first_step_interrupts_and_an_error_fails(
    noise: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect turns a signal into an exception of its own, which may come while the dataset's page is written."""

    class Terminated(BaseException):
        pass

    for error, state in ((Terminated(), "interrupted"), (GanpipeError("No room."), "failed")):

        def stop(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(train, "write_page", stop)
        with pytest.raises(type(error)):
            run_train(noise, "noise", settings)
        (record,) = all_records(noise)
        assert record.state == state
        assert record.ended_at


def test_a_finished_training_is_not_repeated_and_changed_settings_are(
    noise: Workspace, settings: Settings
) -> None:
    first = run_train(noise, "noise", settings)

    def never(p: Progress) -> None:
        raise AssertionError(p)

    assert run_train(noise, "noise", settings, never) == first
    other = settings.with_values({"training.seed": 1})
    second = run_train(noise, "noise", other)
    assert second.fingerprint != first.fingerprint
    assert second.train is not None
    assert first.train is not None
    assert second.train.weights_sha256 != first.train.weights_sha256


def test_a_run_is_reproduced_bit_for_bit(noise: Workspace, settings: Settings) -> None:
    record = run_train(noise, "noise", settings)
    assert reproduce.reproduce(noise, record)["identical"] is True


def test_a_run_that_cannot_be_reproduced_names_what_changed_and_the_commands_that_bring_it_back(
    noise: Workspace, settings: Settings
) -> None:
    now = run_train(noise, "noise", settings)
    folder = run_folder(noise, now.run_id)
    assert {"code.json"} <= {
        Path(f.path).name for f in Tracker(noise).client.list_artifacts(now.mlflow_run_id, "code")
    }
    code = read_code(folder)
    assert code is not None
    write_json(
        folder / "code.json", replace(code, commit="c0ffee", files=code.files | {"training/gan.py": "0"})
    )
    older = {name: "1.0" if name in ("torch", "python") else v for name, v in now.environment.items()}
    record = replace(now, source_sha256="0", environment=older, compute=["cuda", "bf16"])
    with pytest.raises(GanpipeError) as caught:
        reproduce.reproduce(noise, record)
    said = str(caught.value)
    assert "in ganpipe's source training/gan.py (changed); python 1.0 then," in said
    assert (
        f"torch 1.0 then, {now.environment['torch']} now; it was trained on cuda bf16, and this is cpu fp32."
        in said
    )
    assert " checkout c0ffee" in said
    assert said.endswith("&& pip install torch==1.0")
    assert now.source_sha256 not in said
    (folder / "code.json").unlink()
    with pytest.raises(GanpipeError, match="from before ganpipe recorded its commit"):
        reproduce.reproduce(noise, replace(now, source_sha256="0"))


def test_evaluation_and_style_do_not_change_what_is_trained(settings: Settings) -> None:
    compute = ("cpu", "fp32")
    base = train_fingerprint("v", settings, compute)
    assert (
        train_fingerprint("v", settings.with_values({"style.steps": 9, "evaluation.seed": 4}), compute)
        == base
    )
    for changed in (
        {"training.seed": 9},
        {"augment.mode": "fixed"},
        {"loss.gamma": 2.0},
        {"data.fit": "pad"},
        {"model.z_dim": 9},
    ):
        assert train_fingerprint("v", settings.with_values(changed), compute) != base
    assert train_fingerprint("w", settings, compute) != base


def run_register(
    workspace: Workspace, record: RunRecord, settings: Settings, verdict: str = "fair"
) -> RunRecord:
    """Registers the model of a run that has this verdict."""
    version = dataset_versions.open_version(workspace, record.dataset, record.resolved().data)
    evaluation = Evaluation({"kd": Metric(1.0, "test", 10)}, verdict)
    record = save_record(workspace, replace(record, evaluation=evaluation))
    return promote.register_model(workspace, record, evaluation, version, settings)


def test_a_registered_model_draws_the_same_images_for_the_same_seed(
    noise: Workspace, settings: Settings, tmp_path: Path
) -> None:
    record = run_register(noise, run_train(noise, "noise", settings), settings)
    model = generate.load_model(noise, "champion", None)
    some = generate.generate_images(model, 3, 7, tmp_path / "some")
    more = generate.generate_images(model, 70, 7, tmp_path / "more")
    assert [p.read_bytes() for p in some] == [p.read_bytes() for p in more[:3]]
    assert len({p.read_bytes() for p in more}) == 70
    origin = read_origin(some[0])
    assert (origin["run"], origin["seed"], origin["dataset"]["version"]) == (record.run_id, 7, record.version)
    assert generate.interpolation_frames(model, 3, 4, 0).shape == (12, 16, 16, 3)
    again = generate.generate_images(model, 4, 7, tmp_path / "some")
    assert again[:3] == some, "the same images keep their files"
    other = replace(model, reference=replace(model.reference, version="2"))
    theirs = generate.generate_images(other, 3, 7, tmp_path / "some")
    assert not set(theirs) & set(again)
    assert len(list((tmp_path / "some").iterdir())) == 7
    typical = generate.generate_images(model, 3, 7, tmp_path / "some", truncation=0.5)
    assert [p.name for p in typical] == [f"seed0007-psi0.5-0000{k}.png" for k in range(3)]
    assert read_origin(typical[0])["truncation"] == 0.5
    assert "truncation" not in origin
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(typical, some, strict=True))
    walks = [generate.interpolation_frames(model, 2, 4, 0, truncation=psi) for psi in (1.0, 0.5)]
    assert not torch.equal(*walks)
    by_run = generate.load_model(noise, record.run_id, None)
    assert by_run.reference == model.reference
    with pytest.raises(GanpipeError, match="no model nothing"):
        generate.load_model(noise, "nothing", None)


def test_runs_are_found_by_their_beginnings_and_unknown_ones_named(
    noise: Workspace, settings: Settings
) -> None:
    record = run_train(noise, "noise", settings)
    for reference in (record.run_id, record.fingerprint[:8], str(record.mlflow_run_id)[:10]):
        assert find_record(noise, reference) == load_record(noise, record.run_id)
    with pytest.raises(GanpipeError, match=f"No run is called nothing; the latest are: {record.run_id}"):
        find_record(noise, "nothing")


def test_the_evaluation_of_another_run_extracts_only_generated_images(
    noise: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_evaluate(noise, run_train(noise, "noise", settings), settings)
    other = run_train(noise, "noise", settings.with_values({"training.seed": 5}))
    extracted: list[int] = []

    def counting(network: Network, pixels: torch.Tensor, *others: Any) -> Extracted:
        extracted.append(len(pixels))
        return extract(network, pixels, *others)

    monkeypatch.setattr(feature_cache, "extract", counting)
    run_evaluate(noise, other, settings)
    assert extracted == [settings.evaluation.images]


def test_scores_measured_otherwise_are_replaced_with_a_warning_and_mlflow_tells_them_apart(
    noise: Workspace, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    def tag() -> str:
        return str(Tracker(noise).client.get_run(str(record.mlflow_run_id)).data.tags["ganpipe.conditions"])

    record = run_evaluate(noise, run_train(noise, "noise", settings), settings).record
    first = tag()
    record = run_evaluate(noise, record, settings).record
    assert tag() == first
    assert "cannot be compared" not in caplog.text
    record = run_evaluate(noise, record, settings.with_values({"evaluation.neighbors": 3})).record
    assert "cannot be compared: neighbors 5 and 3" in caplog.text
    assert tag() != first
    (shown,) = workspace_status(noise, settings.data).runs
    assert shown.conditions == tag()
    found = Tracker(noise).client.get_run(str(record.mlflow_run_id)).data
    columns = {"dataset": "noise", "dataset_version": record.version, "verdict": shown.verdict}
    assert columns.items() <= found.tags.items()
    assert found.metrics["kd"] == shown.kd


def test_only_one_process_does_a_thing_at_a_time(workspace: Workspace) -> None:
    import subprocess
    import sys

    program = (
        "from pathlib import Path; from ganpipe.stores.workspace import Workspace\n"
        f"w = Workspace(Path({str(workspace.root)!r}))\n"
        "try:\n"
        "    with w.lock('training', wait_s=0.1): print('got it')\n"
        "except Exception as error: print(error)\n"
    )
    with workspace.lock("training"):
        held = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout
    free = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "Another ganpipe (process" in held
    assert "is busy with training" in held
    assert free == "got it\n"


@pytest.mark.usefixtures("migrated")
@pytest.mark.slow
def test_a_labeled_data_set_gives_a_model_that_draws_by_label(
    workspace: Workspace, settings: Settings, tmp_path: Path
) -> None:
    """Folders are labels; r3gan is told them; images carry theirs."""
    for label in ("cats", "dogs"):
        fill_folder(tmp_path / "in" / label, 60)
        for k, path in enumerate(sorted((tmp_path / "in" / label).glob("*.png"))):
            noise_image(1000 * (label == "dogs") + k).save(path)
    datasets.add_dataset(workspace, str(tmp_path / "in"), "pets", settings.data)
    datasets.prepare_dataset(workspace, "pets", settings.data)
    r3 = settings.with_values(
        {"model.name": "r3gan", "model.width": 0.04, "model.blocks": 1, "loss.name": "rpgan"}
    )
    record = run_train(workspace, "pets", r3)
    judged = run_evaluate(workspace, record, r3)
    record = run_register(workspace, judged.record, r3)
    model = generate.load_model(workspace, "champion", "pets")
    assert model.label_names == ["cats", "dogs"]
    dogs = generate.generate_images(model, 3, 0, tmp_path / "dogs", label="dogs")
    cats = generate.generate_images(model, 3, 0, tmp_path / "cats", label="cats")
    assert read_origin(dogs[0])["label"] == "dogs"
    assert dogs[0].read_bytes() != cats[0].read_bytes()
    both = [generate.generate_images(model, 3, 0, tmp_path / "both", label=name) for name in ("cats", "dogs")]
    assert len(set(both[0] + both[1])) == len(list((tmp_path / "both").iterdir())) == 6
    assert both[1][0].name == "seed0000-dogs-00000.png"
    drawn = {read_origin(p)["label"] for p in generate.generate_images(model, 20, 0, tmp_path / "any")}
    assert drawn == {"cats", "dogs"}
    with pytest.raises(GanpipeError, match="has no label dog: did you mean dogs"):
        generate.generate_images(model, 1, 0, tmp_path / "x", label="dog")


@pytest.mark.usefixtures("migrated")
@pytest.mark.slow
def test_images_with_alpha_keep_it_from_the_file_to_the_generated_image(
    workspace: Workspace, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for k in range(90):
        noise_image(k, mode="RGBA").save(tmp_path / "in" / f"{k}.png")
    alpha = settings.with_values(
        {
            "data.channels": 4,
            "model.name": "r3gan",
            "model.width": 0.04,
            "loss.name": "rpgan",
            "augment.mode": "fixed",
        }
    )
    datasets.add_dataset(workspace, str(tmp_path / "in"), "seeds", alpha.data)
    datasets.prepare_dataset(workspace, "seeds", alpha.data)
    record = run_train(workspace, "seeds", alpha)
    judged = run_evaluate(workspace, record, alpha)
    run_register(workspace, judged.record, alpha)
    model = generate.load_model(workspace, "champion", "seeds")
    (path,) = generate.generate_images(model, 1, 0, tmp_path / "out")
    with Image.open(path) as image:
        assert image.mode == "RGBA"


def test_a_second_trainer_says_who_is_at_work_and_leaves_if_asked(
    noise: Workspace, settings: Settings
) -> None:
    """And is told of in the log when it waits."""
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom ganpipe.stores.workspace import Workspace\n"
        "with Workspace(Path(sys.argv[1])).lock('training'):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(noise.root)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    datasets.prepare_dataset(noise, "noise", settings.data)
    try:
        with pytest.raises(GanpipeError, match=f"process {process.pid}.* is busy with training"):
            run_train(noise, "noise", settings, wait=False)
    finally:
        process.kill()
        process.wait()
    assert run_train(noise, "noise", settings, wait=False).state == "finished"


def test_a_rollback_is_told_in_the_record_and_in_mlflow(
    noise: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets.prepare_dataset(noise, "noise", settings.data)
    break_at(monkeypatch, 1)
    record = run_train(noise, "noise", settings.with_values({"training.total_images": 160}))
    assert record.train is not None
    assert "Rolled back to" in record.train.notes[0]
    run = Tracker(noise).client.get_run(str(record.mlflow_run_id))
    assert "Rolled back to" in run.data.tags["ganpipe.notes"]
    curve = Tracker(noise).client.get_metric_history(str(record.mlflow_run_id), "loss_g")
    assert [m.step for m in curve] == list(range(16, 161, 16))


def test_a_look_for_what_is_up_to_date_makes_no_dataset(workspace: Workspace) -> None:
    """The first run paints it, where its task shows how far it is."""
    workspace.state.mkdir(exist_ok=True)
    assert find_up_to_date(workspace, RunRequest(str(workspace.root), "digits", "demo")) is None
    assert dataset_names(workspace) == []


@pytest.mark.slow
def test_two_processes_are_one_run_in_mlflow(noise: Workspace, settings: Settings) -> None:
    """Through the command's own stage: one run, one curve, a model that can be judged and registered."""
    datasets.prepare_dataset(noise, "noise", settings.data)
    together = settings.with_values(
        {
            "training.processes": 2,
            "model.name": "r3gan",
            "model.width": 0.04,
            "model.blocks": 1,
            "loss.name": "rpgan",
        }
    )
    record = run_train(noise, "noise", together)
    curve = Tracker(noise).client.get_metric_history(str(record.mlflow_run_id), "loss_g")
    assert [m.step for m in curve] == [16, 32, 48, 64]
    judged = run_evaluate(noise, record, together)
    assert run_register(noise, judged.record, together).model_version == "ganpipe-noise v1"
    with pytest.raises(GanpipeError, match="cannot be shared by 3 processes"):
        run_train(noise, "noise", together.with_values({"training.processes": 3}))


def test_a_run_keeps_the_version_that_it_was_started_with(
    noise: Workspace, settings: Settings, tmp_path: Path
) -> None:
    """The data change before, in and after the training: it is trained and evaluated on the version that was opened."""
    from mlflow import MlflowClient

    opened = dataset_versions.open_version(noise, "noise", settings.data)
    datasets.add_dataset(noise, str(fill_folder(tmp_path / "more", 95)), "noise", settings.data)
    record = train.train_model(noise, opened, settings)
    assert (record.state, record.version) == ("finished", opened.version)
    logged = MlflowClient().get_run(str(record.mlflow_run_id)).data
    assert opened.version in str(logged.params) + str(logged.tags)
    datasets.remove_from_dataset(noise, "noise", ["000.png"], settings.data)
    judged = evaluate.evaluate_run(noise, record, opened, settings)
    assert judged.evaluation.verdict
    assert dataset_versions.open_version(noise, "noise", settings.data).images == 94
    assert reproduce.reproduce(noise, judged.record)["identical"] is True


def test_a_cancelled_training_is_known_until_somebody_takes_it_up_again(
    noise: Workspace, settings: Settings
) -> None:
    version = dataset_versions.open_version(noise, "noise", settings.data)
    assert cancelled_training(noise, version, settings) is None
    record = train.train_model(noise, version, settings)
    assert cancelled_training(noise, version, settings) is None
    save_record(noise, replace(record, state="cancelled"))
    assert cancelled_training(noise, version, settings) == record.run_id
    assert cancelled_training(noise, version, settings.with_values({"training.seed": 7})) is None
    assert train.train_model(noise, version, settings).state == "finished"
    assert cancelled_training(noise, version, settings) is None
