"""The parser of `ganpipe`: the options that every command has, and the table of commands."""

from __future__ import annotations

import argparse
from typing import NoReturn

from ganpipe import __version__
from ganpipe.parser import data, models, operations, stylize, training, up
from ganpipe.parser.subcommands import Subcommands

# In the order of `ganpipe --help`.
COMMANDS = (
    training.add_run,
    data.add_data,
    training.add_train,
    training.add_sweep,
    training.add_tune_gamma,
    training.add_evaluate,
    training.add_compare,
    models.add_generate,
    models.add_interpolate,
    models.add_mix,
    models.add_project,
    models.add_export,
    stylize.add_stylize,
    up.add_up,
    up.add_down,
    up.add_dashboard,
    operations.add_status,
    operations.add_trace,
    operations.add_lineage,
    operations.add_reproduce,
    operations.add_promote,
    operations.add_refuse,
    operations.add_rollback,
    operations.add_doctor,
    operations.add_gc,
    operations.add_notify,
    operations.add_completion,
    operations.add_settings,
)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors hold nothing that a terminal obeys."""

    def error(self, message: str) -> NoReturn:
        """Exits with 2."""
        from ganpipe.console import escape_control

        super().error(escape_control(message))


def build_parser() -> argparse.ArgumentParser:
    """Every command and option."""
    everywhere = _options_of_every_command()
    parser = _Parser(
        prog="ganpipe",
        parents=[everywhere],
        description="Trains a GAN on your images and restyles photos, as a Prefect pipeline with DVC and MLflow.",
        epilog="Settings: params.yaml, or --set section.key=value; `ganpipe settings` lists them all.",
    )
    parser.add_argument("--version", action="version", version=f"ganpipe {__version__}")
    commands = Subcommands(parser, everywhere)
    for add in COMMANDS:
        add(commands)
    return parser


def _options_of_every_command() -> argparse.ArgumentParser:
    """--workspace and --debug, before or after the command: a default would overwrite what stands before it."""
    everywhere = argparse.ArgumentParser(add_help=False)
    everywhere.add_argument(
        "--workspace", metavar="DIR", default=argparse.SUPPRESS, help="default: this folder"
    )
    everywhere.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="tracebacks and all logs"
    )
    return everywhere
