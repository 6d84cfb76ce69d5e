"""`data …`."""

from __future__ import annotations

from argparse import ArgumentParser

from ganpipe.data.sources import SOURCE_NAMES
from ganpipe.parser.argument_types import parse_reference
from ganpipe.parser.options import add_json_option, add_settings_options
from ganpipe.parser.subcommands import Subcommands

SOURCES = "one of: " + ", ".join(SOURCE_NAMES)


def add_data(commands: Subcommands) -> None:
    """Adds `data` and its commands, in the order of its help."""
    data = commands.add_group(
        "data", "datasets: add, list, show, remove, replace, diff, checkout, prepare, verify, push, pull"
    )
    _add_add(data)
    _add_replace(data)
    _add_remove(data)
    _add(data, "list", "data.list_all", "all datasets with their versions")
    _add_named(data, "show", "one dataset: numbers, advice, versions, and a page with images")
    _add_diff(data)
    _add_checkout(data)
    _add_named(data, "prepare", "make the shards that training reads, if they are not there")
    _add_named(data, "verify", "hash every byte of a dataset, and bring back what is damaged")
    _add_named(data, "push", "copy a dataset's version to the DVC remote")
    _add_named(data, "pull", "bring a dataset's version from the DVC remote")


def _add(data: Subcommands, name: str, run: str, help: str) -> ArgumentParser:
    """Adds a command with the options that every command of `data` has."""
    sub = data.add(name, run, help)
    add_settings_options(sub, dataset=False)
    add_json_option(sub)
    return sub


def _add_named(data: Subcommands, name: str, help: str) -> None:
    """Adds a command that takes the name of a dataset; its function has the command's name."""
    _add(data, name, f"data.{name}", help).add_argument("name", metavar="NAME")


def _add_add(data: Subcommands) -> None:
    sub = _add(data, "add", "data.add", "add images to a dataset and version it")
    sub.add_argument("source", help=SOURCES)
    sub.add_argument("--name", required=True, metavar="NAME")
    sub.add_argument(
        "--mirror", action="store_true", help="remove images of this source that it no longer has"
    )


def _add_replace(data: Subcommands) -> None:
    sub = _add(data, "replace", "data.replace", "make a dataset hold a source's images and no others")
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("source", help=SOURCES)


def _add_remove(data: Subcommands) -> None:
    sub = _add(data, "remove", "data.remove", "take images out of a dataset; the version before stays")
    sub.add_argument("name", metavar="NAME")
    sub.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="a name, a pattern such as 'blurred/*', or the beginning of a SHA-256",
    )


def _add_diff(data: Subcommands) -> None:
    about = "what came and went between two datasets or versions, with a contact sheet"
    sub = _add(data, "diff", "data.diff", about)
    sub.add_argument("a", metavar="A", help="NAME or NAME@VERSION")
    sub.add_argument("b", metavar="B", help="NAME or NAME@VERSION")


def _add_checkout(data: Subcommands) -> None:
    sub = _add(data, "checkout", "data.checkout", "make an earlier version the present one")
    sub.add_argument("reference", nargs="?", metavar="NAME@VERSION")
    sub.add_argument(
        "--run",
        dest="run_reference",
        type=parse_reference,
        metavar="RUN",
        help="the version that a run was trained on, from what MLflow knows of it",
    )
