"""`ganpipe up`: the dashboard, Prefect's server, MLflow's, the runner and the folder watcher, until Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType

from ganpipe.compute.process_identity import lives, start_time
from ganpipe.compute.processes import start_process
from ganpipe.compute.signals import STOP_SIGNALS, is_ignored, leave_terminal
from ganpipe.console import say
from ganpipe.errors import GanpipeError
from ganpipe.imaging.paths import STATE_FOLDER, is_workspace_folder
from ganpipe.services.alarms import Alarms
from ganpipe.services.folder_import import import_in_process
from ganpipe.services.mlflow import start_mlflow
from ganpipe.services.notifications import Notification, check_urls, notify
from ganpipe.services.prefect import choose_port, first_start, point_to, start_prefect, wait_until_ready
from ganpipe.services.prefect_server import HOST, HOSTS, SIGN_IN_PATH
from ganpipe.services.recovery import find_killed_training
from ganpipe.services.supervisor import Service, Supervisor
from ganpipe.services.timezone import describe_timezone
from ganpipe.services.watcher import FolderWatch, watch_folder
from ganpipe.settings.schedules import Schedule
from ganpipe.settings.schema import WatchSettings
from ganpipe.stages.requests import FolderImport, RunRequest
from ganpipe.stages.served import named_paths
from ganpipe.stores.addresses import Addresses, WatchedFolder, announce, announced, up_file
from ganpipe.stores.run_records import newest_experiment
from ganpipe.stores.secret import secret_file, workspace_secret
from ganpipe.stores.workspace import Workspace

RUNNER_PATIENCE_S = 60.0  # a training in progress finishes its step and writes its checkpoint
STOP_S = 2 * RUNNER_PATIENCE_S
PREFECT_PORT, MLFLOW_PORT, DASHBOARD_PORT = 4200, 5000, 4300
DASHBOARD = "ganpipe.dashboard.server"


@dataclass(frozen=True)
class UpOptions:
    """The options of `ganpipe up`. A port that is None is chosen.

    `watch`: the folder of `--watch`, or that of the section `watch`. `runner`: the module that serves the deployments.
    """

    request: RunRequest
    schedules: tuple[Schedule, ...]
    watch: Path | None
    host: str
    prefect_port: int | None
    mlflow_port: int | None
    dashboard_port: int | None
    runner: str

    def watch_settings(self) -> WatchSettings:
        """The section `watch`."""
        return self.request.watch()

    def retrains(self) -> bool:
        """Whether a changed dataset is trained on again."""
        retrain = self.watch_settings().retrain
        return retrain == "yes" or (retrain == "auto" and self.watch is not None)

    def watched_folder(self) -> WatchedFolder | None:
        """The folder and the rule, as they are announced; None if no folder is watched."""
        if self.watch is None:
            return None
        rule = self.watch_settings()
        return WatchedFolder(
            str(self.watch),
            self.request.dataset_name(),
            rule.mode,
            self.retrains(),
            rule.min_new_images,
            rule.min_changed_percent,
            rule.at_most_every,
        )


def up(workspace: Workspace, options: UpOptions) -> None:
    """Serves until a signal; then everything that was started is stopped. What dies meanwhile is started again.

    Raises:
        GanpipeError: a port is in use, a server does not start, another `up` runs, or a schedule is wrong.
    """
    check_options(options)
    with workspace.lock("up", wait_s=0.0):
        supervisor, stop_now = Supervisor(partial(_tell_of_service, workspace)), _stop_event()
        alarms = Alarms(workspace, options.schedules, options.request.dataset_name())
        try:
            addresses = _start_servers(workspace, options, supervisor)
            supervisor.add(_runner(workspace, options))
            announce(workspace, replace(addresses, watched=options.watched_folder()))
            _tell(workspace, addresses, options)
            if options.watch:
                _start_watcher(workspace, options, options.watch, stop_now)
            while not stop_now.wait(0.5):
                supervisor.watch()
                alarms.watch()
        finally:
            up_file(workspace).unlink(missing_ok=True)
            try:
                say("Stopping …")
            finally:  # even if nobody reads it any more
                supervisor.stop_all()
        say("Everything has stopped.")


def stop_up(workspace: Workspace) -> bool:
    """Stops the workspace's `ganpipe up` and waits for its end; False if none runs.

    Raises:
        GanpipeError: it did not end within STOP_S.
    """
    found = announced(workspace)
    if found is None:
        return False
    os.kill(found.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while lives(found.pid, found.started):
        if time.monotonic() > deadline:
            raise GanpipeError(f"`ganpipe up` (process {found.pid}) has not stopped in {STOP_S:.0f} s.")
        time.sleep(0.1)
    return True


def check_options(options: UpOptions) -> None:
    """Checks everything that can be checked before anything starts."""
    if options.host not in HOSTS:
        ports = (
            (options.dashboard_port, DASHBOARD_PORT),
            (options.prefect_port, PREFECT_PORT),
            (options.mlflow_port, MLFLOW_PORT),
        )
        tunnels = " ".join(f"-L {port or usual}:{HOST}:{port or usual}" for port, usual in ports)
        raise GanpipeError(
            f"--host {options.host}: `ganpipe up` serves this machine only ({', '.join(HOSTS)}), because MLflow's pages "
            f"have no password; from another machine use ssh {tunnels} MACHINE."
        )
    if "PREFECT_API_URL" in os.environ:
        raise GanpipeError(
            "PREFECT_API_URL is set, and `ganpipe up` would start a second server; unset it first."
        )
    if options.watch and not options.watch.is_dir():
        raise GanpipeError(f"There is no folder {options.watch} to watch.")
    if options.watch and is_own_folder(options.watch.resolve()):
        raise GanpipeError(
            f"{options.watch} is a folder in which ganpipe keeps data; watch another one, with your own images."
        )
    if options.watch or options.retrains():
        options.request.dataset_name()
    for schedule in options.schedules:
        _check_cron(schedule)
        options.request.with_overrides(schedule.overrides).check_settings()
    options.request.check_settings()
    check_urls(Workspace(Path(options.request.workspace)))


def is_own_folder(folder: Path) -> bool:
    """Whether a folder is, or lies in, one that ganpipe fills itself: raw and prepared data, stylized images, its state."""
    return any(
        is_workspace_folder(place) or place.name == STATE_FOLDER for place in (folder, *folder.parents)
    )


def _check_cron(schedule: Schedule) -> None:
    if schedule.cron is None:
        return
    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    try:
        CronSchedule(cron=schedule.cron)
    except (ValidationError, ValueError):
        raise GanpipeError(
            f"{schedule.cron!r} of schedule {schedule.name} is no cron line; five fields such as '0 2 * * *' are expected."
        ) from None


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


def _start_servers(workspace: Workspace, options: UpOptions, supervisor: Supervisor) -> Addresses:
    """Starts the servers at once and waits for them; points Prefect in this process and its children to its server."""
    logs, mlflow = workspace.state / "logs", os.environ["MLFLOW_TRACKING_URI"]
    port = choose_port(options.prefect_port, PREFECT_PORT, "prefect")
    pages_port = choose_port(options.dashboard_port, DASHBOARD_PORT, "dashboard", taken=(port,))
    url, pages = f"http://{HOST}:{port}/api", f"http://{HOST}:{pages_port}"
    point_to(workspace, url)
    prefect = Service(
        "Prefect's server",
        partial(start_prefect, workspace, port, options.request.check_settings().gc.keep_days),
        logs / "prefect-server.log",
    )
    tracking = None
    if not mlflow.startswith(("http://", "https://")):  # otherwise the user's own server keeps the runs
        mlflow_port = choose_port(options.mlflow_port, MLFLOW_PORT, "mlflow", taken=(port, pages_port))
        mlflow = f"http://{HOST}:{mlflow_port}"
        tracking = Service(
            "MLflow's server", partial(start_mlflow, workspace, mlflow_port), logs / "mlflow-server.log"
        )
    dashboard = Service(
        "The dashboard", partial(_start_dashboard, workspace, pages_port), logs / "dashboard.log"
    )
    say("Starting the servers …")
    with first_start(workspace):
        process = supervisor.add(prefect)
        mlflow_process = supervisor.add(tracking) if tracking else None
        pages_process = supervisor.add(dashboard)
        wait_until_ready(f"{url}/health", process, prefect.name, prefect.log_file)
    if tracking and mlflow_process:
        wait_until_ready(f"{mlflow}/health", mlflow_process, tracking.name, tracking.log_file)
    wait_until_ready(f"{pages}{SIGN_IN_PATH}", pages_process, dashboard.name, dashboard.log_file)
    return Addresses(os.getpid(), start_time(os.getpid()), url, mlflow, pages)


def _start_dashboard(workspace: Workspace, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", DASHBOARD, "--workspace", str(workspace.root), "--port", str(port)]
    return start_process(command, os.environ, workspace.state / "logs" / "dashboard.log")


def _runner(workspace: Workspace, options: UpOptions) -> Service:
    log_file = workspace.state / "logs" / "runner.log"
    start = partial(start_process, _runner_command(options), dict(os.environ), log_file)
    return Service("The runner", start, log_file, RUNNER_PATIENCE_S, outlives=True)


def _runner_command(options: UpOptions) -> list[str]:
    """The process that registers the deployments and executes their runs."""
    request = options.request
    command = [sys.executable, "-m", options.runner, "--workspace", request.workspace]
    command += ["--dataset", request.dataset or "", "--preset", request.preset or ""]
    for override in request.overrides:
        command += ["--set", override]
    for schedule in options.schedules:
        command += ["--schedule", json.dumps(asdict(schedule))]
    overrides = [*request.overrides, *(o for schedule in options.schedules for o in schedule.overrides)]
    for path in named_paths(Path(request.workspace), overrides, options.watch):
        command += ["--may-read", path]
    command += ["--on-new-data"] if options.retrains() else []
    return [*command, "--parent", str(os.getpid())]


def _tell(workspace: Workspace, addresses: Addresses, options: UpOptions) -> None:
    tell_addresses(workspace, addresses, with_secret=sys.stderr.isatty())  # the output may be a log
    for schedule in options.schedules:
        say(f"Schedule  {schedule.describe(describe_timezone())}")
    if not options.schedules:
        how = "by hand or by new data" if options.retrains() else "by hand"
        say(f"Schedule  none (runs are started {how})")
    if watched := options.watched_folder():
        _tell_watch(watched)
    if killed := find_killed_training(workspace):
        say(f"Run {killed.run} was killed; it resumes now if its data, settings and code are the same.")
    say("Ctrl-C stops everything.")


def tell_addresses(workspace: Workspace, addresses: Addresses, with_secret: bool) -> None:
    """Says where the pages are, and how one signs in."""
    prefect = addresses.prefect_api.removesuffix("/api")
    if with_secret:
        secret = workspace_secret(workspace)
        say(f"Dashboard {addresses.dashboard}{SIGN_IN_PATH}#{secret}")
        say(f"Prefect   {prefect}{SIGN_IN_PATH}#{secret}")
    else:
        say(
            f"Dashboard {addresses.dashboard}{SIGN_IN_PATH}# (with the contents of {secret_file(workspace)} behind it)"
        )
        say(f"Prefect   {prefect} (the password is in {secret_file(workspace)})")
    say(f"MLflow    {addresses.mlflow_page(newest_experiment(workspace))}")


def _tell_of_service(workspace: Workspace, sentence: str) -> None:
    say(sentence)
    notify(workspace, Notification(("server",), "ganpipe up", sentence), wait_s=0.0)


def _tell_watch(watched: WatchedFolder) -> None:
    say(f"Watching {watched.folder}: {watched.what()} goes into {watched.dataset}.")
    if watched.retrains:
        say(f"A run starts at {watched.rule()}.")


def _start_watcher(workspace: Workspace, options: UpOptions, folder: Path, stop_now: threading.Event) -> None:
    settings, asked = options.watch_settings(), options.request
    request = FolderImport(
        asked.workspace,
        asked.dataset_name(),
        str(folder),
        settings.mode == "mirror",
        asked.preset,
        asked.overrides,
    )
    log_file = workspace.state / "logs" / "watch.log"

    def import_folder(arriving: frozenset[str]) -> bool:
        return import_in_process(replace(request, arriving=sorted(arriving)), log_file, stop_now)

    watch = FolderWatch(folder, settings, import_folder)
    threading.Thread(target=watch_folder, args=(watch, stop_now), daemon=True).start()
