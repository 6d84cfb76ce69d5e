"""Everything that a killed process has left is settled; what lives is left alone."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ganpipe.compute.process_identity import is_gone, this_process
from ganpipe.evaluation.verdict import Evaluation, Metric
from ganpipe.progress import Progress
from ganpipe.services.recovery import find_unsettled, recover, settle
from ganpipe.settings.schema import Settings
from ganpipe.stages import promote, train
from ganpipe.stages.run import up_to_date
from ganpipe.stages.status import workspace_status
from ganpipe.stores import dataset_versions
from ganpipe.stores.mlflow_runs import PROCESS, Tracker
from ganpipe.stores.outbox import Outbox
from ganpipe.stores.prefect_database import PROCESS_TAG, orphaned_runs
from ganpipe.stores.registered_models import registered_name
from ganpipe.stores.run_records import RunRecord, load_record, run_folder, save_record
from ganpipe.stores.run_results import finished_result
from ganpipe.stores.workspace import Workspace
from tests.conftest import Killed, copied


@pytest.fixture
def noise(migrated: Workspace, prepared_noise: Path) -> Workspace:
    return copied(prepared_noise, migrated)


@pytest.fixture
def dead() -> str:
    """The name of a process that has ended."""
    program = "from ganpipe.compute.process_identity import this_process; print(this_process())"
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def living() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def run_train(workspace: Workspace, settings: Settings, *rest: Any) -> RunRecord:
    version = dataset_versions.open_version(workspace, "noise", settings.data)
    return train.train_model(workspace, version, settings, *rest)


def registered(workspace: Workspace, settings: Settings) -> RunRecord:
    """A finished run with an evaluation and a model version."""
    evaluation = Evaluation({"kd": Metric(1.0, "test", 10)}, "fair")
    record = save_record(workspace, replace(run_train(workspace, settings), evaluation=evaluation))
    Outbox(workspace, record).evaluation()
    version = dataset_versions.open_version(workspace, "noise", settings.data)
    return promote.register_model(workspace, record, evaluation, version, settings)


def killed_training(workspace: Workspace, settings: Settings) -> RunRecord:
    """A record as a kill leaves it: it says running."""

    def kill(p: Progress) -> None:
        if p.stage == "train" and p.done >= 40:
            raise Killed

    with pytest.raises(Killed):
        run_train(workspace, settings, kill)
    (folder,) = workspace.runs.iterdir()
    record = load_record(workspace, folder.name)
    assert record is not None
    Tracker(workspace).client.update_run(str(record.mlflow_run_id), status="RUNNING")
    return save_record(workspace, replace(record, state="running"))


def test_a_process_is_told_by_its_number_and_its_start(dead: str, living: subprocess.Popen[bytes]) -> None:
    assert not is_gone(this_process())
    assert is_gone(dead)
    host, boot, _, start = this_process().split("/")
    assert is_gone(f"{host}/{boot}/{living.pid}/{start}"), "the number belongs to another process by now"
    assert is_gone(f"{host}/another/{os.getpid()}/{start}"), "the machine was started again"
    assert not is_gone(f"elsewhere/{boot}/1/1"), "nothing is known of another machine"


@pytest.mark.slow
def test_a_killed_training_is_interrupted_and_a_live_one_is_left_alone(
    noise: Workspace, settings: Settings, dead: str
) -> None:
    record = killed_training(noise, settings)
    client = Tracker(noise).client
    run_id = str(record.mlflow_run_id)
    recover(noise)
    assert load_record(noise, record.run_id) == record, "its process lives: it is this one"
    assert client.get_run(run_id).info.status == "RUNNING"
    save_record(noise, replace(record, process=dead))
    client.set_tag(run_id, PROCESS, dead)
    orphan = client.create_run(Tracker(noise).experiment("noise"), tags={PROCESS: dead}).info.run_id
    strange = client.create_run(Tracker(noise).experiment("noise")).info.run_id
    recover(noise)
    settled = load_record(noise, record.run_id)
    assert settled is not None
    assert settled.state == "interrupted"
    states = [client.get_run(run).info.status for run in (run_id, orphan, strange)]
    assert states == ["KILLED", "KILLED", "RUNNING"], (
        "a run that ganpipe did not begin is not ganpipe's to end"
    )
    assert find_unsettled(noise) == []
    assert run_train(noise, settings).mlflow_run_id == run_id


@pytest.mark.slow
def test_a_kill_between_mlflow_and_the_record_makes_no_second_run(
    noise: Workspace, settings: Settings
) -> None:
    record = killed_training(noise, settings)
    save_record(noise, replace(record, mlflow_run_id=None))
    assert run_train(noise, settings).mlflow_run_id == record.mlflow_run_id


def test_files_of_dead_processes_are_swept_and_others_stay(
    noise: Workspace, settings: Settings, dead: str, living: subprocess.Popen[bytes]
) -> None:
    record = run_train(noise, settings)
    folder, pid = run_folder(noise, record.run_id), dead.split("/")[2]
    gone = [
        noise.state / f"scratch-{pid}-x",
        folder / f"reproduction-{pid}",
        folder / f".run.json.{pid}.x.tmp",
        folder / f"checkpoints/.0-1.pt.{pid}.x.tmp",
        folder / "checkpoints/0-1.pt",
    ]
    kept = [
        noise.state / f"scratch-{os.getpid()}-x",
        folder / f".run.json.{living.pid}.x.tmp",
        folder / "checkpoints/notes.txt",
    ]
    for path in [*gone, *kept]:
        path.mkdir() if path.suffix == "" else path.touch()
    recover(noise)
    assert [p for p in gone if p.exists()] == []
    assert [p for p in kept if not p.exists()] == []


def test_flow_runs_are_orphans_by_their_process(workspace: Workspace, dead: str) -> None:
    (workspace.state / "prefect").mkdir()
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    rows = [
        ("dead", "RUNNING", f'["{PROCESS_TAG}{dead}"]', now, None),
        ("live", "RUNNING", f'["{PROCESS_TAG}{this_process()}"]', now, None),
        ("cancelling", "CANCELLING", f'["{PROCESS_TAG}{dead}"]', now, None),
        ("just begun", "RUNNING", "[]", now, None),
        ("old", "RUNNING", "[]", "2020-01-01 00:00:00", None),
        ("submitted", "PENDING", "[]", now, "deployment"),
        ("done", "COMPLETED", f'["{PROCESS_TAG}{dead}"]', now, None),
        ("planned", "SCHEDULED", "[]", now, "deployment"),
    ]
    with sqlite3.connect(workspace.state / "prefect/prefect.db") as database:
        database.execute("CREATE TABLE flow_run (id, state_type, tags, updated, deployment_id, name)")
        database.execute("CREATE TABLE task_run (id, flow_run_id, state_type, name)")
        for row in rows:
            database.execute("INSERT INTO flow_run VALUES (?, ?, ?, ?, ?, 'n')", row)
            database.execute(
                "INSERT INTO task_run VALUES (?, ?, 'RUNNING', 'n')", (f"task of {row[0]}", row[0])
            )
    flows = {"dead", "cancelling", "old"}
    tasks = {f"task of {name}" for name in (*flows, "done")}
    assert {run.id for run in orphaned_runs(workspace, runner_lives=True)} == flows | tasks
    more = {run.id for run in orphaned_runs(workspace, runner_lives=False)}
    assert more == flows | tasks | {"submitted", "task of submitted"}


def test_looking_for_nothing_is_quick_and_imports_no_tool(noise: Workspace, settings: Settings) -> None:
    run_train(noise, settings)
    program = (
        "import sys, time; from pathlib import Path\n"
        "from ganpipe.services.recovery import recover\nfrom ganpipe.stores.workspace import Workspace\n"
        f"w = Workspace(Path({str(noise.root)!r})); recover(w); t = time.process_time(); recover(w)\n"
        "print(time.process_time() - t < 0.1, {'prefect', 'mlflow', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True set()\n"


@pytest.mark.parametrize("how", ["deleted", "damaged", "cut"])
@pytest.mark.slow
def test_mlflows_database_is_built_again_from_the_runs(
    noise: Workspace, settings: Settings, how: str
) -> None:
    first = registered(noise, settings)
    second = registered(noise, settings.with_values({"training.seed": 1}))
    promote.promote_run(noise, second, force=True)
    assert load_record(noise, first.run_id) == replace(first, champion=False), "only one run is champion"
    database = noise.state / "mlflow.db"
    if how == "deleted":
        database.unlink()
    elif how == "damaged":
        database.write_bytes(b"no database at all" * 1000)
    else:
        os.truncate(database, 100_000)
    status = workspace_status(noise, settings.data)
    assert "ganpipe doctor --fix" in str(status.models_problem)
    assert [r.state for r in status.runs] == ["finished", "finished"]
    # In processes of their own, as commands are: MLflow keeps its connection to the old file.
    for words in (["doctor", "--fix"], ["status", "--json"]):
        command = [sys.executable, "-m", "ganpipe", *words, "--workspace", str(noise.root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    champions = json.loads(done.stdout.splitlines()[-1])["champions"]
    record = load_record(noise, second.run_id)
    assert record is not None
    assert champions == {registered_name("noise"): record.model_version}
    with closing(sqlite3.connect(database)) as found:
        curve = "SELECT step FROM metrics WHERE key = 'loss_g' AND run_uuid = ? ORDER BY step"
        assert found.execute(curve, [record.mlflow_run_id]).fetchall() == [(16,), (32,), (48,), (64,)]
        verdict = "SELECT value FROM tags WHERE key = 'verdict' AND run_uuid = ?"
        assert found.execute(verdict, [record.mlflow_run_id]).fetchall() == [("fair",)]
    assert find_unsettled(noise) == []


@pytest.mark.parametrize(
    "text", ["{", *(pytest.param(text, marks=pytest.mark.slow) for text in ("", "[]", '{"run_id": "x"}'))]
)
def test_a_damaged_record_hides_no_other_run_and_is_rebuilt(
    noise: Workspace, settings: Settings, text: str
) -> None:
    record = registered(noise, settings)
    other = registered(noise, settings.with_values({"training.seed": 1}))
    record = replace(record, champion=not other.champion)
    path = run_folder(noise, record.run_id) / "run.json"
    path.write_text(text)
    states = {r.run: r.state for r in workspace_status(noise, settings.data).runs}
    assert states == {record.run_id: "damaged", other.run_id: "finished"}
    recover(noise)
    assert path.read_text() == text, "only the doctor, or the command that needs it, writes it again"
    assert settle(find_unsettled(noise)) == []
    rebuilt = load_record(noise, record.run_id)
    assert rebuilt is not None
    assert rebuilt.evaluation is not None
    assert rebuilt.evaluation.metrics == {"kd": Metric(1.0, "test", 10)}
    assert replace(rebuilt, process=None, evaluation=None) == replace(record, process=None, evaluation=None)
    path.write_text(text)
    again = run_train(noise, settings)
    assert (again.run_id, again.train) == (record.run_id, record.train)


def test_a_damaged_model_is_written_again_by_training(noise: Workspace, settings: Settings) -> None:
    record = run_train(noise, settings)
    weights = run_folder(noise, record.run_id) / "model/generator.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-7])
    assert run_train(noise, settings).train == record.train
    assert weights.read_bytes() == whole


def test_damaged_results_and_notes_stop_nothing(
    noise: Workspace, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    version = dataset_versions.open_version(noise, "noise", settings.data)
    for text in ("", "{", "[]", "{}"):
        (noise.state / "results").mkdir(exist_ok=True)
        (noise.state / "results/abc.json").write_text(text)
        assert finished_result(noise, "abc") is None
        (noise.state / "versions/noise.json").write_text(text)
        assert workspace_status(noise, settings.data).datasets[0].name == "noise"
        assert dataset_versions.open_version(noise, "noise", settings.data).version == version.version
    assert "It is ignored" in caplog.text
    assert up_to_date(noise, version.version, settings) is None
