"""Slow: MLflow and Prefect on PostgreSQL, and runs that a worker of a work pool starts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

import ganpipe
from ganpipe.compute.processes import start_process, stop_process
from ganpipe.stores.workspace import Workspace
from tests.conftest import copied
from tests.slow.postgres import Postgres, find_programs, running_postgres
from tests.slow.processes import answer, environment, overrides_of, soon
from tests.slow.teams import prefect, running_mlflow, running_prefect

psycopg2 = pytest.importorskip(
    "psycopg2", reason="psycopg2 is not installed: pip install 'ganpipe[postgres]'"
)

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
FIRST_USE = """
import sys
from ganpipe.stores.workspace import open_workspace
place = open_workspace(sys.argv[1])
place.activate()
from ganpipe.stores.mlflow_runs import Tracker
print(Tracker(place).experiment("noise"))
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with running_postgres(programs) as server:
        yield server


def ask(postgres: Postgres, database: str, question: str) -> list[tuple[Any, ...]]:
    with closing(
        psycopg2.connect(f"postgresql://postgres@127.0.0.1:{postgres.port}/{database}")
    ) as connection:
        cursor = connection.cursor()
        cursor.execute(question)
        return list(cursor.fetchall())


@pytest.mark.slow
def test_of_five_first_uses_at_once_each_finds_the_tables(postgres: Postgres, tmp_path: Path) -> None:
    """MLflow's own steps fail if two processes make the tables at once."""
    around = environment(MLFLOW_TRACKING_URI=f"postgresql://{postgres.create('first_use')}")
    command = [sys.executable, "-c", FIRST_USE, str(tmp_path)]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(command, env=around, stdout=pipe, stderr=pipe, text=True) for _ in range(5)]
    told = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0] * 5, told
    assert {out for out, _ in told} == {"1\n"}
    ((place,),) = ask(postgres, "first_use", "SELECT artifact_location FROM experiments WHERE name = 'noise'")
    assert place == f"{(tmp_path / '.ganpipe/mlartifacts').as_uri()}/noise", "nothing is written elsewhere"


@pytest.mark.slow
def test_of_five_runs_that_a_worker_starts_at_once_one_trains_and_four_are_skipped(
    workspace: Workspace, added_noise: Path, postgres: Postgres, tmp_path: Path
) -> None:
    copied(added_noise, workspace)
    runs, flows = f"postgresql://{postgres.create('mlflow')}", postgres.create("prefect")
    stores = ["--backend-store-uri", runs, "--artifacts-destination", str(tmp_path / "artifacts")]
    with (
        running_mlflow(tmp_path, *stores) as mlflow,
        running_prefect(tmp_path, f"postgresql+asyncpg://{flows}") as client,
    ):
        around = environment(MLFLOW_TRACKING_URI=mlflow, **client)
        prefect(workspace.root, around, "work-pool", "create", "ganpipe-process", "--type", "process")
        file = Path(ganpipe.__file__).parents[1] / "prefect.yaml"
        prefect(workspace.root, around, "deploy", "--prefect-file", str(file), "-n", "process")
        states = run_five(workspace.root, around, client["PREFECT_API_URL"], tmp_path / "worker.log")
        told = answer(workspace.root, "status", MLFLOW_TRACKING_URI=mlflow, **client)
    assert sorted(name for name, _ in states) == ["Completed", *["Skipped"] * 4], states
    assert all("is training" in message for name, message in states if name == "Skipped")

    ((status, verdict),) = ask(
        postgres,
        "mlflow",
        "SELECT status, value FROM runs JOIN tags USING (run_uuid) WHERE key = 'verdict'",
    )
    assert (status, [run["verdict"] for run in told["runs"]]) == ("FINISHED", [verdict])
    assert ask(postgres, "prefect", "SELECT count(*) FROM flow_run") == [(5,)]
    ((run, experiment, note),) = ask(
        postgres,
        "mlflow",
        "SELECT run_uuid, experiment_id, value FROM runs JOIN tags USING (run_uuid) WHERE key = 'mlflow.note.content'",
    )
    ((flow_run, link),) = ask(
        postgres, "prefect", "SELECT flow_run_id, data FROM artifact WHERE key = 'mlflow-run'"
    )
    assert f"({client['PREFECT_API_URL'].removesuffix('/api')}/" in note
    assert f"/flow-run/{flow_run})" in note
    assert f"{mlflow}/#/experiments/{experiment}/runs/{run}?workflowType=machine_learning)" in str(link)
    assert [model["name"] for model in told["models"]] == ["ganpipe-noise"]
    assert [sentence.partition(" are kept by ")[2].split()[0] for sentence in told["elsewhere"]] == [
        mlflow,
        client["PREFECT_API_URL"],
    ]


def run_five(root: Path, around: dict[str, str], api: str, log: Path) -> list[tuple[str, str]]:
    """The names and messages of the states in which five runs end that are asked for at once."""
    worker = ["-m", "prefect", "worker", "start", "--pool", "ganpipe-process", "--install-policy", "never"]
    process = start_process([sys.executable, *worker], around, log)
    try:
        deployment = call(f"{api}/deployments/name/ganpipe/process")["id"]
        parameters = {"dataset": "noise", "overrides": overrides_of({})}
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        for _ in range(5):
            call(f"{api}/deployments/{deployment}/create_flow_run", body)

        def ended() -> list[tuple[str, str]] | None:
            found = [run["state"] for run in call(f"{api}/flow_runs/filter", {})]
            if any(state["type"] not in ENDED for state in found):
                return None
            return [(state["name"], state["message"] or "") for state in found]

        return list(soon(ended, 500))
    finally:
        stop_process(process)


def call(url: str, body: Any = None) -> Any:
    """Sends a request to Prefect's server, and returns the answer."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, {"Content-Type": "application/json"}), timeout=30) as reply:  # noqa: S310
        return json.loads(reply.read())
