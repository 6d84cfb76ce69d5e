"""Options that several commands have."""

from __future__ import annotations

from argparse import ArgumentParser

from ganpipe.parser.argument_types import parse_psi, parse_reference, parse_sentence


def add_settings_options(sub: ArgumentParser, dataset: bool = True) -> None:
    """Adds --dataset (unless the command has its own or needs none), --preset and --set."""
    if dataset:
        sub.add_argument(
            "--dataset", metavar="NAME", help="default: dataset of params.yaml, otherwise flowers"
        )
    sub.add_argument(
        "--preset",
        metavar="NAME",
        help="default: by the number of images and the device; `ganpipe settings` names them",
    )
    sub.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")


def add_training_options(sub: ArgumentParser) -> None:
    """Adds --minutes and --gpus, each short for a --set, and --if-busy."""
    for option, setting, meaning in (
        ("--minutes", "training.minutes", "train for N minutes on this machine"),
        ("--gpus", "training.processes", "train on N GPUs"),
    ):
        sub.add_argument(
            option,
            dest="overrides",
            action="append",
            type=f"{setting}={{}}".format,
            metavar="N",
            help=f"{meaning}: --set {setting}=N",
        )
    sub.add_argument(
        "--if-busy",
        choices=("wait", "leave"),
        default="wait",
        help="if another training is running; default: wait",
    )


def add_json_option(sub: ArgumentParser) -> None:
    """Adds --json."""
    sub.add_argument("--json", action="store_true", help="one JSON object as the last line")


def add_because_option(sub: ArgumentParser) -> None:
    """Adds --because."""
    sub.add_argument(
        "--because", type=parse_sentence, default="", metavar="TEXT", help="why; `ganpipe status` shows it"
    )


def add_model_options(sub: ArgumentParser, truncation: bool = True) -> None:
    """Adds --model, --dataset, --label, --seed and --truncation: which model draws, and from which latents."""
    sub.add_argument(
        "--model",
        type=parse_reference,
        default="champion",
        help="champion, challenger, previous, NAME/VERSION or a run; default: champion",
    )
    sub.add_argument("--dataset", metavar="NAME", help="whose champion; default: the latest changed model")
    sub.add_argument(
        "--label", metavar="NAME", help="of a class-conditional model; default: labels as in its dataset"
    )
    sub.add_argument("--seed", type=int, default=0)
    if truncation:
        _add_truncation_option(sub)


def _add_truncation_option(sub: ArgumentParser) -> None:
    sub.add_argument(
        "--truncation",
        type=parse_psi,
        default=1.0,
        metavar="PSI",
        help="above 0, at most 1: less gives more typical and less various images (truncation ψ; see docs/usage.md); "
        "default: 1, none",
    )
