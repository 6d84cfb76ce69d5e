"""`up`, `down`, `dashboard`."""

from __future__ import annotations

from argparse import ArgumentParser

from ganpipe.parser.options import add_settings_options
from ganpipe.parser.subcommands import Subcommands


def add_up(commands: Subcommands) -> None:
    """Adds `up`."""
    about = "the dashboard, Prefect, MLflow and the schedules until Ctrl-C"
    sub = commands.add("up", "up.up", about)
    _add_schedule_options(sub)
    _add_server_options(sub)
    instead = sub.add_mutually_exclusive_group()
    instead.add_argument("--detach", action="store_true", help="in the background; `ganpipe down` stops it")
    instead.add_argument("--systemd", action="store_true", help="print a systemd unit that does it")
    add_settings_options(sub)


def _add_schedule_options(sub: ArgumentParser) -> None:
    """Adds --cron, --schedule and --watch."""
    sub.add_argument("--cron", metavar="LINE", help='such as "0 2 * * *", in local time')
    sub.add_argument(
        "--schedule",
        dest="schedules",
        action="append",
        default=[],
        metavar="ENTRY",
        help="a further schedule, such as 'name: nightly, cron: 0 2 * * *, work: stylize'; also in params.yaml",
    )
    sub.add_argument(
        "--watch", metavar="DIR", help="import this folder, and retrain by the settings of `watch`"
    )


def _add_server_options(sub: ArgumentParser) -> None:
    """Adds --host and a port per server."""
    sub.add_argument(
        "--host",
        default="127.0.0.1",
        help="this machine only: 127.0.0.1 or localhost; from another one use ssh -L",
    )
    sub.add_argument("--prefect-port", type=int, metavar="PORT", help="default: 4200, or the next free one")
    sub.add_argument("--mlflow-port", type=int, metavar="PORT", help="default: 5000, or the next free one")
    sub.add_argument("--dashboard-port", type=int, metavar="PORT", help="default: 4300, or the next free one")


def add_down(commands: Subcommands) -> None:
    """Adds `down`."""
    commands.add("down", "up.down", "stop the `ganpipe up` of this workspace")


def add_dashboard(commands: Subcommands) -> None:
    """Adds `dashboard`."""
    about = "runs, models, datasets and images in the browser, read-only"
    sub = commands.add("dashboard", "dashboard.dashboard", about)
    sub.add_argument(
        "--port",
        "--dashboard-port",
        dest="port",
        type=int,
        metavar="PORT",
        help="default: 4300, or the next free one",
    )
