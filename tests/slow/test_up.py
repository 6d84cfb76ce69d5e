"""Slow: a real `ganpipe up`, with a web page, a stranger's files and a kill -9 against it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ganpipe.compute.process_identity import lives
from ganpipe.files import read_json
from ganpipe.stores.addresses import Addresses, announce, running_servers
from ganpipe.stores.dataset_summaries import versions_of
from ganpipe.stores.secret import secret_file
from ganpipe.stores.workspace import Workspace
from tests.conftest import activated, copied, fill_folder, noise_image
from tests.slow.processes import LONG, Up, overrides_of, rows, soon, start, words_of

SECRETS = {"AWS_SECRET_ACCESS_KEY": "planted-aws-secret", "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-secret"}
DVC_SECRET = "planted-dvc-secret"
SKIPPED = ("COMPLETED", "Skipped")
HOSTILE = (
    "yaml.py",
    "uvicorn.py",
    "numpy.py",
    "flows/__init__.py",
    "ganpipe/__init__.py",
    "prefect/__init__.py",
)


@pytest.fixture
def up(workspace: Workspace, added_noise: Path, tmp_path: Path) -> Iterator[Up]:
    """`up` in a workspace whose folder holds modules that write a marker when they are imported."""
    copied(added_noise, workspace)
    for name in HOSTILE:
        path = workspace.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"open({str(tmp_path / 'hostile')!r}, 'a').write(__file__)\n")
    config = workspace.root / ".dvc" / "config.local"
    with config.open("a") as file:
        file.write(f"['remote \"store\"']\n    url = https://jane:{DVC_SECRET}@127.0.0.1:1/x\n")
        file.write(f"    password = {DVC_SECRET}\n")
    running = Up(workspace, "noise", tmp_path, **SECRETS)
    yield running
    running.process.send_signal(signal.SIGTERM)
    running.process.wait(90)


@pytest.mark.slow
def test_up_serves_its_own_workspace_and_tells_no_secret(up: Up, tmp_path: Path) -> None:
    flows, body = "/flows/filter", {}
    assert up.ask(flows, body)[0] == 200
    assert up.ask(flows, body, Authorization="")[0] == 401
    assert up.ask(flows, body, Origin="http://evil.example")[0] == 403
    assert up.ask(flows, body, Host="evil.example")[0] == 403
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert up.ask(search, url=up.servers.mlflow)[0] == 200
    for host in ("evil.example", "10.0.0.1", "192.168.0.1:5000"):
        assert up.ask(search, url=up.servers.mlflow, Host=host)[0] == 403
    assert up.ask("/", url=up.servers.dashboard, Authorization="")[0] == 401
    assert up.ask("/", url=up.servers.dashboard, Host="evil.example")[0] == 403

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "secrets").write_text("planted-line\n")
    assert up.ended(up.start_run(workspace=str(foreign)))[0] == "FAILED"
    state, why = up.ended(up.start_run(overrides=[f"style.contents=@{foreign / 'secrets'}"]))
    assert state == "FAILED"
    assert "must stay inside" in why
    assert [path.name for path in foreign.iterdir()] == ["secrets"]

    assert up.ended(up.start_run())[0] == "COMPLETED"
    assert not (tmp_path / "hostile").exists()

    other = Workspace(tmp_path / "other")
    with activated(other.root):
        announce(other, Addresses(up.servers.pid, up.servers.started, up.servers.prefect_api, ""))
        assert running_servers(other) is None  # it is not this workspace's

    planted = {
        *SECRETS.values(),
        DVC_SECRET,
        "planted-line",
        secret_file(up.workspace).read_text().strip().partition(":")[2],
    }
    allowed = {secret_file(up.workspace), up.workspace.root / ".dvc" / "config.local"}
    for path in up.workspace.root.rglob("*"):
        if path.is_file() and path not in allowed:
            told = {secret for secret in planted if secret.encode() in path.read_bytes()}
            assert not told, path
    for pid in [up.process.pid, *up.descendants()]:
        line = Path(f"/proc/{pid}/cmdline").read_text()
        assert not any(secret in line for secret in planted), line


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGHUP])
def test_everything_that_up_started_ends_with_it_and_training_writes_its_checkpoint(
    up: Up, signum: int, tmp_path: Path
) -> None:
    run = up.start_run(overrides=overrides_of(LONG))
    soon(lambda: list(up.workspace.runs.glob("*/checkpoints/*.json")))
    processes = up.descendants()
    assert len(processes) >= 5
    [checkpoint] = up.workspace.runs.glob("*/checkpoints")
    before = {path.name for path in checkpoint.iterdir()}
    up.process.send_signal(signum)
    up.process.wait(90)
    soon(lambda: not any(lives(pid, started) for pid, started in processes.items()), within_s=60)
    assert {path.name for path in checkpoint.iterdir()} - before, "no checkpoint was written after the signal"
    [record] = up.workspace.runs.glob("*/run.json")
    assert json.loads(record.read_text())["state"] == "interrupted"
    again = Up(up.workspace, "noise", tmp_path)
    try:
        soon(lambda: json.loads(record.read_text())["state"] == "running")
        found = again.ask(f"/flow_runs/{run}")[1]
        assert (found["state"]["type"], found["run_count"]) == ("RUNNING", 2), "the same run goes on, at once"
        assert again.ask(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})[0] == 201
        assert again.ended(run)[0] == "CANCELLED"
        assert soon(lambda: json.loads(record.read_text())["state"] == "cancelled")
    finally:
        again.process.send_signal(signal.SIGTERM)
        again.process.wait(90)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_a_run_in_a_terminal_that_was_killed_is_resumed_and_one_that_was_cancelled_is_not(
    workspace: Workspace, added_noise: Path, tmp_path: Path, signum: int
) -> None:
    copied(added_noise, workspace)
    words = words_of(
        {
            "training.total_images": 4_000_000,
            "training.log_every_images": 800,
            "training.save_every_images": 800,
            "training.grid_every_images": 400_000,
        }
    )
    by_hand = start(workspace.root, "run", "--dataset", "noise", *words)
    soon(lambda: list(workspace.runs.glob("*/checkpoints/*.json")))
    by_hand.send_signal(signum)
    by_hand.wait(60)
    [record] = workspace.runs.glob("*/run.json")
    ended = read_json(record)["process"]
    up = Up(workspace, "noise", tmp_path)
    try:
        by_up = "SELECT id FROM flow_run WHERE deployment_id IS NOT NULL"
        database, log = workspace.state / "prefect" / "prefect.db", workspace.root / "up.log"
        if signum == signal.SIGINT:
            up.deployment()
            time.sleep(10)
            assert read_json(record)["state"] == "cancelled"
            assert rows(database, by_up) == []
            assert "was killed" not in log.read_text()
            return
        soon(lambda: read_json(record)["process"] != ended)
        [(run,)] = rows(database, by_up)
        assert up.ask(f"/flow_runs/{run}")[1]["state"]["type"] == "RUNNING"
        assert f"Run {record.parent.name} was killed; it resumes now" in log.read_text()
        assert len(list(workspace.runs.glob("*/run.json"))) == 1, "it is the same run"
        up.ask(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        assert up.ended(run)[0] == "CANCELLED"
    finally:
        up.process.send_signal(signal.SIGTERM)
        up.process.wait(90)


@pytest.mark.slow
def test_a_training_goes_on_while_the_children_of_up_die_one_after_the_other(up: Up) -> None:
    run = up.start_run(overrides=overrides_of(LONG))
    soon(lambda: list(up.workspace.runs.glob("*/checkpoints/*.json")))
    [record] = up.workspace.runs.glob("*/run.json")
    process = json.loads(record.read_text())["process"]
    for name in ("flows.deployments", "mlflow server", "ganpipe.services.prefect_server"):
        child = up.child(name)
        os.kill(child, signal.SIGKILL)
        soon(lambda name=name, child=child: up.child(name) not in (None, child))
    soon(lambda: running_servers(up.workspace))
    assert up.ask(f"/flow_runs/{run}")[1]["state"]["type"] == "RUNNING"
    found = json.loads(record.read_text())
    assert (found["process"], found["state"]) == (process, "running")
    log = (up.workspace.root / "up.log").read_text()
    assert log.count("is started again, and everything else goes on") == 3


@pytest.mark.slow
def test_of_five_starts_at_once_one_trains_and_four_say_which(up: Up) -> None:
    runs = [up.start_run(overrides=overrides_of(LONG)) for _ in range(5)]

    def skipped() -> list[str]:
        states = [up.ask(f"/flow_runs/{run}")[1]["state"] for run in runs]
        found = [state["message"] for state in states if (state["type"], state["name"]) == SKIPPED]
        return found if len(found) == 4 else []

    for message in soon(skipped):
        assert message.startswith("Skipped: run noise ")
        assert message.endswith(" is training.")


@pytest.mark.slow
def test_what_is_paused_stays_paused_and_one_run_catches_up(
    workspace: Workspace, added_noise: Path, tmp_path: Path
) -> None:
    copied(added_noise, workspace)
    schedules = ["name: nightly, cron: 0 2 * * *, work: verify-data", "name: paused, cron: 0 3 * * *"]
    words = [word for entry in schedules for word in ("--schedule", entry)]
    first = Up(workspace, "noise", tmp_path, words=words)
    paused = first.deployment("ganpipe/paused")
    first.ask(f"/deployments/{paused}/pause_deployment", {})
    database = workspace.state / "prefect" / "prefect.db"
    planned = "SELECT id FROM flow_run WHERE state_type = 'SCHEDULED' AND auto_scheduled"
    soon(lambda: len(rows(database, planned)) >= 3)
    first.process.send_signal(signal.SIGTERM)
    first.process.wait(90)
    with closing(sqlite3.connect(database)) as changed, changed:  # as after some nights off
        for (run,) in changed.execute(planned).fetchall()[:3]:
            changed.execute(
                "UPDATE flow_run SET expected_start_time = datetime(expected_start_time, '-9 days') || '.000000', "
                "next_scheduled_start_time = datetime(next_scheduled_start_time, '-9 days') || '.000000' WHERE id = ?",
                [run],
            )
    second = Up(workspace, "noise", tmp_path, words=words)
    try:
        ended = "SELECT state_name FROM flow_run WHERE state_type = 'COMPLETED' ORDER BY state_name"
        assert soon(lambda: len(rows(database, ended)) == 3)
        assert [name for (name,) in rows(database, ended)] == ["Completed", "Skipped", "Skipped"]
        assert second.ask(f"/deployments/{second.deployment('ganpipe/paused')}")[1]["paused"]
    finally:
        second.process.send_signal(signal.SIGTERM)
        second.process.wait(90)


@pytest.mark.slow
def test_a_thousand_images_that_arrive_during_a_run_are_one_further_run(
    workspace: Workspace, tmp_path: Path
) -> None:
    """They come in three parts. The first run for them waits, the others are skipped; what waits sees them all."""
    folder, database = fill_folder(tmp_path / "watched", 150), workspace.state / "prefect" / "prefect.db"
    words = ["--watch", str(folder), "--set", "watch.quiet_s=2", "--set", "watch.at_most_every=1m"]
    up = Up(workspace, "noise", tmp_path, words=words)
    try:
        finished = "SELECT name FROM flow_run WHERE state_name = 'Completed'"
        soon(lambda: rows(database, finished))
        long = up.start_run(overrides=overrides_of(LONG))
        soon(lambda: '"running"' in "".join(path.read_text() for path in workspace.runs.glob("*/run.json")))
        log = workspace.root / "up.log"
        for part, seeds in enumerate((range(1000, 1400), range(1400, 1800), range(1800, 2000))):
            for seed in seeds:
                noise_image(seed, (8, 8)).save(folder / f"{seed}.png")
            soon(lambda part=part: log.read_text().count(" new images; noise has ") == part + 2)
        waits = "SELECT name FROM flow_run WHERE state_name = 'Waiting'"
        soon(lambda: len(rows(database, waits)) == 1)
        up.ask(f"/flow_runs/{long}/set_state", {"state": {"type": "CANCELLING"}})
        soon(lambda: len(rows(database, finished)) == 2)
        assert not rows(database, "SELECT name FROM flow_run WHERE state_type IN ('FAILED', 'CRASHED')")
        trained = [read_json(path) for path in workspace.runs.glob("*/run.json")]
        newest = versions_of(workspace, "noise")[-1]
        assert newest["images"] == 1150
        assert newest["version"] in {record["version"] for record in trained if record["state"] == "finished"}
        assert len([record for record in trained if record["state"] == "finished"]) == 2
    finally:
        up.process.send_signal(signal.SIGTERM)
        up.process.wait(90)


@pytest.mark.slow
def test_an_archive_of_200_mb_that_arrives_at_1_mb_a_second_is_imported_once_and_whole(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder, log = fill_folder(tmp_path / "watched", 12), workspace.root / "up.log"
    with zipfile.ZipFile(tmp_path / "large.zip", "w") as archive:
        for seed in range(64):
            noise_image(1000 + seed, (1024, 1024)).save(tmp_path / "image.png", compress_level=1)
            archive.write(tmp_path / "image.png", f"{seed}.png")
    data = (tmp_path / "large.zip").read_bytes()
    assert len(data) > 200e6
    up = Up(workspace, "noise", tmp_path, words=["--watch", str(folder), "--set", "watch.retrain=no"])
    try:
        soon(lambda: "12 new images" in log.read_text())
        with (folder / "large.zip").open("wb", buffering=0) as file:
            for begin in range(0, len(data), 2**20):
                file.write(data[begin : begin + 2**20])
                time.sleep(1)
        assert log.read_text().count(" new images; noise has ") == 1, "a part of it was read"
        soon(lambda: "64 new images; noise has 76 images" in log.read_text())
        assert "refused" not in log.read_text()
    finally:
        up.process.send_signal(signal.SIGTERM)
        up.process.wait(90)
