"""Refusals of `ganpipe up` before it starts anything, the ports that it takes, and what it tells its runner."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ganpipe.commands.up import _options
from ganpipe.compute.process_identity import start_time
from ganpipe.errors import GanpipeError
from ganpipe.parser.root import build_parser
from ganpipe.services.background import systemd_unit
from ganpipe.services.prefect import choose_port, free_port
from ganpipe.services.up import UpOptions, _runner_command, check_options, stop_up
from ganpipe.settings.schedules import Schedule
from ganpipe.stages.requests import RunRequest
from ganpipe.stores.addresses import Addresses, announce, announced
from ganpipe.stores.secret import workspace_secret
from ganpipe.stores.workspace import Workspace


def options(
    workspace: Workspace,
    host: str = "127.0.0.1",
    watch: Path | None = None,
    schedules: Sequence[Schedule] = (),
) -> UpOptions:
    request = RunRequest(
        str(workspace.root), None, "demo", [f"style.styles={workspace.root.parent / 'styles'}"]
    )
    return UpOptions(request, tuple(schedules), watch, host, None, None, None, "flows.deployments")


@pytest.mark.parametrize("inside", [".ganpipe/runs", "data/raw", "data/raw/cats/files", "data/styles"])
def test_what_ganpipe_fills_itself_is_not_watched(workspace: Workspace, inside: str) -> None:
    folder = workspace.root / inside
    folder.mkdir(parents=True)
    with pytest.raises(GanpipeError, match="a folder in which ganpipe keeps data"):
        check_options(options(workspace, watch=folder))


def test_a_watched_folder_is_one_of_the_command_line_or_of_params_yaml(
    workspace: Workspace, tmp_path: Path
) -> None:
    def watched(*words: str) -> Path | None:
        return _options(build_parser().parse_args(["up", *words]), workspace).watch

    assert watched() is None
    workspace.params_file.write_text("watch:\n  folder: inbox\n  retrain: no\n")
    assert watched() == workspace.root / "inbox"
    assert watched("--watch", str(tmp_path)) == tmp_path


@pytest.mark.parametrize(
    ("retrain", "is_watched", "retrains"),
    [("auto", False, False), ("auto", True, True), ("yes", False, True), ("no", True, False)],
)
def test_new_data_start_runs_if_a_folder_is_watched_or_if_that_is_asked_for(
    workspace: Workspace, tmp_path: Path, retrain: str, is_watched: bool, retrains: bool
) -> None:
    found = options(workspace, watch=tmp_path if is_watched else None)
    found = replace(found, request=found.request.with_overrides([f"watch.retrain={retrain}"]))
    assert found.retrains() is retrains
    assert ("--on-new-data" in _runner_command(found)) is retrains


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "example.org", ""])  # noqa: S104
def test_it_serves_this_machine_only(workspace: Workspace, host: str) -> None:
    with pytest.raises(GanpipeError, match="serves this machine only"):
        check_options(options(workspace, host))


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (Schedule("nightly", cron="0 25 * * *"), "of schedule nightly is no cron line"),
        (Schedule("nightly", cron="@tomorrow"), "of schedule nightly is no cron line"),
        (Schedule("n", interval_s=60, overrides=("training.seeds=1",)), "did you mean training.seed"),
    ],
)
def test_a_wrong_schedule_is_refused_before_anything_starts(
    workspace: Workspace, schedule: Schedule, said: str
) -> None:
    with pytest.raises(GanpipeError, match=said):
        check_options(options(workspace, schedules=[schedule]))


def test_checking_needs_no_torch(workspace: Workspace) -> None:
    program = (
        "import sys; from tests.services.test_up import options; from pathlib import Path\n"
        "from ganpipe.services.up import check_options; from ganpipe.stores.workspace import Workspace\n"
        f"check_options(options(Workspace(Path({str(workspace.root)!r}))))\n"
        "print({'torch', 'mlflow', 'prefect'} & set(sys.modules))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "set()\n"


def test_the_runner_at_rest_holds_neither_torch_nor_mlflow() -> None:
    program = "import sys, flows.deployments; print({'torch', 'mlflow', 'dvc', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_usual_port_that_is_taken_is_replaced_and_a_named_one_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        usual = taken.getsockname()[1]
        found = choose_port(None, usual, "mlflow")
        assert usual < found < usual + 100
        assert f"Port {usual} is in use; mlflow takes {found}." in capsys.readouterr().err
        assert choose_port(None, usual, "mlflow", taken=(found,)) not in (usual, found)
        with pytest.raises(GanpipeError, match=f"Port {usual} for the mlflow is in use"):
            choose_port(usual, 5000, "mlflow")
    free = free_port()
    assert choose_port(free, 5000, "mlflow") == free
    assert choose_port(None, free, "mlflow") == free
    for wrong in (0, -1, 65536):
        with pytest.raises(GanpipeError, match="must be from 1 to 65535"):
            choose_port(wrong, 5000, "mlflow")


def test_the_runner_is_told_what_runs_may_read_and_no_secret(workspace: Workspace, tmp_path: Path) -> None:
    scheduled = Schedule("n", interval_s=60, overrides=(f"style.contents={tmp_path / 'contents'}",))
    command = _runner_command(options(workspace, watch=tmp_path / "watched", schedules=[scheduled]))
    named = [command[k + 1] for k, word in enumerate(command) if word == "--may-read"]
    assert set(named) == {str((tmp_path / name).resolve()) for name in ("styles", "contents", "watched")}
    assert workspace_secret(workspace) not in " ".join(command)


def test_the_watched_folder_and_its_rule_are_announced_with_the_servers(
    workspace: Workspace, tmp_path: Path
) -> None:
    workspace.params_file.write_text("watch:\n  min_new_images: 50\n  mode: mirror\n")
    assert options(workspace).watched_folder() is None
    watched = options(workspace, watch=tmp_path).watched_folder()
    announce(workspace, Addresses(os.getpid(), start_time(os.getpid()), "", "", watched=watched))
    found = announced(workspace)
    assert found is not None
    assert found.watched == watched
    assert watched is not None
    assert (watched.folder, watched.what()) == (str(tmp_path), "what is in it")
    assert watched.rule() == "50 new images or 5% changed, at most every 1h"


def test_down_stops_the_process_that_was_announced_and_no_other(workspace: Workspace) -> None:
    assert not stop_up(workspace)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        announce(workspace, Addresses(process.pid, "another start", "", ""))
        assert not stop_up(workspace)
        assert process.poll() is None
        announce(workspace, Addresses(process.pid, start_time(process.pid), "", ""))
        assert stop_up(workspace)
        assert process.wait(10) == -signal.SIGTERM


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
def test_the_unit_is_one_that_systemd_reads(tmp_path: Path) -> None:
    root = tmp_path / 'pictures of 100% "cats"'
    root.mkdir()
    unit = tmp_path / "ganpipe.service"
    unit.write_text(systemd_unit(Workspace(root), ["up", "--workspace", str(root), "--cron", "0 2 * * *"]))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "100%%" in unit.read_text()
