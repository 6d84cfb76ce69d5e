"""`ganpipe up`: Prefect's server, MLflow's, the scheduled deployment and the watcher, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ganpipe.compute import processes
from ganpipe.console import QUIET, say
from ganpipe.errors import GanpipeError
from ganpipe.services import prefect
from ganpipe.stages.requests import RunRequest
from ganpipe.stores.workspace import Workspace

DEPLOYMENT = "scheduled"
QUIET_S = 3.0  # a watched folder counts as complete when nothing has changed for so long


@dataclass(frozen=True)
class UpOptions:
    """What `ganpipe up` was asked for."""

    request: RunRequest
    cron: str | None
    watch: Path | None
    prefect_port: int
    mlflow_port: int


@dataclass
class ProcessGroup:
    """The processes that live and end together."""

    members: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def dead(self) -> str | None:
        """The name of one that has ended by itself."""
        return next((name for name, process in self.members.items() if process.poll() is not None), None)

    def stop_all(self) -> None:
        """The runner first: its SIGTERM lets a training write its checkpoint."""
        for name in reversed(self.members):
            patience_s = 60.0 if name == "runner" else 10.0
            processes.stop_process(self.members[name], patience_s)


def up(workspace: Workspace, options: UpOptions) -> None:
    """Serves until a signal; then everything that was started is stopped.

    Raises:
        GanpipeError: a port is in use, a server does not start or dies, another `up` runs, or the cron is wrong.
    """
    _prepare(options)
    with workspace.lock("up", wait_s=0.0):
        household = ProcessGroup()
        stop_now = _stop_event()
        try:
            addresses = _start_servers(workspace, options, household)
            _start_runner(workspace, options, household)
            prefect.announce(workspace, addresses)
            say(f"Prefect  {addresses.prefect_api.removesuffix('/api')}")
            say(f"MLflow   {addresses.mlflow}")
            say(
                f"Schedule {options.cron or 'none (runs are started by hand' + (' or by new images)' if options.watch else ')')}"
            )
            if options.watch:
                say(f"Watching {options.watch}: new images start a run.")
                threading.Thread(target=_watch, args=(options, stop_now), daemon=True).start()
            say("Ctrl-C stops everything.")
            while not stop_now.wait(0.5):
                if name := household.dead():
                    raise GanpipeError(
                        f"The {name} ended by itself; its last words are in {workspace.state / 'logs'}."
                    )
        finally:
            say("Stopping …")
            prefect.up_file(workspace).unlink(missing_ok=True)
            household.stop_all()
            say("Everything has stopped.")


def _prepare(options: UpOptions) -> None:
    """Checks everything that can be wrong, and points this process and its children to the servers to come."""
    if "PREFECT_API_URL" in os.environ:
        raise GanpipeError(
            "PREFECT_API_URL is set, and `ganpipe up` would start a second server; unset it first."
        )
    if options.watch and not options.watch.is_dir():
        raise GanpipeError(f"There is no folder {options.watch} to watch.")
    prefect.free_port(options.prefect_port, "prefect")
    prefect.free_port(options.mlflow_port, "mlflow")
    # Before Prefect is imported, here and in what follows: it reads its settings once.
    os.environ["PREFECT_API_URL"] = f"http://{prefect.HOST}:{options.prefect_port}/api"
    os.environ[prefect.MLFLOW_URL] = f"http://{prefect.HOST}:{options.mlflow_port}"
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
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: event.set())
    return event


def _start_servers(workspace: Workspace, options: UpOptions, household: ProcessGroup) -> prefect.Addresses:
    logs = workspace.state / "logs"
    household.members["Prefect server"] = prefect.start_prefect(
        workspace, options.prefect_port, services=True
    )
    household.members["MLflow server"] = _start_mlflow(workspace, options.mlflow_port)
    prefect_api, mlflow = os.environ["PREFECT_API_URL"], os.environ[prefect.MLFLOW_URL]
    say("Starting Prefect's and MLflow's servers …")
    prefect.wait_until_ready(
        f"{prefect_api}/health",
        household.members["Prefect server"],
        "Prefect's server",
        logs / "prefect-server.log",
    )
    prefect.wait_until_ready(
        f"{mlflow}/health", household.members["MLflow server"], "MLflow's server", logs / "mlflow-server.log"
    )
    from ganpipe.services.recovery import crash_orphans

    if orphans := crash_orphans():
        say(f"{orphans} run(s) had lost their process and are now marked as crashed.")
    return prefect.Addresses(os.getpid(), prefect_api, mlflow)


def _start_mlflow(workspace: Workspace, port: int) -> subprocess.Popen[bytes]:
    """MLflow's server over the same store that runs write to; one worker, no job runner."""
    uri = os.environ["MLFLOW_TRACKING_URI"]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        prefect.HOST,
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        uri,
        "--default-artifact-root",
        (workspace.state / "mlartifacts").as_uri(),
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log_file = workspace.state / "logs" / "mlflow-server.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        return processes.start_process(command, environment, log)


def _start_runner(workspace: Workspace, options: UpOptions, household: ProcessGroup) -> None:
    """The process that registers the deployment and executes its runs."""
    request = options.request
    arguments = ["--workspace", request.workspace, "--cron", options.cron or ""]
    arguments += ["--dataset", request.dataset or "", "--preset", request.preset or ""]
    for override in request.overrides:
        arguments += ["--set", override]
    log_file = workspace.state / "logs" / "runner.log"
    with log_file.open("ab") as log:
        command = [sys.executable, "-m", "flows.deployments", *arguments]
        household.members["runner"] = processes.start_process(command, os.environ | {QUIET: "1"}, log)


def _watch(options: UpOptions, stop_now: threading.Event) -> None:
    """Starts a run of the deployment whenever the watched folder has new or changed files and is quiet again."""
    folder = options.watch or Path()
    for _ in quiet_changes(folder, stop_now):
        try:
            start_run(options)
            say(f"{time.strftime('%H:%M:%S')} new images in {options.watch}: a run was started.")
        except Exception as error:  # the watcher must outlive a server that is busy for a moment
            say(
                f"The run for new images could not be started ({error}); it will be tried at the next change."
            )


def quiet_changes(folder: Path, stop_now: threading.Event) -> Iterator[None]:
    """Yields once for each burst of additions and changes below `folder`, QUIET_S after its end."""
    from watchfiles import Change, watch

    def added(change: Change, _: str) -> bool:
        return change is not Change.deleted

    for _ in watch(
        folder,
        watch_filter=added,
        debounce=int(QUIET_S * 4000),
        step=int(QUIET_S * 1000),
        stop_event=stop_now,
        raise_interrupt=False,
    ):
        yield


def start_run(options: UpOptions) -> None:
    """Asks the server for a run of the deployment that first adds the watched folder."""
    from prefect.deployments import run_deployment

    parameters = {"source": str(options.watch)} if options.watch else {}
    run_deployment(f"ganpipe/{DEPLOYMENT}", parameters=parameters, timeout=0)
