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
    from ganpipe import drawing

    if arguments.count < 1:
        say("ganpipe generate: -n must be at least 1.")
        return USAGE_ERROR
    workspace = opened(arguments)
    model = drawing.load_model(workspace, arguments.model, arguments.dataset)
    with Bars(quiet=arguments.json) as bars:
        paths = drawing.generate_images(
            model, arguments.count, arguments.seed, absolute(arguments.out), bars, arguments.label
        )
    if arguments.json:
        print_json({"model": str(model.reference), "seed": arguments.seed, "images": [str(p) for p in paths]})
    else:
        out.print(f"{len(paths)} images of {model.reference} in {arguments.out}")
    return 0


def interpolate(arguments: Namespace) -> int:
    """Writes a closed walk through latent space."""
    from ganpipe import drawing, film

    path = absolute(arguments.out)
    film.check_suffix(path)
    if arguments.stops < 2 or arguments.frames < 1:
        say("ganpipe interpolate: --stops must be at least 2 and --frames at least 1.")
        return USAGE_ERROR
    workspace = opened(arguments)
    model = drawing.load_model(workspace, arguments.model, arguments.dataset)
    frames = drawing.interpolation_frames(
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

    from ganpipe import painting

    workspace = opened(arguments)
    settings = settings_of(arguments, workspace)
    here = Path.cwd()
    contents, styles, masks = (
        tuple(
            word if word.startswith(("sample:", painting.MODEL)) else painting.in_folder(word, here)
            for word in given
        )
        for given in (arguments.content, arguments.style, arguments.mask)
    )
    job = painting.StyleJob(
        str(workspace.root), contents, styles, str(absolute(arguments.out)), settings, masks
    )
    if arguments.runner == "here":
        with Bars(quiet=arguments.json) as bars:
            result = painting.stylise_here(job, bars)
        if result.done:
            painting.track_batch(job, result)
    else:
        result = _spread(arguments, workspace, job)
    if arguments.json:
        print_json(asdict(result))
    else:
        _show_painted(workspace, result)
    return 1 if result.failed else 0


def _spread(arguments: Namespace, workspace: Workspace, job: Any) -> Any:
    """The batch as a Prefect flow, whose task runner sends the shards where they are painted."""
    from flows.server import prefect_api

    with prefect_api(workspace):
        from flows.stylise import RUNNERS, stylise

        flow = stylise.with_options(task_runner=RUNNERS[arguments.runner](arguments.workers))
        return flow(
            job.workspace, list(job.contents), list(job.styles), job.out, list(arguments.overrides), list(job.masks),
            arguments.preset,
        )  # fmt: skip


def _show_painted(workspace: Workspace, result: Any) -> None:
    from ganpipe.style.batch import means

    if result.done == 0 and not result.failed:
        out.print(f"up to date: all {result.skipped} pictures are there already; nothing was painted.")
    else:
        out.print(f"{result.done} painted, {result.skipped} there already, {result.failed} failed.")
    rows = [("network", result.network), ("contact sheet", shown(workspace, result.sheet)), *[
        (name.replace("_", " "), f"{value:.3g} (mean)") for name, value in means(result).items()
    ], ("quality against time", shown(workspace, result.chart))]  # fmt: skip
    pairs("", [(name, text) for name, text in rows if text])
    for item in result.items:
        if item.state == "failed":
            say(f"  {item.content} in {item.style}: {item.reason}")
