"""A failed run says why in one sentence, in Prefect and to whom it may concern."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ganpipe.files import read_json
from ganpipe.stores.successes import last_success
from ganpipe.stores.workspace import Workspace
from tests.services.receiver import receiving

SENTENCE = "cats has 12 images; 256 are needed."

# Prefect reads its address once, at its import: a process of its own.
PROGRAM = f"""
import sys
from pathlib import Path
from ganpipe.services.prefect import prefect_api
from ganpipe.stores.workspace import Workspace

place = Workspace(Path(sys.argv[1]))
place.activate()
with prefect_api(place):
    from prefect import flow
    from flows.stops import task
    from flows.works import Ended, run_alone
    from ganpipe.compute.locks import Busy
    from ganpipe.errors import GanpipeError
    from ganpipe.stages.requests import RunRequest

    for dataset, error in (
        ("sentence", GanpipeError({SENTENCE!r})),
        ("surprise", ZeroDivisionError("by planted-secret")),
        ("busy", Busy("Another ganpipe is busy.", "run x")),
        ("success", None),
    ):

        @task(name="break")
        def break_it() -> int:
            if error:
                raise error
            return 3

        @flow(validate_parameters=False)
        def run():
            request = RunRequest(str(place.root), dataset)
            return run_alone("retrain", request, "wait", lambda place: Ended(break_it(), message="Done."))

        state = run(return_state=True)
        try:
            state.result()
        except Exception as raised:
            assert raised is error or str(raised) == str(error), raised
        else:
            assert error is None

    from prefect import get_client
    from prefect.flow_engine import run_flow
    from flows.runner import PatientRunner

    @flow(validate_parameters=False)
    def stylize():
        request = RunRequest(str(place.root), "success")
        return run_alone("stylize", request, "wait", lambda place: Ended(3, message="Stylized."))

    deployment = PatientRunner().add_flow(stylize, name="from the gallery")
    with get_client(sync_client=True) as client:
        queued = client.create_flow_run_from_deployment(deployment)
    run_flow(stylize, flow_run=queued, return_type="state")
"""


@pytest.mark.slow
def test_a_failed_run_has_its_sentence_in_prefect_and_is_told_and_a_success_is_noted_of_its_deployment(
    workspace: Workspace, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"  # Prefect deploys the flows of files alone
    program.write_text(PROGRAM)
    with receiving() as receiver:
        workspace.params_file.write_text(f"notify: {{urls: {receiver.url()}}}")
        done = subprocess.run(
            [sys.executable, str(program), str(workspace.root)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"STORE_PASSWORD": "planted-secret"},
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        messages = sorted(message["message"] for message in receiver.wait(2))
    assert messages == [
        "retrain failed: Unexpected ZeroDivisionError: by ***",
        f"retrain failed: {SENTENCE}",
    ]
    with closing(sqlite3.connect(workspace.state / "prefect/prefect.db")) as database:

        def column(question: str) -> list[str]:
            return [str(value) for (value,) in database.execute(question)]

        states = "SELECT s.message FROM {0} r JOIN {0}_state s ON s.id = r.state_id ORDER BY r.created"
        flows, tasks = column(states.format("flow_run")), column(states.format("task_run"))
        logged = column("SELECT message FROM log WHERE name = 'prefect.flow_runs' AND level = 40")
        texts = json.dumps([flows, logged])
    assert flows == [
        SENTENCE,
        "Unexpected ZeroDivisionError: by ***",
        "Another ganpipe is busy.",
        "Done.",
        "Stylized.",
    ]
    assert tasks[0] == SENTENCE
    assert [("Traceback" in line, SENTENCE in line) for line in logged] == [
        (False, True),
        (True, False),
        (False, False),
    ]
    assert "planted-secret" not in texts
    assert last_success(workspace, "stylize", "from the gallery") is not None
    assert list(read_json(workspace.state / "successes.json")) == ["stylize from the gallery"], "by hand"
