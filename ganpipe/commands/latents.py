"""`mix`, `project`."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

from ganpipe.commands.context import absolute, open_named_workspace
from ganpipe.commands.models import USAGE_ERROR
from ganpipe.commands.tables import relative_path
from ganpipe.console import Bars, out, print_json, say, table


def mix(arguments: Namespace) -> int:
    """Writes a style-mixing sheet."""
    from ganpipe.imaging.provenance import save_png
    from ganpipe.imaging.video import check_target
    from ganpipe.stages.generate import load_model
    from ganpipe.stages.mix import draw_sheet, parse_sources

    path = absolute(arguments.out)
    if path.suffix.lower() != ".png":
        say(f"ganpipe mix: --out is {path.name}; it must end in .png.")
        return USAGE_ERROR
    check_target(path)
    a, b = (parse_sources(words, Path.cwd()) for words in (arguments.a, arguments.b))
    workspace = open_named_workspace(arguments)
    model = load_model(workspace, arguments.model, arguments.dataset)
    sheet, origin = draw_sheet(model, a, b, arguments.seed, arguments.label, arguments.truncation)
    save_png(sheet, path, origin)
    if arguments.json:
        sides = {"a": origin["a"], "b": origin["b"]}
        print_json({"model": str(model.reference), "seed": arguments.seed, "out": str(path)} | sides)
    else:
        out.print(f"{len(a)} by {len(b)} images of {model.reference} in {arguments.out}")
    return 0


def project(arguments: Namespace) -> int:
    """Projects photos into the latent space of a model."""
    from ganpipe.stages.generate import load_model
    from ganpipe.stages.project import project_photos
    from ganpipe.stages.style_images import resolve_images

    if arguments.steps < 1:
        say("ganpipe project: --steps must be at least 1.")
        return USAGE_ERROR
    workspace = open_named_workspace(arguments)
    photos = resolve_images(workspace, arguments.photos, Path.cwd()).paths
    model = load_model(workspace, arguments.model, arguments.dataset)
    with Bars(quiet=arguments.json) as bars:
        found = project_photos(
            model,
            photos,
            absolute(arguments.out),
            arguments.steps,
            arguments.seed,
            arguments.space,
            arguments.label,
            bars,
        )
    if arguments.json:
        print_json({"model": str(model.reference), "items": [asdict(item) for item in found]})
        return 0
    rows = [
        (
            Path(item.photo).name,
            f"{item.distance_before:.3f}",
            f"{item.distance:.3f}",
            relative_path(workspace, item.picture),
        )
        for item in found
    ]
    table(
        f"Projected with {model.reference}",
        ("photo", "distance of the mean image", "distance", "picture"),
        rows,
    )
    return 0
