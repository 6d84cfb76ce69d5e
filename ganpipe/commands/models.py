"""`train`, `evaluate`, `generate`, `interpolate`, `stylize`."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ganpipe.commands.context import absolute, explain_preset, opened, run_named, settings_of
from ganpipe.commands.tables import show_metrics, shown
from ganpipe.console import Bars, out, pairs, print_json, say
from ganpipe.workspace import Workspace

USAGE_ERROR = 2


def train(arguments: Namespace) -> int:
    """Trains without Prefect: the same stage, the same records."""
    from ganpipe import stages, versioning

    workspace = opened(arguments)
    settings = settings_of(arguments, workspace)
    name = arguments.dataset or workspace.params().dataset
    if not arguments.json:
        explain_preset(arguments, workspace)
    with Bars(quiet=arguments.json) as bars:
        info = versioning.ensure_dataset(workspace, name, settings.data, bars)
        fresh = stages.new_record(name, info.version, settings, stages.compute_names(settings))
        before = stages.finished_training(workspace, fresh.run_id)
        record = before or stages.train_model(
            workspace, name, settings, bars, wait=arguments.if_busy == "wait"
        )
    state = "up_to_date" if before else "finished"
    result = {
        "state": state,
        "run": record.run_id,
        "fingerprint": record.fingerprint,
        "mlflow_run_id": record.mlflow_run_id,
        **(record.train or {}),
        "run_dir": str(workspace.runs / record.run_id),
    }
    if arguments.json:
        print_json(result)
        return 0
    if before:
        out.print(f"up to date: same data, settings and code as run {record.run_id}; nothing was trained.")
    notes = result.pop("notes", [])
    rows = [(key.replace("_", " "), str(value)) for key, value in result.items()]
    pairs("Training", rows + [("note", note) for note in notes])
    return 0


def evaluate(arguments: Namespace) -> int:
    """Judges a run's model, or a folder of images."""
    from ganpipe import stages

    if bool(arguments.run_reference) == bool(arguments.generated):
        say("ganpipe evaluate: give either RUN or --generated DIR.")
        return USAGE_ERROR
    workspace = opened(arguments)
    settings = settings_of(arguments, workspace)
    with Bars(quiet=arguments.json) as bars:
        if arguments.generated:
            name = arguments.dataset or workspace.params().dataset
            folder = absolute(arguments.generated)
            result = stages.evaluate_folder(workspace, folder, name, settings, bars).as_dict()
        else:
            record = run_named(workspace, arguments.run_reference, arguments.dataset)
            result = stages.evaluate_run(workspace, record, settings, bars).evaluation.as_dict() | {
                "run": record.run_id
            }
    if arguments.json:
        print_json(result)
        return 0
    show_metrics(result["metrics"])
    pairs("", [("verdict", f"{result['verdict']}: {' '.join(result['evidence'])}"),
               ("sample grid", shown(workspace, result["grid"]))])  # fmt: skip
    return 0


def generate(arguments: Namespace) -> int:
    """Draws images from a registered model."""
    from ganpipe import stages

    if arguments.count < 1:
        say("ganpipe generate: -n must be at least 1.")
        return USAGE_ERROR
    workspace = opened(arguments)
    model = stages.load_model(workspace, arguments.model, arguments.dataset)
    with Bars(quiet=arguments.json) as bars:
        paths = stages.generate_images(
            model, arguments.count, arguments.seed, absolute(arguments.out), bars, arguments.label
        )
    if arguments.json:
        print_json({"model": str(model.reference), "seed": arguments.seed, "images": [str(p) for p in paths]})
    else:
        out.print(f"{len(paths)} images of {model.reference} in {arguments.out}")
    return 0


def interpolate(arguments: Namespace) -> int:
    """Writes a closed walk through latent space."""
    from ganpipe import film, stages

    path = absolute(arguments.out)
    film.check_suffix(path)
    if arguments.stops < 2 or arguments.frames < 1:
        say("ganpipe interpolate: --stops must be at least 2 and --frames at least 1.")
        return USAGE_ERROR
    workspace = opened(arguments)
    model = stages.load_model(workspace, arguments.model, arguments.dataset)
    frames = stages.interpolation_frames(
        model, arguments.stops, arguments.frames, arguments.seed, arguments.label
    )
    film.write(frames.numpy(), path, arguments.frames, model.origin("interpolation", arguments.seed))
    if arguments.json:
        print_json({"model": str(model.reference), "frames": len(frames), "out": str(path)})
    else:
        out.print(f"{len(frames)} frames of {model.reference} in {arguments.out}")
    return 0


def stylize(arguments: Namespace) -> int:
    """Paints contents in styles; exit 1 if one of them failed."""
    from ganpipe import stages
    from ganpipe.style.batch import image_paths, stylize_batch

    workspace = opened(arguments)
    settings = settings_of(arguments, workspace)
    with Bars(quiet=arguments.json) as bars:
        contents, styles = (
            [
                path
                for given in group
                for path in _pictures(workspace, given, stages.picture_paths, image_paths)
            ]
            for group in (arguments.content, arguments.style)
        )
        compute = stages.choose_compute(settings.training.device, settings.training.precision)
        result = stylize_batch(
            contents, styles, absolute(arguments.out), settings.style, compute, report=bars
        )
    if arguments.json:
        print_json(asdict(result))
    else:
        out.print(
            f"{result.done} painted, {result.skipped} there already, {result.failed} failed: {arguments.out}"
        )
        if result.sheet:
            out.print(f"Contact sheet: {result.sheet}")
        for item in result.items:
            if item.state == "failed":
                say(f"  {item.content} in {item.style}: {item.reason}")
    return 1 if result.failed else 0


def _pictures(workspace: Workspace, given: str, named: Any, found: Any) -> list[Path]:
    """A named sample, or the images at a path."""
    paths: list[Path] = named(workspace, given) if given.startswith("sample:") else found([absolute(given)])
    return paths
