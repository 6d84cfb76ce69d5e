"""`run`, `train`, `sweep`, `tune-gamma`, `evaluate`, `compare`."""

from __future__ import annotations

from ganpipe.parser.argument_types import parse_reference
from ganpipe.parser.options import add_json_option, add_settings_options, add_training_options
from ganpipe.parser.subcommands import Subcommands


def add_run(commands: Subcommands) -> None:
    """Adds `run`."""
    sub = commands.add("run", "run.run", "the whole pipeline: data, training, evaluation, style transfer")
    add_settings_options(sub)
    add_training_options(sub)
    add_json_option(sub)


def add_train(commands: Subcommands) -> None:
    """Adds `train`."""
    sub = commands.add("train", "models.train", "train a model, or resume an unfinished training")
    add_settings_options(sub)
    add_training_options(sub)
    add_json_option(sub)


def add_sweep(commands: Subcommands) -> None:
    """Adds `sweep`."""
    about = "search for better settings: many short trainings, the best settings as params.yaml"
    sub = commands.add("sweep", "sweep.sweep", about)
    add_settings_options(sub)
    add_training_options(sub)
    sub.add_argument("--trials", type=int, default=20, metavar="N", help="trainings in all; default: 20")
    add_json_option(sub)


def add_tune_gamma(commands: Subcommands) -> None:
    """Adds `tune-gamma`."""
    about = "find γ of R1 and R2: short trainings around the usual value"
    sub = commands.add("tune-gamma", "sweep.tune_gamma", about)
    add_settings_options(sub)
    add_training_options(sub)
    add_json_option(sub)


def add_evaluate(commands: Subcommands) -> None:
    """Adds `evaluate`."""
    about = "evaluate a run's model, or a folder of generated images"
    sub = commands.add("evaluate", "models.evaluate", about)
    sub.add_argument(
        "run_reference",
        type=parse_reference,
        nargs="?",
        metavar="RUN",
        help="run id, MLflow run id, champion, challenger or previous",
    )
    sub.add_argument("--generated", metavar="DIR", help="evaluate these images instead of a run's model")
    add_settings_options(sub)
    add_json_option(sub)


def add_compare(commands: Subcommands) -> None:
    """Adds `compare`."""
    about = "two models or folders of images on the same held-out images"
    sub = commands.add("compare", "models.compare", about)
    anything = "a run, champion, challenger, previous, NAME/VERSION, or a folder of images"
    sub.add_argument("a", metavar="A", help=anything)
    sub.add_argument("b", metavar="B", help="the same; would it replace A?")
    add_settings_options(sub, dataset=False)
    sub.add_argument(
        "--dataset", metavar="NAME", help="whose held-out images; default: what B was trained on"
    )
    add_json_option(sub)
