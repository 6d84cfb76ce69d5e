"""The status of a workspace: what runs, waits, ran and is planned, and where the bytes are."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from ganpipe.compute.process_identity import start_time, this_process
from ganpipe.errors import GanpipeError, Interrupted
from ganpipe.files import write_json
from ganpipe.progress import Progress
from ganpipe.settings.schema import Settings
from ganpipe.stages import status
from ganpipe.stages.run_details import GrowingCurve, thin_out
from ganpipe.stages.status import StatusReader, disk_use, read_status, workspace_status
from ganpipe.stores import activities, addresses, rereading, run_records
from ganpipe.stores.activities import Activity, activities_folder, read_activities, record_activity
from ganpipe.stores.elsewhere import describe_untouched
from ganpipe.stores.leftovers import find_leftovers
from ganpipe.stores.prefect_database import latest_flow_runs, planned_runs
from ganpipe.stores.run_records import all_records, load_record, run_folder
from ganpipe.stores.workspace import Workspace
from ganpipe.training.callbacks import Point
from tests.conftest import copied
from tests.stages.test_stages import run_register, run_train


@pytest.fixture
def noise(migrated: Workspace, prepared_noise: Path) -> Workspace:
    return copied(prepared_noise, migrated)


def test_a_training_tells_what_it_does_and_takes_it_back_when_it_ends(
    noise: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activities, "WRITE_EVERY_S", 0.0)
    told: list[Activity] = []

    def look(progress: Progress) -> None:
        if progress.stage == "train":
            told.extend(read_activities(noise))

    record = run_train(noise, "noise", settings, look)
    done = [activity.progress.done for activity in told if activity.progress]
    assert done == [8, 16, 24, 32, 40, 48, 56, 64]
    assert {(a.subject, a.process) for a in told} == {(record.run_id, this_process())}
    assert read_activities(noise) == []
    assert list(activities_folder(noise).iterdir()) == []


def test_an_activity_is_written_at_most_once_a_second_and_at_each_new_stage(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, passed = [100.0], list[float]()
    monkeypatch.setattr(activities.time, "monotonic", lambda: now[0])

    def shown() -> float:
        (activity,) = read_activities(workspace)
        assert activity.progress is not None
        return activity.progress.done

    with record_activity(workspace, "cats-1", lambda p: passed.append(p.done)) as activity:
        for done, at in ((1, 100.0), (2, 100.5), (3, 100.9)):
            now[0] = at
            activity(Progress("train", done, 10, "images", 1.0))
        assert shown() == 1
        now[0] = 101.0
        activity(Progress("train", 4, 10, "images", 1.0))
        assert shown() == 4
        activity(Progress("evaluate", 5, 10, "images", 1.0))
        assert shown() == 5
    assert passed == [1, 2, 3, 4, 5]


def test_what_a_killed_process_was_doing_is_passed_over_and_is_a_leftover(workspace: Workspace) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host, boot, _, _ = this_process().split("/")
    path = activities_folder(workspace) / f"activity-{ended.pid}-0.json"
    write_json(path, Activity(f"{host}/{boot}/{ended.pid}/1", "cats-1", 0.0, 0.0))
    (activities_folder(workspace) / "activity-1-1.json").write_text("{")
    assert read_activities(workspace) == []
    assert path in find_leftovers(workspace, set())


def test_who_waits_for_another_training_says_for_whom(noise: Workspace, settings: Settings) -> None:
    trained = threading.Thread(target=run_train, args=(noise, "noise", settings))
    with noise.lock("training"):
        trained.start()
        for _ in range(300):
            waiting = [activity.waits_for for activity in read_status(noise).activities]
            if waiting and waiting[0]:
                break
            time.sleep(0.05)
    trained.join()
    assert "is busy with training in this workspace; waiting for it." in str(waiting[0])


def test_a_record_says_when_a_run_began_how_long_it_trained_and_why_it_stopped(
    noise: Workspace, settings: Settings
) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == "train" and progress.done >= 32:
            raise Interrupted(15, "SIGTERM: stopped at 32 images.")

    with pytest.raises(Interrupted):
        run_train(noise, "noise", settings, stop)
    (first,) = workspace_status(noise, settings.data).runs
    assert (first.state, first.reason) == ("interrupted", "SIGTERM: stopped at 32 images.")
    assert first.began_at is not None
    assert first.ended_at is not None
    assert first.began_at <= first.ended_at
    time.sleep(1.0)
    again = run_train(noise, "noise", settings)
    assert (again.state, again.reason, again.began_at) == ("finished", "", first.began_at)
    assert again.train_s > first.train_s > 0
    assert str(again.ended_at) > first.ended_at


def test_who_reads_again_and_again_sees_at_once_whether_the_champion_has_seen_a_dataset(
    noise: Workspace, settings: Settings
) -> None:
    reader = StatusReader(noise)
    assert reader.read_under(settings.data).datasets[0].champion_has_seen is None
    record = run_register(noise, run_train(noise, "noise", settings), settings)
    found = reader.read_under(settings.data)
    assert (found.datasets[0].champion_has_seen, found.datasets[0].versions) == (True, 1)
    assert found.champions == {"ganpipe-noise": record.model_version}
    assert found.runs[0].champion
    with closing(sqlite3.connect(noise.state / "mlflow.db")) as database, database:
        database.execute("UPDATE model_version_tags SET value = 'x' WHERE key = 'ganpipe.dataset_version'")
    assert reader.read_under(settings.data).datasets[0].champion_has_seen is False


def test_a_part_is_read_again_only_if_its_files_have_changed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rereading, "SETTLED_NS", 0)
    prefect_database_with(workspace)
    read: list[str] = []
    for name in ("latest_flow_runs", "disk_use", "read_records"):
        whole = getattr(status, name)
        monkeypatch.setattr(status, name, lambda *given, n=name, w=whole: read.append(n) or w(*given))
    reader = StatusReader(workspace)
    first = reader.read()
    with record_activity(workspace, "cats-1", lambda _: None) as activity:
        activity(Progress("train", 50, 100, "images", 5.0))
        again = reader.read()
    assert sorted(read) == ["disk_use", "latest_flow_runs", "read_records"]
    assert [a.subject for a in again.activities] == ["cats-1"], "what moves is read each time"
    assert again.flow_runs is first.flow_runs
    time.sleep(0.02)
    with closing(sqlite3.connect(workspace.state / "prefect/prefect.db")) as database, database:
        database.execute("UPDATE flow_run SET state_name = 'Completed' WHERE id = 'a'")
    (workspace.runs / "cats-1").mkdir(parents=True)
    (workspace.runs / "cats-1" / "run.json").write_text("{")
    last = reader.read()
    assert [f.state for f in last.flow_runs] == ["Completed", "Skipped"]
    assert [r.state for r in last.runs] == ["damaged"]
    assert read.count("disk_use") == 1


def prefect_database_with(workspace: Workspace) -> None:
    """Prefect's database as far as it is read: a run that was skipped, one that goes on, and two that are planned."""
    path = workspace.state / "prefect" / "prefect.db"
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript("""
            CREATE TABLE flow (id, name);
            INSERT INTO flow VALUES (1, 'ganpipe');
            CREATE TABLE flow_run (id, name, state_type, state_name, state_id, start_time, end_time,
                next_scheduled_start_time, auto_scheduled, deployment_id, parent_task_run_id, flow_id DEFAULT 1,
                created_by DEFAULT '{"id": "s"}');
            CREATE TABLE deployment_schedule (id, schedule);
            INSERT INTO deployment_schedule VALUES ('s', '{"cron": "0 2 * * *", "timezone": "Europe/Berlin"}');
            CREATE TABLE flow_run_state (id, message);
            CREATE TABLE deployment (id, name, paused);
            INSERT INTO deployment VALUES (1, 'nightly', 0), (2, 'paused', 1);
            INSERT INTO flow_run_state VALUES (1, 'Skipped: run a is training.');
            INSERT INTO flow_run (id, name, state_type, state_name, state_id, start_time, end_time,
                next_scheduled_start_time, auto_scheduled, deployment_id, parent_task_run_id) VALUES
              ('a', 'goes on', 'RUNNING', 'Running', NULL, '2026-11-29 02:10:00.5', NULL, NULL, 0, 1, NULL),
              ('b', 'left out', 'COMPLETED', 'Skipped', 1, '2026-11-29 02:05:00.25', '2026-11-29 02:05:02.75', NULL, 1, 1, NULL),
              ('c', 'inside', 'RUNNING', 'Running', NULL, '2026-11-29 02:11:00', NULL, NULL, 0, 1, 'task'),
              ('d', 'late', 'SCHEDULED', 'Scheduled', NULL, NULL, NULL, '2026-12-01 02:00:00.000000', 1, 1, NULL),
              ('e', 'soon', 'SCHEDULED', 'Scheduled', NULL, NULL, NULL, '2026-11-30 02:00:00.000000', 1, 1, NULL),
              ('f', 'never', 'SCHEDULED', 'Scheduled', NULL, NULL, NULL, '2026-11-30 01:00:00.000000', 1, 2, NULL);
        """)


def test_skipped_and_planned_runs_are_read_from_prefects_database(workspace: Workspace) -> None:
    assert latest_flow_runs(workspace, 10) == []
    prefect_database_with(workspace)
    goes_on, skipped = latest_flow_runs(workspace, 10)
    assert (goes_on.name, goes_on.state, goes_on.seconds) == ("goes on", "Running", None)
    assert (skipped.state, skipped.message, skipped.seconds) == (
        "Skipped",
        "Skipped: run a is training.",
        2.5,
    )
    assert skipped.began_at == "2026-11-29T02:05:00+00:00"
    planned = planned_runs(workspace, 10)
    assert [(p.deployment, p.at) for p in planned] == [
        ("nightly", "2026-11-30T02:00:00+00:00"),
        ("nightly", "2026-12-01T02:00:00+00:00"),
    ]
    assert planned[0].timing == "at 02:00 every day (0 2 * * *, Europe/Berlin)"
    assert read_status(workspace).planned == [], "nothing starts them while `ganpipe up` does not run"


def test_the_servers_of_up_are_named_with_port_and_process(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen = (
        "import socket, sys; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); "
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", listen], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        own = addresses.Addresses(
            os.getpid(), start_time(os.getpid()), f"http://127.0.0.1:{port}/api", "http://127.0.0.1:1"
        )
        addresses.announce(workspace, own)
        monkeypatch.setattr(addresses, "is_ours", lambda *_: True)
        found = read_status(workspace)
    finally:
        server.kill()
        server.wait()
    assert found.up_pid == own.pid
    assert [(s.name, s.port, s.pid) for s in found.servers] == [
        ("Prefect", port, server.pid),
        ("MLflow", 1, None),
    ]


def test_the_disk_is_measured_by_place_and_says_if_it_was_not_all(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, size in ((".ganpipe/runs/a", 3), ("data/raw/cats", 1)):
        folder = workspace.root / place
        folder.mkdir(parents=True)
        for k in range(300):
            (folder / f"{k}.bin").write_bytes(b"x" * 4096 * size)
    (workspace.runs / "a" / "link").symlink_to("/usr")
    found = disk_use(workspace)
    assert [(use.what, use.whole) for use in found] == [("runs", True), ("datasets", True)]
    assert found[0].bytes >= 300 * 3 * 4096 > found[1].bytes >= 300 * 4096
    assert found[0].bytes < 2 * 300 * 3 * 4096
    monkeypatch.setattr("ganpipe.stages.status.DISK_PATIENCE_S", -1.0)
    assert [use.whole for use in disk_use(workspace)] == [False, False]


def test_a_record_that_changed_is_read_again_and_a_whole_one_is_not(
    noise: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = run_train(noise, "noise", settings)
    path = run_folder(noise, record.run_id) / "run.json"
    all_records(noise)
    reads: list[Path] = []
    whole = run_records.read_dataclass
    monkeypatch.setattr(
        run_records, "read_dataclass", lambda path, kind: reads.append(path) or whole(path, kind)
    )
    assert all_records(noise) == [record]
    assert reads == []
    text = path.read_text()
    path.write_text(text.replace('"finished"', '"stopped!"'))
    changed = load_record(noise, record.run_id)
    assert changed is not None
    assert (changed.state, len(reads)) == ("stopped!", 1)
    path.write_text("{")
    with pytest.raises(GanpipeError, match="is damaged"):
        load_record(noise, record.run_id)


def test_a_growing_curve_is_read_on_from_where_the_last_reading_ended(workspace: Workspace) -> None:
    curve = GrowingCurve(workspace, "cats-1")
    assert curve.read() == []
    path = run_folder(workspace, "cats-1") / "points.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"nimg": 1, "values": {"loss": 2.0}}\n{"nimg": 2, "val')
    assert curve.read() == [Point(1, {"loss": 2.0})]
    path.write_text(
        'X"nimg": 1, "values": {"loss": 2.0}}\n{"nimg": 2, "values": {}}\ndamaged\n{"nimg": 3, "values": {}}\n'
    )
    assert [point.nimg for point in curve.read()] == [1, 2, 3], "what was read before is not read again"
    thin = [point.nimg for point in thin_out([Point(k, {}) for k in range(2500)])]
    assert (len(thin), thin[0], thin[-1]) == (834, 0, 2499)


def test_status_prints_one_json_object_with_everything_that_a_script_asks_for(workspace: Workspace) -> None:
    prefect_database_with(workspace)
    with record_activity(workspace, "cats-1", lambda _: None) as activity:
        activity(Progress("train", 50, 100, "images", 5.0))
        command = [sys.executable, "-m", "ganpipe", "status", "--json", "--workspace", str(workspace.root)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        shown = subprocess.run(
            [c for c in command if c != "--json"], capture_output=True, text=True, check=True
        )
    status = json.loads(done.stdout.splitlines()[-1])
    (now,) = status["activities"]
    assert (now["subject"], now["per_second"], now["left_s"]) == ("cats-1", 10.0, 5.0)
    assert now["progress"]["stage"] == "train"
    assert [run["state"] for run in status["flow_runs"]] == ["Running", "Skipped"]
    assert status["champions"] == status["challengers"] == {}
    assert "50/100 images" in shown.stdout
    assert "Skipped: run a is training." in shown.stdout


def test_what_servers_elsewhere_keep_is_said_without_their_passwords(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty list alone would say that nothing ran."""
    assert read_status(workspace).elsewhere == []
    prefect_database_with(workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://jane:pa55word@db/mlflow")
    monkeypatch.setenv(
        "PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql+asyncpg://jane:pa55word@db/prefect"
    )
    found = read_status(workspace)
    runs, flows = found.elsewhere
    assert "@db/mlflow (MLFLOW_TRACKING_URI)" in runs
    assert "PREFECT_SERVER_DATABASE_CONNECTION_URL" in flows
    assert "pa55word" not in runs + flows
    assert found.flow_runs == [], "those in the workspace are of another time"
    told = describe_untouched(workspace, "ganpipe gc")
    assert told == [f"{sentence} `ganpipe gc` does not act there." for sentence in (runs, flows)]
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert "kept by http://127.0.0.1:9/api (PREFECT_API_URL)" in read_status(workspace).elsewhere[1]
