"""A workspace with a champion and a challenger; and a real Prefect server with the deployments of a `ganpipe up`.

The server has no runner: nothing that is queued begins.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import ganpipe
from ganpipe.compute.process_identity import start_time
from ganpipe.compute.processes import stop_process
from ganpipe.evaluation.verdict import Evaluation, Metric
from ganpipe.services.prefect import free_port, point_to, start_prefect, wait_until_ready
from ganpipe.settings.schema import Settings
from ganpipe.stages import promote
from ganpipe.stages.data import write_page
from ganpipe.stores.addresses import Addresses, WatchedFolder, announce
from ganpipe.stores.dataset_versions import open_version
from ganpipe.stores.run_records import all_records, save_record
from ganpipe.stores.workspace import Workspace
from tests.conftest import activated, copied
from tests.stages.test_stages import with_runs

# As the runner does when it starts; it would then wait for runs.
REGISTER = """
import sys
from flows.deployments import deployments_of, register
from flows.runner import PatientRunner
from ganpipe.settings.schedules import parse_schedule
from ganpipe.stages.requests import RunRequest
runner = PatientRunner()
request = RunRequest(sys.argv[1], "noise", "demo", ["training.seed=3"])
schedules = [parse_schedule("name: nightly, cron: 0 2 * * *, timezone: Europe/Berlin, minutes: 5"),
             parse_schedule("name: judge, interval: 6h, work: evaluate-champion")]
for row in deployments_of(request, schedules, on_new_data=True):
    register(runner, row)
"""
WATCHED = WatchedFolder("/photos/<b>", "noise", "add", True, 50, 5.0, "1h")


@pytest.fixture(scope="session")
def judged(
    tmp_path_factory: pytest.TempPathFactory, prepared_noise: Path, mlflow_database: Path, settings: Settings
) -> Path:
    """The dataset `noise` and two runs on it with model versions: the first is champion, the second challenger."""
    runs = [settings, settings.with_values({"training.seed": 1, "loss.gamma": 2.0})]
    folder = with_runs(tmp_path_factory.mktemp("judged"), prepared_noise, mlflow_database, *runs)
    with activated(folder / "workspace") as place:
        version = open_version(place, "noise", settings.data)
        write_page(place, version, settings.data)
        by_hand = settings.with_values({"evaluation.promote": "never"})
        for record in sorted(all_records(place), key=lambda r: r.resolved().training.seed):
            first = record.resolved().training.seed == 0
            verdict = Evaluation(
                {"kd": Metric(12.5, "test", 24, 3.25)}, "fair", ["It is blurred."], "Train longer."
            )
            record = save_record(place, replace(record, evaluation=verdict))
            promote.register_model(place, record, verdict, version, settings if first else by_hand)
    return folder


@pytest.fixture
def noise(workspace: Workspace, judged: Path) -> Workspace:
    return copied(judged, workspace)


@pytest.fixture(scope="session")
def upped(tmp_path_factory: pytest.TempPathFactory, added_noise: Path) -> Iterator[Workspace]:
    """A workspace with the dataset `noise`, and what a running `ganpipe up` has announced and registered."""
    folder = tmp_path_factory.mktemp("upped")
    with activated(folder / "workspace") as place:
        copied(added_noise, place)
        port = free_port()
        url = f"http://127.0.0.1:{port}/api"
        point_to(place, url)
        process = start_prefect(place, port, keep_days=30)
        wait_until_ready(
            f"{url}/health", process, "Prefect's server", place.state / "logs" / "prefect-server.log"
        )
        register(place, url)
        announce(place, Addresses(os.getpid(), start_time(os.getpid()), url, "", watched=WATCHED))
    yield place
    stop_process(process)


def register(workspace: Workspace, url: str) -> None:
    """Registers the deployments at the server of this address, as each start of `ganpipe up` does."""
    with activated(workspace.root):
        point_to(workspace, url)
        subprocess.run(
            [sys.executable, "-c", REGISTER, str(workspace.root)],
            env={**os.environ, "PYTHONPATH": str(Path(ganpipe.__file__).parents[1])},
            check=True,
            capture_output=True,
        )
