"""Slow: kills at random instants over the whole chain, by hand and, in nine ways, below `ganpipe up`."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from ganpipe.services.recovery import find_unsettled
from ganpipe.stores.addresses import running_servers
from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.workspace import Workspace
from tests.conftest import copied
from tests.slow.processes import Up, answer, half_done, overrides_of, processes_of, soon, start, words_of

SEEDS = range(5)  # one training each; some end, some are still at work when the last kill falls
IMAGES = 6000


def sets(seed: int) -> dict[str, object]:
    return {
        "training.seed": seed,
        "training.total_images": IMAGES,
        "training.log_every_images": 600,
        "training.save_every_images": 600,
        "training.grid_every_images": 3000,
    }


def killed_run(workspace: Workspace, seed: int, instant_s: float) -> None:
    process = start(workspace.root, "run", "--dataset", "noise", *words_of(sets(seed)))
    time.sleep(instant_s)
    process.kill()
    process.wait()


def signal_up(signum: int) -> Callable[[Up], None]:
    """Sends a signal to `up` itself."""
    return lambda up: up.process.send_signal(signum)


def kill_child(name: str) -> Callable[[Up], None]:
    """Kills a child of `up`, which goes on, and `up` some seconds later."""

    def kill(up: Up) -> None:
        if child := up.child(name):
            os.kill(child, signal.SIGKILL)
            time.sleep(4)
        up.process.kill()

    return kill


def kill_all(up: Up) -> None:
    """Kills every process at once, as a power cut does."""
    for pid in [up.process.pid, *up.descendants()]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


WAYS: tuple[Callable[[Up], None], ...] = (
    *map(signal_up, (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)),
    *map(kill_child, ("flows.deployments", "mlflow", "prefect_server", "ganpipe.dashboard")),
    kill_all,
)


def killed_up(
    workspace: Workspace, scratch: Path, seed: int, instant_s: float, kill: Callable[[Up], None]
) -> None:
    """The instant is counted from the start of a run, or from the start of `up` where it is below zero."""
    up = Up(workspace, "noise", scratch, ready=False)
    if instant_s < 0:
        time.sleep(-instant_s)
    else:
        up.servers = soon(lambda: running_servers(workspace))
        up.start_run(overrides=overrides_of(sets(seed)))
        time.sleep(instant_s)
    kill(up)
    up.process.wait(timeout=120)  # under nohup, `up` ignores SIGHUP and would never end


def open_in_prefect(workspace: Workspace) -> list[tuple[str, str]]:
    """Flow and task runs that say that they are at work, or about to be."""
    found = []
    with closing(sqlite3.connect(workspace.state / "prefect" / "prefect.db")) as database:
        for table in ("flow_run", "task_run"):
            found += database.execute(
                f"SELECT name, state_name FROM {table} "  # noqa: S608
                "WHERE state_type IN ('RUNNING', 'PENDING', 'CANCELLING')"
            ).fetchall()
    return found


def trainings(workspace: Workspace, status: str) -> list[str]:
    """Ids of MLflow's runs in that status."""
    client = Tracker(workspace).client
    experiments = [e.experiment_id for e in client.search_experiments()]
    return [r.info.run_id for r in client.search_runs(experiments, f"attributes.status = '{status}'")]


@pytest.mark.slow
def test_kills_leave_nothing_stuck_after_one_recovery_and_the_work_is_done_once(
    workspace: Workspace, added_noise: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    copied(added_noise, workspace)
    rng, kills = random.Random(2), request.config.getoption("--kills")
    for kill in range(kills):
        seed = kill * len(SEEDS) // kills
        if kill % 2:
            instant_s = rng.choice([-rng.uniform(0, 12), rng.uniform(0, 30)])
            killed_up(workspace, tmp_path, seed, instant_s, WAYS[kill // 2 % len(WAYS)])
        else:
            killed_run(workspace, seed, rng.uniform(0.5, 20))
    soon(lambda: not processes_of(workspace.root), within_s=90)

    answer(workspace.root, "doctor", "--fix")  # as every command that starts work does it first
    assert find_unsettled(workspace) == []
    assert open_in_prefect(workspace) == []
    assert trainings(workspace, "RUNNING") == []
    assert half_done(workspace.root) == []
    assert processes_of(workspace.root) == []

    results = [answer(workspace.root, "run", "--dataset", "noise", *words_of(sets(seed))) for seed in SEEDS]
    runs = [str(result["mlflow_run_id"]) for result in results]
    assert len(set(runs)) == len(SEEDS)
    for run in runs:
        curve = Tracker(workspace).client.get_metric_history(run, "loss_g")
        assert [point.step for point in curve] == list(range(600, IMAGES + 1, 600))
    records = list(workspace.runs.glob("*/run.json"))
    assert len(records) == len(SEEDS), "a training was begun twice"
    undisturbed = Workspace(tmp_path / "undisturbed" / "workspace")
    shutil.copytree(added_noise, undisturbed.root.parent)
    whole, killed = (
        answer(place.root, "train", "--dataset", "noise", *words_of(sets(0)))
        for place in (undisturbed, workspace)
    )
    assert killed["weights_sha256"] == whole["weights_sha256"]
