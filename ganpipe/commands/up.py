"""`up` and `down`: the servers and the schedules of a workspace."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ganpipe.commands.context import absolute, open_named_workspace, request_of, require_utf8
from ganpipe.console import out, say
from ganpipe.settings.schedules import BY_HAND, Schedule, parse_schedule, require_distinct
from ganpipe.stores.workspace import Workspace

if TYPE_CHECKING:
    from ganpipe.services.up import UpOptions

# The deployments are a table in flows; its module imports Prefect, which must not happen before the servers are chosen.
RUNNER = "flows.deployments"


def up(arguments: Namespace) -> int:
    """Serves until Ctrl-C, or in the background; or prints the unit of systemd that does it."""
    from ganpipe.services.background import start_detached, systemd_unit
    from ganpipe.services.recovery import recover
    from ganpipe.services.up import check_options
    from ganpipe.services.up import up as serve

    workspace = open_named_workspace(arguments, tracks=not arguments.systemd)
    require_utf8(workspace)
    options = _options(arguments, workspace)
    if arguments.systemd:
        check_options(options)
        sys.stdout.write(systemd_unit(workspace, _words(arguments, workspace)))
    elif arguments.detach:
        check_options(options)
        start_detached(workspace, _words(arguments, workspace))
    else:
        recover(workspace, prefect=False)  # its runs are settled when the server is there
        serve(workspace, options)
    return 0


def down(arguments: Namespace) -> int:
    """Stops `ganpipe up`; a training in progress writes its checkpoint first. Nothing to stop is no failure."""
    from ganpipe.services.up import stop_up

    workspace = open_named_workspace(arguments, reading=True)
    say("Stopping …")
    out.print("Everything has stopped." if stop_up(workspace) else "No `ganpipe up` runs in this workspace.")
    return 0


def _options(arguments: Namespace, workspace: Workspace) -> UpOptions:
    from ganpipe.services.up import UpOptions

    request = request_of(arguments, workspace)
    return UpOptions(
        request,
        schedules_of(arguments, workspace),
        _watched_folder(arguments, workspace, request.watch().folder),
        arguments.host,
        arguments.prefect_port,
        arguments.mlflow_port,
        arguments.dashboard_port,
        RUNNER,
    )


def _watched_folder(arguments: Namespace, workspace: Workspace, named: str) -> Path | None:
    """The folder of `--watch`, else that of params.yaml, which is relative to the workspace."""
    if arguments.watch:
        return absolute(arguments.watch)
    return workspace.root / Path(named).expanduser() if named else None


def schedules_of(arguments: Namespace, workspace: Workspace) -> tuple[Schedule, ...]:
    """The schedules of `params.yaml`; those of the command line come after them and replace those of the same name."""
    given = [parse_schedule(text) for text in arguments.schedules]
    if arguments.cron:
        given.insert(0, Schedule(BY_HAND, cron=arguments.cron))
    names = {schedule.name for schedule in require_distinct(given)}
    kept = [schedule for schedule in workspace.params().schedules if schedule.name not in names]
    return (*kept, *given)


def _words(arguments: Namespace, workspace: Workspace) -> list[str]:
    """The command line that serves the same in the foreground, whatever the current folder is."""
    watch = str(absolute(arguments.watch)) if arguments.watch else None
    single = {
        "--workspace": str(workspace.root),
        "--cron": arguments.cron,
        "--watch": watch,
        "--host": arguments.host,
        "--prefect-port": arguments.prefect_port,
        "--mlflow-port": arguments.mlflow_port,
        "--dashboard-port": arguments.dashboard_port,
        "--dataset": arguments.dataset,
        "--preset": arguments.preset,
    }
    words = ["up"]
    for option, value in single.items():
        words += [] if value is None else [option, str(value)]
    for option, values in (("--schedule", arguments.schedules), ("--set", arguments.overrides)):
        words += [word for value in values for word in (option, value)]
    return words
