"""`stylize`."""

from __future__ import annotations

from argparse import ArgumentParser

from ganpipe.parser.options import add_json_option, add_settings_options
from ganpipe.parser.subcommands import Subcommands


def add_stylize(commands: Subcommands) -> None:
    """Adds `stylize`."""
    sub = commands.add("stylize", "models.stylize", "style transfer: every content in every style")
    _add_inputs(sub)
    sub.add_argument("--out", required=True, metavar="DIR", help="other images there are kept")
    sub.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="KEY=V1,V2",
        help="one image per value, side by side on the contact sheet, such as style.strength=0.3,0.5,0.7; repeatable",
    )
    _add_runner_options(sub)
    add_settings_options(sub, dataset=False)
    add_json_option(sub)


def _add_inputs(sub: ArgumentParser) -> None:
    """Adds --content, --style and --mask."""
    pictures = "images, folders, patterns, @LIST, sample:NAME or model:REFERENCE[:COUNT]"
    videos = f"{pictures}; videos by name, with ganpipe[video]"
    sub.add_argument("--content", nargs="+", required=True, metavar="PATH", help=videos)
    sub.add_argument("--style", nargs="+", required=True, metavar="PATH", help=pictures)
    sub.add_argument(
        "--mask",
        nargs="+",
        default=[],
        metavar="PATH",
        help="one per style: an image whose opaque or white places are stylized, or a folder of images named as the contents",
    )


def _add_runner_options(sub: ArgumentParser) -> None:
    """Adds --runner and --workers."""
    sub.add_argument(
        "--runner",
        default="here",
        choices=("here", "threads", "processes", "ray"),
        help="this process, or one of Prefect's task runners, shard by shard; default: here",
    )
    sub.add_argument("--workers", type=int, default=2, help="workers of the runner; default: 2")
