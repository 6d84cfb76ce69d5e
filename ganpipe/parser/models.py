"""`generate`, `interpolate`, `mix`, `project`, `export`."""

from __future__ import annotations

from ganpipe.parser.argument_types import parse_reference, parse_sentence
from ganpipe.parser.options import add_json_option, add_model_options
from ganpipe.parser.subcommands import Subcommands
from ganpipe.stages.export_formats import FORMATS


def add_generate(commands: Subcommands) -> None:
    """Adds `generate`."""
    sub = commands.add("generate", "models.generate", "generate images from a model")
    add_model_options(sub)
    which = sub.add_mutually_exclusive_group()
    which.add_argument("-n", type=int, default=64, dest="count", help="how many images; default: 64")
    which.add_argument(
        "--latent",
        nargs="+",
        metavar="FILE",
        help="draw the latents in these files of `ganpipe project` instead",
    )
    sub.add_argument("--out", required=True, metavar="DIR", help="other images there are kept")
    add_json_option(sub)


def add_interpolate(commands: Subcommands) -> None:
    """Adds `interpolate`."""
    about = "latent interpolation as a video, an animation or a strip"
    sub = commands.add("interpolate", "models.interpolate", about)
    add_model_options(sub)
    which = sub.add_mutually_exclusive_group()
    which.add_argument("--stops", type=int, default=6, help="latents on the path; default: 6")
    which.add_argument(
        "--latents", nargs="+", metavar="FILE", help="a path through these files of `ganpipe project` instead"
    )
    sub.add_argument("--frames", type=int, default=24, help="frames between two of them; default: 24")
    sub.add_argument("--out", required=True, metavar="FILE", help="a new .mp4, .gif or .png")
    add_json_option(sub)


def add_mix(commands: Subcommands) -> None:
    """Adds `mix`."""
    about = "a style-mixing sheet: styles of images A with coarse, middle and fine ones of B"
    sub = commands.add("mix", "latents.mix", about)
    sources = "numbers of images of `ganpipe generate` and files of `ganpipe project`, such as 0-3,7,cat.safetensors"
    sub.add_argument("a", metavar="A", help=sources)
    sub.add_argument("b", metavar="B", help="the same")
    add_model_options(sub)
    sub.add_argument("--out", required=True, metavar="FILE", help="a new .png")
    add_json_option(sub)


def add_project(commands: Subcommands) -> None:
    """Adds `project`."""
    about = "the latents whose images are nearest to photos, with a film of the search"
    sub = commands.add("project", "latents.project", about)
    sub.add_argument(
        "photos", nargs="+", metavar="PHOTO", help="images, folders, patterns, @LIST or sample:photos"
    )
    add_model_options(sub, truncation=False)
    sub.add_argument(
        "--space",
        choices=("w", "w+"),
        help="one style for all layers, or one for each, nearer to the photo; default: w, or z of a model without a mapping",
    )
    sub.add_argument("--steps", type=int, default=300, help="steps of the optimization; default: 300")
    sub.add_argument("--out", required=True, metavar="DIR", help="for latents, pictures and films")
    add_json_option(sub)


def add_export(commands: Subcommands) -> None:
    """Adds `export`."""
    about = "a model as a file for other programs, with a model card"
    sub = commands.add("export", "models.export", about)
    sub.add_argument(
        "model",
        type=parse_reference,
        nargs="?",
        default="champion",
        metavar="MODEL",
        help="champion, challenger, previous, NAME/VERSION or a run; default: champion",
    )
    sub.add_argument("--dataset", metavar="NAME", help="whose champion; default: the latest changed model")
    sub.add_argument("--format", required=True, choices=tuple(FORMATS))
    sub.add_argument("--out", required=True, metavar="DIR", help="other files there are kept")
    sub.add_argument(
        "--license", type=parse_sentence, metavar="TEXT", help="for the model card; default: not stated"
    )
    add_json_option(sub)
