"""`train`, `evaluate`, `compare`, `generate`, `interpolate`, `export`, `stylize`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ganpipe.commands.context import (
    LEAST_ROOM_BYTES,
    absolute,
    explain_preset,
    find_run,
    open_named_workspace,
    request_of,
    require_utf8,
    resolve_settings,
)
from ganpipe.commands.tables import count_left_out, relative_path, show_compared, show_metrics
from ganpipe.console import Bars, out, pairs, print_json, say
from ganpipe.files import require_room, to_utf8
from ganpipe.settings.params import Params
from ganpipe.stores.best_effort import BestEffort
from ganpipe.stores.workspace import Workspace

USAGE_ERROR = 2
COMPARED = {"promoted": "B would replace A", "kept": "A would be kept", "undecided": "undecided"}


def train(arguments: Namespace) -> int:
    """Trains without Prefect: the same stage, the same records."""
    from ganpipe.services.recovery import recover
    from ganpipe.stages import train
    from ganpipe.stages.room import check_room
    from ganpipe.stages.run import compute_names, finished_request
    from ganpipe.stores import datasets
    from ganpipe.stores.run_files import FILM
    from ganpipe.stores.run_records import new_record

    workspace = open_named_workspace(arguments, tracks=True)
    recover(workspace)
    settings = resolve_settings(arguments, workspace)
    require_room(workspace.state, LEAST_ROOM_BYTES)
    if arguments.if_busy == "leave":
        train.check_free(workspace, settings)
    name = arguments.dataset or workspace.params().dataset
    if not arguments.json:
        explain_preset(arguments, workspace)
    with Bars(quiet=arguments.json) as bars:
        info = datasets.ensure_dataset(workspace, name, settings.data, bars)
        fresh = new_record(name, info.version, settings, compute_names(settings))
        before = finished_request(workspace, fresh)
        if before is None:
            check_room(workspace, info, settings)
        record = train.train_model(workspace, info, settings, bars, wait=arguments.if_busy == "wait")
    state, film = "up_to_date" if before else "finished", workspace.runs / record.run_id / FILM
    result = {
        "state": state,
        "run": record.run_id,
        "fingerprint": record.fingerprint,
        "mlflow_run_id": record.mlflow_run_id,
        **({"continues": record.continues} if record.continues else {}),
        **(asdict(record.train) if record.train else {}),
        "run_dir": str(workspace.runs / record.run_id),
        **({"film": str(film)} if film.exists() else {}),
    }
    if arguments.json:
        print_json(result)
        return 0
    if before:
        out.print(f"up to date: same data, settings and code as run {record.run_id}; nothing was trained.")
    notes = result.pop("notes", [])
    if record.train and record.train.validation:
        result["validation"] = record.train.validation.sentence()
    rows = [(key.replace("_", " "), str(value)) for key, value in result.items()]
    pairs("Training", rows + [("note", note) for note in notes])
    return 0


def evaluate(arguments: Namespace) -> int:
    """Judges a run's model, or a folder of images."""
    from ganpipe.services.recovery import recover
    from ganpipe.stages import evaluate
    from ganpipe.stages.report import report_run
    from ganpipe.stores.dataset_shards import open_version_at
    from ganpipe.stores.dataset_versions import open_version

    if bool(arguments.run_reference) == bool(arguments.generated):
        say("ganpipe evaluate: give either RUN or --generated DIR.")
        return USAGE_ERROR
    workspace = open_named_workspace(arguments, tracks=not arguments.generated)
    recover(workspace)
    settings = resolve_settings(arguments, workspace)
    with Bars(quiet=arguments.json) as bars:
        if arguments.generated:
            name = arguments.dataset or workspace.params().dataset
            folder = absolute(arguments.generated)
            evaluate.check_generated(folder)
            evaluate.check_data(workspace, name, settings)
            version = open_version(workspace, name, settings.data)
            evaluation, run = evaluate.evaluate_folder(workspace, folder, version, settings, bars), {}
        else:
            record = find_run(workspace, arguments.run_reference, arguments.dataset)
            version = open_version_at(workspace, record.dataset, record.version, record.resolved().data)
            evaluate.check_judgeable(version)
            judged = evaluate.evaluate_run(workspace, record, version, settings, bars)
            card = report_run(workspace, judged.record, version).picture
            evaluation, run = judged.evaluation, {"run": record.run_id, "report_card": card}
    if arguments.json:
        print_json(evaluation.as_dict() | run)
        return 0
    show_metrics(evaluation.metrics)
    pairs(
        "",
        [
            ("verdict", f"{evaluation.verdict}: {' '.join(evaluation.evidence)}"),
            ("next", evaluation.advice),
            ("measured with", str(evaluation.conditions)),
            ("sample grid", relative_path(workspace, evaluation.grid)),
            *([("report card", relative_path(workspace, run["report_card"]))] if run else []),
        ],
    )
    return 0


def compare(arguments: Namespace) -> int:
    """Compares two models or folders."""
    from ganpipe.files import plain
    from ganpipe.services.recovery import recover
    from ganpipe.stages import compare

    workspace = open_named_workspace(arguments)
    recover(workspace)
    settings = resolve_settings(arguments, workspace)
    with Bars(quiet=arguments.json) as bars:
        result = compare.compare(workspace, (arguments.a, arguments.b), arguments.dataset, settings, bars)
    if arguments.json:
        print_json(plain(result))
        return 0
    show_compared(result)
    pairs(
        "",
        [
            ("A", f"{result.a.title}: {result.a.evaluation.verdict}"),
            ("B", f"{result.b.title}: {result.b.evaluation.verdict}"),
            ("gate", COMPARED[result.gate.outcome]),
            ("why", result.gate.reason),
            ("side by side", relative_path(workspace, result.sheet)),
        ],
    )
    return 0


def generate(arguments: Namespace) -> int:
    """Draws images from a registered model."""
    from ganpipe.stages import generate
    from ganpipe.stages.latent_files import read_latent

    if arguments.count < 1:
        say("ganpipe generate: -n must be at least 1.")
        return USAGE_ERROR
    if arguments.latent and not _takes_latents(arguments, "generate"):
        return USAGE_ERROR
    workspace = open_named_workspace(arguments)
    model = generate.load_model(workspace, arguments.model, arguments.dataset)
    target = absolute(arguments.out)
    with Bars(quiet=arguments.json) as bars:
        if arguments.latent:
            files = [read_latent(absolute(name), model) for name in arguments.latent]
            paths = generate.generate_from_latents(model, files, target, bars)
        else:
            paths = generate.generate_images(
                model, arguments.count, arguments.seed, target, bars, arguments.label, arguments.truncation
            )
    if arguments.json:
        drawn = {"model": str(model.reference), "seed": arguments.seed, "truncation": arguments.truncation}
        drawn |= {"latents": [file.as_origin() for file in files]} if arguments.latent else {}
        print_json(drawn | {"images": [str(p) for p in paths]})
    else:
        out.print(f"{len(paths)} images of {model.reference} in {arguments.out}")
    return 0


def interpolate(arguments: Namespace) -> int:
    """Writes a closed walk through latent space."""
    from ganpipe.imaging import video
    from ganpipe.stages import generate
    from ganpipe.stages.latent_files import read_latent

    path = absolute(arguments.out)
    video.check_target(path)
    if arguments.stops < 2 or arguments.frames < 1:
        say("ganpipe interpolate: --stops must be at least 2 and --frames at least 1.")
        return USAGE_ERROR
    if arguments.latents and len(arguments.latents) < 2:
        say("ganpipe interpolate: --latents takes at least two files.")
        return USAGE_ERROR
    if arguments.latents and not _takes_latents(arguments, "interpolate"):
        return USAGE_ERROR
    workspace = open_named_workspace(arguments)
    model = generate.load_model(workspace, arguments.model, arguments.dataset)
    seed, psi = arguments.seed, arguments.truncation
    if arguments.latents:
        files = [read_latent(absolute(name), model) for name in arguments.latents]
        frames = generate.latent_frames(model, files, arguments.frames)
        origin = model.origin("interpolation") | {"latents": [file.as_origin() for file in files]}
    else:
        frames = generate.interpolation_frames(
            model, arguments.stops, arguments.frames, seed, arguments.label, psi
        )
        origin = model.origin("interpolation", seed, psi)
    video.write_video(frames.numpy(), path, arguments.frames, origin)
    if arguments.json:
        written = {"model": str(model.reference), "truncation": psi, "frames": len(frames), "out": str(path)}
        print_json(written)
    else:
        out.print(f"{len(frames)} frames of {model.reference} in {arguments.out}")
    return 0


def _takes_latents(arguments: Namespace, command: str) -> bool:
    """Whether no option is given that a latent's file leaves without effect; says so otherwise."""
    if arguments.truncation == 1 and arguments.label is None and arguments.seed == 0:
        return True
    say(f"ganpipe {command}: a latent's file fixes its image; leave --seed, --label and --truncation out.")
    return False


def export(arguments: Namespace) -> int:
    """Writes a model's file, model card and picture, if the file draws what the model draws."""
    from ganpipe.stages.export import export_model

    workspace = open_named_workspace(arguments)
    done = export_model(
        workspace,
        arguments.model,
        arguments.dataset,
        arguments.format,
        absolute(arguments.out),
        arguments.license,
    )
    if arguments.json:
        print_json(asdict(done))
        return 0
    out.print(
        f"{done.model} as {done.format}: in {done.checked_images} images the file's pixels differ from the model's by at "
        f"most {255 * done.largest_difference:.3f}/255."
    )
    pairs("", [("file", done.file), ("model card", done.card), ("picture", done.picture)])
    return 0


def stylize(arguments: Namespace) -> int:
    """Stylizes contents in styles; exit 1 if one of them failed."""

    from ganpipe.services.recovery import recover
    from ganpipe.stages import style_images, stylize
    from ganpipe.style.batch.sweep import plan_sweep

    workspace = open_named_workspace(arguments, tracks=True)
    recover(workspace)
    if not arguments.preset:
        arguments.overrides = [*default_size(workspace.params(), arguments.overrides), *arguments.overrides]
    request = request_of(arguments, workspace)
    settings = request.settings()
    here = Path.cwd()
    contents, styles, masks = (
        tuple(
            word if word.startswith(("sample:", style_images.MODEL)) else style_images.in_folder(word, here)
            for word in given
        )
        for given in (arguments.content, arguments.style, arguments.mask)
    )
    variants = plan_sweep(arguments.sweep, lambda more: request.with_overrides(more).settings().style)
    job = stylize.StyleRequest(
        str(workspace.root), contents, styles, str(absolute(arguments.out)), settings, masks, variants
    )
    if arguments.runner == "here":
        with Bars(quiet=arguments.json) as bars:
            result = stylize.stylize_here(job, bars)
        if result.done:
            record = BestEffort("MLflow", f"this batch is not recorded there; its images are in {job.out}")
            record(lambda: stylize.log_batch_run(job, result))
    else:
        result = _spread(arguments, workspace, job)
    if arguments.json:
        print_json(asdict(result))
    else:
        _show_stylized(workspace, result)
    return 1 if result.failed else 0


def default_size(params: Params, overrides: Sequence[str]) -> list[str]:
    """The style preset of a batch for which nobody has chosen one, as an override: pictures for a screen."""
    chosen = {*params.values, *(override.partition("=")[0].strip() for override in overrides)}
    return [] if "style.preset" in chosen or params.preset else ["style.preset=screen"]


def _spread(arguments: Namespace, workspace: Workspace, job: Any) -> Any:
    """The batch as a Prefect flow, whose task runner sends the shards where they are stylized."""
    from ganpipe.services.prefect import prefect_api

    require_utf8(workspace)
    with prefect_api(workspace):
        from flows.stylize import RUNNERS, stylize

        flow = stylize.with_options(task_runner=RUNNERS[arguments.runner](arguments.workers))
        contents, styles, masks = (
            list(map(to_utf8, words)) for words in (job.contents, job.styles, job.masks)
        )
        return flow(
            job.workspace,
            contents,
            styles,
            to_utf8(job.out),
            list(arguments.overrides),
            masks,
            arguments.preset,
            list(arguments.sweep),
        )


def _show_stylized(workspace: Workspace, result: Any) -> None:
    from ganpipe.style.batch.report import mean_quality

    if result.done == 0 and not result.failed:
        out.print(f"up to date: all {result.skipped} images are there already; nothing was stylized.")
    else:
        out.print(f"{result.done} stylized, {result.skipped} there already, {result.failed} failed.")
    more = f" (1 of {len(result.sheets)})" if len(result.sheets) > 1 else ""
    rows = [
        ("network", result.network),
        ("contact sheet", relative_path(workspace, result.sheet) + more),
        *[(name.replace("_", " "), f"{value:.3g} (mean)") for name, value in mean_quality(result).items()],
        ("left out", count_left_out(result.left_out)),
    ]
    pairs("", [(name, text) for name, text in rows if text])
    for item in result.items:
        if item.state == "failed":
            say(f"  {item.name}: {item.reason}")
