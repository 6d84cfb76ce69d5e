"""The parser and exit codes. Heavy libraries are imported in the commands, so that `--help` answers at once."""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from ganpipe import __version__
from ganpipe.compute.signals import is_ignored, leave_terminal
from ganpipe.data.sources import SOURCE_NAMES
from ganpipe.errors import GanpipeError, Interrupted, describe_error
from ganpipe.stages.export_formats import FORMATS

MAX_REFERENCE = 256
MAX_REASON = 500


class _Parser(argparse.ArgumentParser):
    """A parser whose errors hold nothing that a terminal obeys."""

    def error(self, message: str) -> NoReturn:
        """Exits with 2."""
        from ganpipe.console import escape_control

        super().error(escape_control(message))


def _reference(text: str) -> str:
    """The name of a run or model: it goes into a database's queries, so what can be no name is wrong use."""
    if len(text) > MAX_REFERENCE or not text.isprintable():
        raise argparse.ArgumentTypeError(
            f"a run or model has a name of at most {MAX_REFERENCE} printable characters, not {text[:40]!r}"
        )
    return text


def _sentence_of(text: str) -> str:
    """One line of text that a tag of MLflow can hold and a table can show."""
    if len(text) > MAX_REASON or not text.isprintable():
        raise argparse.ArgumentTypeError(
            f"one line of at most {MAX_REASON} printable characters is expected, not {text[:40]!r}"
        )
    return text


def _psi(text: str) -> float:
    """The truncation ψ."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"a truncation is a number above 0 and at most 1, not {text[:40]!r}")
    return value


def build_parser() -> argparse.ArgumentParser:
    """Every command and option."""
    everywhere = argparse.ArgumentParser(add_help=False)
    everywhere.add_argument(
        "--workspace", metavar="DIR", default=argparse.SUPPRESS, help="default: this folder"
    )
    everywhere.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="tracebacks and all logs"
    )
    parser = _Parser(
        prog="ganpipe",
        parents=[everywhere],
        description="Trains a GAN on your images and restyles photos, as a Prefect pipeline with DVC and MLflow.",
        epilog="Settings: params.yaml, or --set section.key=value; `ganpipe settings` lists them all.",
    )
    parser.add_argument("--version", action="version", version=f"ganpipe {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: str, help: str, to: Any = commands) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = to.add_parser(name, help=help, description=help, parents=[everywhere])
        sub.set_defaults(run=run)
        return sub

    def chosen(sub: argparse.ArgumentParser, dataset: bool = True) -> None:
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

    def trains(sub: argparse.ArgumentParser) -> None:
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

    def json_too(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--json", action="store_true", help="one JSON object as the last line")

    def because(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--because", type=_sentence_of, default="", metavar="TEXT", help="why; `ganpipe status` shows it"
        )

    def from_model(sub: argparse.ArgumentParser, truncates: bool = True) -> None:
        sub.add_argument(
            "--model",
            type=_reference,
            default="champion",
            help="champion, challenger, previous, NAME/VERSION or a run; default: champion",
        )
        sub.add_argument(
            "--dataset", metavar="NAME", help="whose champion; default: the latest changed model"
        )
        sub.add_argument(
            "--label", metavar="NAME", help="of a class-conditional model; default: labels as in its dataset"
        )
        sub.add_argument("--seed", type=int, default=0)
        if not truncates:
            return
        sub.add_argument(
            "--truncation",
            type=_psi,
            default=1.0,
            metavar="PSI",
            help="above 0, at most 1: less gives more typical and less various images (truncation ψ; see docs/usage.md); "
            "default: 1, none",
        )

    sub = add("run", "run.run", "the whole pipeline: data, training, evaluation, style transfer")
    chosen(sub)
    trains(sub)
    json_too(sub)

    _add_data_commands(commands, add, chosen, json_too)

    sub = add("train", "models.train", "train a model, or resume an unfinished training")
    chosen(sub)
    trains(sub)
    json_too(sub)

    sub = add(
        "sweep",
        "sweep.sweep",
        "search for better settings: many short trainings, the best settings as params.yaml",
    )
    chosen(sub)
    trains(sub)
    sub.add_argument("--trials", type=int, default=20, metavar="N", help="trainings in all; default: 20")
    json_too(sub)

    sub = add("tune-gamma", "sweep.tune_gamma", "find γ of R1 and R2: short trainings around the usual value")
    chosen(sub)
    trains(sub)
    json_too(sub)

    sub = add("evaluate", "models.evaluate", "evaluate a run's model, or a folder of generated images")
    sub.add_argument(
        "run_reference",
        type=_reference,
        nargs="?",
        metavar="RUN",
        help="run id, MLflow run id, champion, challenger or previous",
    )
    sub.add_argument("--generated", metavar="DIR", help="evaluate these images instead of a run's model")
    chosen(sub)
    json_too(sub)

    sub = add("compare", "models.compare", "two models or folders of images on the same held-out images")
    anything = "a run, champion, challenger, previous, NAME/VERSION, or a folder of images"
    sub.add_argument("a", metavar="A", help=anything)
    sub.add_argument("b", metavar="B", help="the same; would it replace A?")
    chosen(sub, dataset=False)
    sub.add_argument(
        "--dataset", metavar="NAME", help="whose held-out images; default: what B was trained on"
    )
    json_too(sub)

    sub = add("generate", "models.generate", "generate images from a model")
    from_model(sub)
    which = sub.add_mutually_exclusive_group()
    which.add_argument("-n", type=int, default=64, dest="count", help="how many images; default: 64")
    which.add_argument(
        "--latent",
        nargs="+",
        metavar="FILE",
        help="draw the latents in these files of `ganpipe project` instead",
    )
    sub.add_argument("--out", required=True, metavar="DIR", help="other images there are kept")
    json_too(sub)

    sub = add("interpolate", "models.interpolate", "latent interpolation as a video, an animation or a strip")
    from_model(sub)
    which = sub.add_mutually_exclusive_group()
    which.add_argument("--stops", type=int, default=6, help="latents on the path; default: 6")
    which.add_argument(
        "--latents", nargs="+", metavar="FILE", help="a path through these files of `ganpipe project` instead"
    )
    sub.add_argument("--frames", type=int, default=24, help="frames between two of them; default: 24")
    sub.add_argument("--out", required=True, metavar="FILE", help="a new .mp4, .gif or .png")
    json_too(sub)

    sub = add(
        "mix",
        "latents.mix",
        "a style-mixing sheet: styles of images A with coarse, middle and fine ones of B",
    )
    sources = "numbers of images of `ganpipe generate` and files of `ganpipe project`, such as 0-3,7,cat.safetensors"
    sub.add_argument("a", metavar="A", help=sources)
    sub.add_argument("b", metavar="B", help="the same")
    from_model(sub)
    sub.add_argument("--out", required=True, metavar="FILE", help="a new .png")
    json_too(sub)

    sub = add(
        "project",
        "latents.project",
        "the latents whose images are nearest to photos, with a film of the search",
    )
    sub.add_argument(
        "photos", nargs="+", metavar="PHOTO", help="images, folders, patterns, @LIST or sample:photos"
    )
    from_model(sub, truncates=False)
    sub.add_argument(
        "--space",
        choices=("w", "w+"),
        help="one style for all layers, or one for each, nearer to the photo; default: w, or z of a model without a mapping",
    )
    sub.add_argument("--steps", type=int, default=300, help="steps of the optimization; default: 300")
    sub.add_argument("--out", required=True, metavar="DIR", help="for latents, pictures and films")
    json_too(sub)

    sub = add("export", "models.export", "a model as a file for other programs, with a model card")
    sub.add_argument(
        "model",
        type=_reference,
        nargs="?",
        default="champion",
        metavar="MODEL",
        help="champion, challenger, previous, NAME/VERSION or a run; default: champion",
    )
    sub.add_argument("--dataset", metavar="NAME", help="whose champion; default: the latest changed model")
    sub.add_argument("--format", required=True, choices=tuple(FORMATS))
    sub.add_argument("--out", required=True, metavar="DIR", help="other files there are kept")
    sub.add_argument(
        "--license", type=_sentence_of, metavar="TEXT", help="for the model card; default: not stated"
    )
    json_too(sub)

    sub = add("stylize", "models.stylize", "style transfer: every content in every style")
    pictures = "images, folders, patterns, @LIST, sample:NAME or model:REFERENCE[:COUNT]"
    sub.add_argument("--content", nargs="+", required=True, metavar="PATH", help=pictures)
    sub.add_argument("--style", nargs="+", required=True, metavar="PATH", help="the same")
    sub.add_argument(
        "--mask",
        nargs="+",
        default=[],
        metavar="PATH",
        help="one per style, white where the style applies: an image, or a folder of images named as the contents",
    )
    sub.add_argument("--out", required=True, metavar="DIR", help="other images there are kept")
    sub.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="KEY=V1,V2",
        help="one image per value, side by side on the contact sheet, such as style.strength=0.3,0.5,0.7; repeatable",
    )
    sub.add_argument(
        "--runner",
        default="here",
        choices=("here", "threads", "processes", "ray"),
        help="this process, or one of Prefect's task runners, shard by shard; default: here",
    )
    sub.add_argument("--workers", type=int, default=2, help="workers of the runner; default: 2")
    chosen(sub, dataset=False)
    json_too(sub)

    sub = add("up", "up.up", "the dashboard, Prefect, MLflow and the schedules until Ctrl-C")
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
    sub.add_argument(
        "--host",
        default="127.0.0.1",
        help="this machine only: 127.0.0.1 or localhost; from another one use ssh -L",
    )
    sub.add_argument("--prefect-port", type=int, metavar="PORT", help="default: 4200, or the next free one")
    sub.add_argument("--mlflow-port", type=int, metavar="PORT", help="default: 5000, or the next free one")
    sub.add_argument("--dashboard-port", type=int, metavar="PORT", help="default: 4300, or the next free one")
    instead = sub.add_mutually_exclusive_group()
    instead.add_argument("--detach", action="store_true", help="in the background; `ganpipe down` stops it")
    instead.add_argument("--systemd", action="store_true", help="print a systemd unit that does it")
    chosen(sub)
    add("down", "up.down", "stop the `ganpipe up` of this workspace")

    sub = add(
        "dashboard", "dashboard.dashboard", "runs, models, datasets and images in the browser, read-only"
    )
    sub.add_argument(
        "--port",
        "--dashboard-port",
        dest="port",
        type=int,
        metavar="PORT",
        help="default: 4300, or the next free one",
    )

    json_too(add("status", "status.status", "what runs, ran and is planned; datasets, models, servers, disk"))
    sub = add("trace", "operations.trace", "the origin of an image")
    sub.add_argument("file")
    json_too(sub)
    sub = add("lineage", "operations.lineage", "the data, runs, models and pictures that hang together")
    sub.add_argument(
        "reference", metavar="REF", help="NAME, NAME@VERSION, a run, champion, NAME/VERSION or a picture"
    )
    json_too(sub)
    sub = add("reproduce", "operations.reproduce", "train a run again and compare every bit")
    sub.add_argument("run_reference", type=_reference, metavar="RUN")
    json_too(sub)
    sub = add("promote", "operations.promote", "make a run's model the champion")
    sub.add_argument("run_reference", type=_reference, metavar="RUN", help="a run, or challenger")
    sub.add_argument(
        "--force", action="store_true", help="even if its verdict is bad or the gate has refused it"
    )
    because(sub)
    json_too(sub)
    sub = add("refuse", "operations.refuse", "keep the champion, though a run's model waits for a person")
    sub.add_argument("run_reference", type=_reference, metavar="RUN", help="a run, or challenger")
    because(sub)
    json_too(sub)
    sub = add("rollback", "operations.rollback", "make the previous champion the champion again")
    sub.add_argument("--dataset", metavar="NAME", help="whose champion; default: the model that changed last")
    because(sub)
    json_too(sub)
    sub = add("doctor", "operations.doctor", "what killed processes and damages have left")
    sub.add_argument("--fix", action="store_true", help="settle it")
    json_too(sub)
    sub = add(
        "gc", "gc.gc", "delete what the workspace can do without: old checkpoints, shards, versions, caches"
    )
    sub.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    chosen(sub, dataset=False)
    json_too(sub)
    sub = add("notify", "operations.notify", "who is told of failures, verdicts and promotions")
    sub.add_argument("--test", action="store_true", help="send a test message to every address")
    json_too(sub)
    sub = add("completion", "operations.completion", "print the completion script of a shell")
    sub.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    sub.set_defaults(parser=parser)
    add("settings", "operations.settings", "print a params.yaml that lists every setting with its default")
    return parser


Add = Callable[..., argparse.ArgumentParser]
Extend = Callable[..., None]


def _add_data_commands(commands: Any, add: Add, chosen: Extend, json_too: Extend) -> None:
    """`ganpipe data …`."""
    about = "datasets: add, list, show, remove, replace, diff, checkout, prepare, verify, push, pull"
    data = commands.add_parser("data", help=about).add_subparsers(
        dest="data_command", required=True, metavar="COMMAND"
    )

    def on_one(name: str, run: str, help: str) -> argparse.ArgumentParser:
        sub = add(name, run, help, data)
        chosen(sub, dataset=False)
        json_too(sub)
        return sub

    sources = "one of: " + ", ".join(SOURCE_NAMES)
    sub = on_one("add", "data.add", "add images to a dataset and version it")
    sub.add_argument("source", help=sources)
    sub.add_argument("--name", required=True, metavar="NAME")
    sub.add_argument(
        "--mirror", action="store_true", help="remove images of this source that it no longer has"
    )
    sub = on_one("replace", "data.replace", "make a dataset hold a source's images and no others")
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("source", help=sources)
    sub = on_one("remove", "data.remove", "take images out of a dataset; the version before stays")
    sub.add_argument("name", metavar="NAME")
    sub.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="a name, a pattern such as 'blurred/*', or the beginning of a SHA-256",
    )
    on_one("list", "data.list_all", "all datasets with their versions")
    sub = on_one("show", "data.show", "one dataset: numbers, advice, versions, and a page with images")
    sub.add_argument("name", metavar="NAME")
    sub = on_one(
        "diff", "data.diff", "what came and went between two datasets or versions, with a contact sheet"
    )
    sub.add_argument("a", metavar="A", help="NAME or NAME@VERSION")
    sub.add_argument("b", metavar="B", help="NAME or NAME@VERSION")
    sub = on_one("checkout", "data.checkout", "make an earlier version the present one")
    sub.add_argument("reference", nargs="?", metavar="NAME@VERSION")
    sub.add_argument(
        "--run",
        dest="run_reference",
        type=_reference,
        metavar="RUN",
        help="the version that a run was trained on, from what MLflow knows of it",
    )
    for name, run, help in (
        ("prepare", "data.prepare", "make the shards that training reads, if they are not there"),
        ("verify", "data.verify", "hash every byte of a dataset, and bring back what is damaged"),
        ("push", "data.push", "copy a dataset's version to the DVC remote"),
        ("pull", "data.pull", "bring a dataset's version from the DVC remote"),
    ):
        on_one(name, run, help).add_argument("name", metavar="NAME")


def entry() -> NoReturn:
    """The process of the `ganpipe` command: runs it, and leaves when every exit handler has run.

    Taking torch, MLflow and Prefect apart object by object, only to end, cost 1.5 s (LOG.md).
    """
    status = 1
    for stream in (sys.stdout, sys.stderr):  # a terminal that knows no × is told \\xd7
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Registered first, therefore called last.
    atexit.register(lambda: (sys.stdout.flush(), sys.stderr.flush(), os._exit(status)))
    try:
        status = main()
    except SystemExit as stopped:
        status = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    sys.exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code (0 done, 1 failed, 2 wrong use, 130 and 143 after a signal)."""
    arguments = build_parser().parse_args(argv)
    debug = getattr(arguments, "debug", False)
    # Imports allocate a million objects that live to the end: looking through them again and again while they load
    # cost 1.1 s (LOG.md).
    gc.set_threshold(100_000)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if not is_ignored(signum):
            signal.signal(signum, _terminated)
    try:
        from ganpipe.console import show_logs

        show_logs(debug)
        module, function = arguments.run.split(".")
        return int(getattr(importlib.import_module(f"ganpipe.commands.{module}"), function)(arguments))
    except Interrupted as stopped:
        return _fail(stopped, debug, stopped.exit_code)
    except GanpipeError as error:
        return _fail(error, debug, 1)
    except KeyboardInterrupt:
        return _fail(GanpipeError("Interrupted."), debug, 130)
    except BrokenPipeError:
        return 1
    except Exception as error:
        return _fail(error, debug, 1, Path(getattr(arguments, "workspace", None) or "."))


def _terminated(signum: int, _: FrameType | None) -> None:
    """SIGTERM and SIGHUP end as an exception, so that everything that was started is stopped."""
    if signum == signal.SIGHUP:  # a closed terminal may send it twice
        signal.signal(signum, signal.SIG_IGN)
        leave_terminal()
    name = signal.Signals(signum).name
    raise Interrupted(signum, f"{name}: stopped; the same command resumes from what is finished.")


def _fail(error: BaseException, debug: bool, code: int, workspace: Path | None = None) -> int:
    from ganpipe.console import say, say_traceback

    if debug:
        say_traceback(error)
    else:
        sentence = describe_error(error, workspace)
        is_unexpected = sentence.startswith("Unexpected ") and not isinstance(error, GanpipeError)
        hint = " (run again with --debug for the traceback)." if is_unexpected else ""
        say(f"ganpipe: {sentence}{hint}")
    return code
