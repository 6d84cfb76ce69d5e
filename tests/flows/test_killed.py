"""A killed `ganpipe run`: which training the next `ganpipe up` resumes, and when it is let be."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect import deployments

from flows.killed import require_same, resume_killed
from flows.turns import Skipped
from ganpipe.services.recovery import find_killed_training
from ganpipe.stages.requests import RunRequest
from ganpipe.stages.run import compute_names
from ganpipe.stores.dataset_versions import open_version
from ganpipe.stores.prefect_database import PROCESS_TAG
from ganpipe.stores.run_records import RunRecord, new_record, run_folder, save_record
from ganpipe.stores.workspace import Workspace
from tests.conftest import TINY, copied

ASKED = {"dataset": "noise", "preset": "demo", "overrides": [f"{key}={value}" for key, value in TINY.items()]}
DEAD = "host/boot/1/1"


@pytest.fixture
def noise(workspace: Workspace, prepared_noise: Path) -> Workspace:
    """The dataset `noise`, and a Prefect database with no flow run."""
    copied(prepared_noise, workspace)
    folder = workspace.state / "prefect"
    folder.mkdir(exist_ok=True)
    with sqlite3.connect(folder / "prefect.db") as database:
        database.execute("CREATE TABLE flow (id, name)")
        database.execute("CREATE TABLE flow_run (id, flow_id, tags, parameters, deployment_id, start_time)")
        database.executemany("INSERT INTO flow VALUES (?, ?)", [("f", "ganpipe"), ("g", "ganpipe-gc")])
    return workspace


def flow_run(
    workspace: Workspace, id: str, process: str, at: str, flow: str = "f", by: str | None = None
) -> None:
    """A flow run in Prefect's database; `by`: the deployment that has started it."""
    given = json.dumps(ASKED | {"workspace": "/before/it/was/moved", "quiet": True, "if_busy": "leave"})
    row = (id, flow, json.dumps([PROCESS_TAG + process]), given, by, at)
    with sqlite3.connect(workspace.state / "prefect" / "prefect.db") as database:
        database.execute("INSERT INTO flow_run VALUES (?, ?, ?, ?, ?, ?)", row)


def request(workspace: Workspace, *overrides: str) -> RunRequest:
    return RunRequest(str(workspace.root), "noise", "demo", [*ASKED["overrides"], *overrides])


def training(workspace: Workspace, state: str, process: str = DEAD) -> RunRecord:
    """The record of a training with these settings."""
    settings = request(workspace).settings()
    version = open_version(workspace, "noise", settings.data).version
    record = new_record("noise", version, settings, compute_names(settings))
    run_folder(workspace, record.run_id).mkdir(parents=True, exist_ok=True)
    return save_record(workspace, replace(record, state=state, process=process))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The runs that Prefect is asked for: the deployment and the arguments of each."""
    asked: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(deployments, "run_deployment", lambda name, **rest: asked.append((name, rest)))
    return asked


def test_the_training_of_the_last_run_by_hand_is_resumed_with_its_settings(
    noise: Workspace, started: list[tuple[str, dict[str, Any]]]
) -> None:
    record = training(noise, "interrupted")
    flow_run(noise, "earlier", "host/boot/9/9", "2026-01-01 00:00:00")
    flow_run(noise, "killed", DEAD, "2026-01-02 00:00:00")
    flow_run(noise, "scheduled", "host/boot/2/2", "2026-01-03 00:00:00", by="deployment")
    flow_run(noise, "tidied", "host/boot/3/3", "2026-01-04 00:00:00", flow="g")
    resume_killed(noise)
    [(name, asked)] = started
    assert name == "ganpipe/scheduled"
    assert asked["parameters"] == ASKED | {"if_busy": "wait", "killed_run": record.run_id}
    assert asked["idempotency_key"] == "resume killed"
    require_same(noise, request(noise), record.run_id)


@pytest.mark.parametrize(
    ("state", "process", "later"),
    [
        ("cancelled", DEAD, False),  # by Ctrl-C
        ("finished", DEAD, False),
        ("running", DEAD, False),  # nobody has settled it: not known to be dead
        ("interrupted", "host/boot/5/5", False),  # `ganpipe train`, or resumed since by another process
        ("interrupted", DEAD, True),  # another `ganpipe run` came after it
    ],
)
def test_every_other_training_is_let_be(
    noise: Workspace, started: list[tuple[str, dict[str, Any]]], state: str, process: str, later: bool
) -> None:
    training(noise, state, process)
    flow_run(noise, "killed", DEAD, "2026-01-02 00:00:00")
    if later:
        flow_run(noise, "later", "host/boot/6/6", "2026-01-03 00:00:00")
    assert find_killed_training(noise) is None
    resume_killed(noise)
    assert started == []


def test_without_prefects_database_there_is_nothing_to_resume(workspace: Workspace) -> None:
    assert find_killed_training(workspace) is None


@pytest.mark.parametrize("state", ["interrupted", "finished"])
def test_a_run_that_would_train_something_else_is_skipped(noise: Workspace, state: str) -> None:
    record = training(noise, state)
    other = request(noise, "training.seed=5") if state == "interrupted" else request(noise)
    with pytest.raises(
        Skipped, match=f"run {record.run_id} was killed, and its data, settings or code have changed"
    ):
        require_same(noise, other, record.run_id)
