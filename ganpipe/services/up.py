"""`ganpipe up`: Prefect's server, MLflow's, the runner of the deployments and the folder watcher, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from ganpipe.compute.process_identity import start_time
from ganpipe.compute.processes import start_process, stop_process
from ganpipe.compute.signals import STOP_SIGNALS, is_ignored, leave_terminal
from ganpipe.console import say
from ganpipe.errors import GanpipeError
from ganpipe.services.mlflow import start_mlflow
from ganpipe.services.prefect import first_start, free_port, point_to, start_prefect, wait_until_ready
from ganpipe.services.prefect_server import HOST, HOSTS, SIGN_IN_PATH
from ganpipe.services.timezone import describe_timezone
from ganpipe.services.watcher import watch_folder
from ganpipe.stages.requests import RunRequest
from ganpipe.stages.served import named_paths
from ganpipe.stores.addresses import Addresses, announce, up_file
from ganpipe.stores.secret import secret_file, workspace_secret
from ganpipe.stores.workspace import Workspace

RUNNER_PATIENCE_S = 60.0  # a training in progress finishes its step and writes its checkpoint


@dataclass(frozen=True)
class UpOptions:
    """The options of `ganpipe up`.

    `runner`: the module that serves the deployments; `watched`: the deployment that new images run.
    """

    request: RunRequest
    cron: str | None
    watch: Path | None
    host: str
    prefect_port: int
    mlflow_port: int
    runner: str
    watched: str


@dataclass
class ProcessGroup:
    """Processes that start and stop together."""

    members: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def dead(self) -> str | None:
        """The name of one that has ended by itself."""
        return next((name for name, process in self.members.items() if process.poll() is not None), None)

    def stop_all(self) -> None:
        """Stops the last one first: the runner's SIGTERM lets a training write its checkpoint."""
        for name in reversed(self.members):
            stop_process(self.members[name], RUNNER_PATIENCE_S if name == "runner" else 10.0)


def up(workspace: Workspace, options: UpOptions) -> None:
    """Serves until a signal; then everything that was started is stopped.

    Raises:
        GanpipeError: a port is in use, a server does not start or dies, another `up` runs, or the cron line is wrong.
    """
    check_options(workspace, options)
    with workspace.lock("up", wait_s=0.0):
        group, stop_now = ProcessGroup(), _stop_event()
        try:
            addresses = _start_servers(workspace, options, group)
            group.members["runner"] = start_process(
                _runner_command(options), dict(os.environ), workspace.state / "logs" / "runner.log"
            )
            announce(workspace, addresses)
            _tell(workspace, addresses, options)
            if options.watch:
                _start_watcher(options.watch, options.watched, stop_now)
            while not stop_now.wait(0.5):
                if name := group.dead():
                    raise GanpipeError(f"The {name} has stopped; its log is in {workspace.state / 'logs'}.")
        finally:
            up_file(workspace).unlink(missing_ok=True)
            try:
                say("Stopping …")
            finally:  # even if nobody reads it any more
                group.stop_all()
        say("Everything has stopped.")


def check_options(workspace: Workspace, options: UpOptions) -> None:
    """Checks everything before anything starts, and points Prefect in this process and its children to the server."""
    if options.host not in HOSTS:
        raise GanpipeError(
            f"--host {options.host}: `ganpipe up` serves this machine only ({', '.join(HOSTS)}), because MLflow's pages "
            f"have no password; from another machine use ssh -L {options.prefect_port}:{HOST}:{options.prefect_port} "
            f"-L {options.mlflow_port}:{HOST}:{options.mlflow_port} MACHINE."
        )
    if "PREFECT_API_URL" in os.environ:
        raise GanpipeError(
            "PREFECT_API_URL is set, and `ganpipe up` would start a second server; unset it first."
        )
    if options.watch and not options.watch.is_dir():
        raise GanpipeError(f"There is no folder {options.watch} to watch.")
    free_port(options.prefect_port, "prefect")
    free_port(options.mlflow_port, "mlflow")
    point_to(workspace, f"http://{HOST}:{options.prefect_port}/api")
    if options.cron:
        from prefect.client.schemas.schedules import CronSchedule
        from pydantic import ValidationError

        try:
            CronSchedule(cron=options.cron)
        except (ValidationError, ValueError):
            raise GanpipeError(
                f"{options.cron!r} is no cron line; five fields such as '0 2 * * *' are expected."
            ) from None
    options.request.settings()


def _stop_event() -> threading.Event:
    event = threading.Event()

    def note(signum: int, _: FrameType | None) -> None:
        if signum == signal.SIGHUP:
            leave_terminal()
        event.set()

    for signum in STOP_SIGNALS:
        if not is_ignored(signum):
            signal.signal(signum, note)
    return event


def _start_servers(workspace: Workspace, options: UpOptions, group: ProcessGroup) -> Addresses:
    logs = workspace.state / "logs"
    prefect_api, mlflow = os.environ["PREFECT_API_URL"], os.environ["MLFLOW_TRACKING_URI"]
    say("Starting the servers …")
    with first_start(workspace):
        group.members["Prefect server"] = prefect_server = start_prefect(
            workspace, options.prefect_port, services=True
        )
        if not mlflow.startswith(("http://", "https://")):  # otherwise the user's own server keeps the runs
            mlflow = f"http://{HOST}:{options.mlflow_port}"
            group.members["MLflow server"] = start_mlflow(workspace, options.mlflow_port)
        wait_until_ready(
            f"{prefect_api}/health", prefect_server, "Prefect's server", logs / "prefect-server.log"
        )
    if mlflow_server := group.members.get("MLflow server"):
        wait_until_ready(f"{mlflow}/health", mlflow_server, "MLflow's server", logs / "mlflow-server.log")
    from ganpipe.services.recovery import crash_orphans  # imports Prefect, which now knows its server

    if orphans := crash_orphans(workspace):
        say(f"{orphans} run(s) had lost their process and are now marked as crashed.")
    return Addresses(os.getpid(), start_time(os.getpid()), prefect_api, mlflow)


def _runner_command(options: UpOptions) -> list[str]:
    """The process that registers the deployments and executes their runs."""
    request = options.request
    command = [
        sys.executable,
        "-m",
        options.runner,
        "--workspace",
        request.workspace,
        "--cron",
        options.cron or "",
    ]
    command += ["--dataset", request.dataset or "", "--preset", request.preset or ""]
    for override in request.overrides:
        command += ["--set", override]
    for path in named_paths(Path(request.workspace), request.overrides, options.watch):
        command += ["--may-read", path]
    return [*command, "--parent", str(os.getpid())]


def _tell(workspace: Workspace, addresses: Addresses, options: UpOptions) -> None:
    by_hand = "runs are started by hand or by new images" if options.watch else "runs are started by hand"
    pages = addresses.prefect_api.removesuffix("/api")
    if sys.stderr.isatty():
        say(f"Prefect  {pages}{SIGN_IN_PATH}#{workspace_secret(workspace)}")
    else:  # the output may be a log
        say(f"Prefect  {pages} (the password is in {secret_file(workspace)})")
    say(f"MLflow   {addresses.mlflow}")
    say(f"Schedule {f'{options.cron} ({describe_timezone()})' if options.cron else f'none ({by_hand})'}")
    if options.watch:
        say(f"Watching {options.watch}: new images start a run.")
    say("Ctrl-C stops everything.")


def _start_watcher(folder: Path, deployment: str, stop_now: threading.Event) -> None:
    def start_run() -> None:
        start_deployment(deployment, {"source": str(folder)})

    threading.Thread(target=watch_folder, args=(folder, start_run, stop_now), daemon=True).start()


def start_deployment(name: str, parameters: dict[str, Any]) -> None:
    """Asks the server for a run of a deployment (`FLOW/NAME`)."""
    from prefect.deployments import run_deployment

    run_deployment(name, parameters=parameters, timeout=0)
