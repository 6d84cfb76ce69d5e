"""`status`, `trace`, `lineage`, `reproduce`, `promote`, `refuse`, `rollback`, `doctor`, `gc`, `notify`, `completion`,
`settings`."""

from __future__ import annotations

from ganpipe.parser.argument_types import parse_reference
from ganpipe.parser.options import add_because_option, add_json_option, add_settings_options
from ganpipe.parser.subcommands import Subcommands


def add_status(commands: Subcommands) -> None:
    """Adds `status`."""
    about = "what runs, ran and is planned; datasets, models, servers, disk"
    add_json_option(commands.add("status", "status.status", about))


def add_trace(commands: Subcommands) -> None:
    """Adds `trace`."""
    sub = commands.add("trace", "operations.trace", "the origin of an image")
    sub.add_argument("file")
    add_json_option(sub)


def add_lineage(commands: Subcommands) -> None:
    """Adds `lineage`."""
    about = "the data, runs, models and pictures that hang together"
    sub = commands.add("lineage", "operations.lineage", about)
    sub.add_argument(
        "reference", metavar="REF", help="NAME, NAME@VERSION, a run, champion, NAME/VERSION or a picture"
    )
    add_json_option(sub)


def add_reproduce(commands: Subcommands) -> None:
    """Adds `reproduce`."""
    sub = commands.add("reproduce", "operations.reproduce", "train a run again and compare every bit")
    sub.add_argument("run_reference", type=parse_reference, metavar="RUN")
    add_json_option(sub)


def add_promote(commands: Subcommands) -> None:
    """Adds `promote`."""
    sub = commands.add("promote", "operations.promote", "make a run's model the champion")
    sub.add_argument("run_reference", type=parse_reference, metavar="RUN", help="a run, or challenger")
    sub.add_argument(
        "--force", action="store_true", help="even if its verdict is bad or the gate has refused it"
    )
    add_because_option(sub)
    add_json_option(sub)


def add_refuse(commands: Subcommands) -> None:
    """Adds `refuse`."""
    about = "keep the champion, though a run's model waits for a person"
    sub = commands.add("refuse", "operations.refuse", about)
    sub.add_argument("run_reference", type=parse_reference, metavar="RUN", help="a run, or challenger")
    add_because_option(sub)
    add_json_option(sub)


def add_rollback(commands: Subcommands) -> None:
    """Adds `rollback`."""
    about = "make the previous champion the champion again"
    sub = commands.add("rollback", "operations.rollback", about)
    sub.add_argument("--dataset", metavar="NAME", help="whose champion; default: the model that changed last")
    add_because_option(sub)
    add_json_option(sub)


def add_doctor(commands: Subcommands) -> None:
    """Adds `doctor`."""
    sub = commands.add("doctor", "operations.doctor", "what killed processes and damages have left")
    sub.add_argument("--fix", action="store_true", help="settle it")
    add_json_option(sub)


def add_gc(commands: Subcommands) -> None:
    """Adds `gc`."""
    about = "delete what the workspace can do without: old checkpoints, shards, versions, caches"
    sub = commands.add("gc", "gc.gc", about)
    sub.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    add_settings_options(sub, dataset=False)
    add_json_option(sub)


def add_notify(commands: Subcommands) -> None:
    """Adds `notify`."""
    about = "who is told of failures, verdicts and promotions"
    sub = commands.add("notify", "operations.notify", about)
    sub.add_argument("--test", action="store_true", help="send a test message to every address")
    add_json_option(sub)


def add_completion(commands: Subcommands) -> None:
    """Adds `completion`: its function reads the whole parser from the arguments."""
    about = "print the completion script of a shell"
    sub = commands.add("completion", "operations.completion", about)
    sub.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    sub.set_defaults(parser=commands.parser)


def add_settings(commands: Subcommands) -> None:
    """Adds `settings`."""
    about = "print a params.yaml that lists every setting with its default"
    commands.add("settings", "operations.settings", about)
