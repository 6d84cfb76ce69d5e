"""What each command does: open the workspace, call a stage, show the outcome. Returns the exit code."""

from __future__ import annotations

import os
import shutil
import time
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganpipe.cli import USAGE_ERROR, absolute, opened
from ganpipe.config import Settings, params_template, resolve
from ganpipe.console import Bars, duration, out, pairs, print_json, say, table
from ganpipe.errors import GanpipeError
from ganpipe.workspace import Workspace

if TYPE_CHECKING:
    from flows.request import RunRequest
    from ganpipe.lineage import RunRecord


def settings_of(arguments: Namespace, workspace: Workspace) -> Settings:
    """Defaults, preset, params.yaml and --set, in this order."""
    from ganpipe.training.device import default_preset

    params = workspace.params()
    preset = getattr(arguments, "preset", None) or params.preset or default_preset()
    return resolve(params, preset, getattr(arguments, "overrides", []))


def request_of(arguments: Namespace, workspace: Workspace) -> RunRequest:
    """The run that the command line asks for; wrong settings fail here, before anything starts."""
    from flows.request import RunRequest

    settings_of(arguments, workspace)
    return RunRequest(str(workspace.root), arguments.dataset, arguments.preset, arguments.overrides)


# ---- the whole chain -------------------------------------------------------------------------------------


def run(arguments: Namespace) -> int:
    """The chain through Prefect; nothing is started where all is there already."""
    from flows.server import prefect_api

    started = time.monotonic()
    workspace = opened(arguments)
    if arguments.json:
        os.environ["GANPIPE_QUIET"] = "1"
    check_settings(arguments, workspace)
    result = _already_done(arguments, workspace) if (workspace.state / "results").exists() else None
    if result is None:
        with prefect_api(workspace, meanwhile=lambda: _check_and_import(arguments, workspace)):
            from flows.pipeline import pipeline

            request = request_of(arguments, workspace)
            result = pipeline(request.workspace, request.dataset, request.preset, request.overrides)
    result["seconds_total"] = round(time.monotonic() - started, 2)
    if arguments.json:
        print_json(result)
    else:
        _show_run(workspace, result)
    return 0


def check_settings(arguments: Namespace, workspace: Workspace) -> None:
    """Fails on wrong settings in milliseconds, before torch is imported to see whether there is a GPU."""
    params = workspace.params()
    resolve(params, arguments.preset or params.preset or "demo", arguments.overrides)


def _already_done(arguments: Namespace, workspace: Workspace) -> dict[str, Any] | None:
    from ganpipe import stages, versioning

    request = request_of(arguments, workspace)
    name, settings = request.dataset_name(), request.settings()
    if name not in versioning.dataset_names(workspace):
        return None
    version = versioning.dataset_info(workspace, name, settings.data).version
    earlier = stages.up_to_date(workspace, version, settings)
    return earlier | {"state": "up_to_date"} if earlier else None


def _check_and_import(arguments: Namespace, workspace: Workspace) -> None:
    """Half of a cold start is imports: they run while the server starts. An unknown data set ends it here."""
    from ganpipe import stages, versioning

    request = request_of(arguments, workspace)
    name = request.dataset_name()
    stages.check_request(request.settings())
    if name not in versioning.SAMPLE_SOURCES:
        versioning.dataset_info(workspace, name, request.settings().data)
    import flows.pipeline  # noqa: F401


def _show_run(workspace: Workspace, result: dict[str, Any]) -> None:
    data = result["dataset"]
    if result["state"] == "up_to_date":
        out.print(
            f"up to date: same data, settings and code as run {result['run']} "
            f"(MLflow run {result['mlflow_run_id']}); nothing was trained."
        )
    rows = [
        ("data set", f"{data['name']}, version {data['version']}, {data['images']:,} images"),
        ("run", f"{result['run']}, fingerprint {result['fingerprint'][:12]}"),
        ("model", f"{result['model_version']}{', champion' if result['champion'] else ''}"),
        ("verdict", f"{result['verdict']}: {' '.join(result['evidence'])}"),
        ("sample grid", _shown(workspace, result["grid"])),
        ("stylised", _shown(workspace, result["contact_sheet"])),
        ("time", ", ".join(f"{k} {duration(s)}" for k, s in result["seconds"].items())
         + f"; this command {duration(result['seconds_total'])}"),
    ]  # fmt: skip
    _show_metrics(result["metrics"])
    pairs("", rows)
    for failure in result["style_failures"]:
        say(f"Not stylised: {failure}")
    out.print(
        f"MLflow run {result['mlflow_run_id']}, Prefect flow run {result['flow_run_id']}: `ganpipe up` shows both."
    )


def _shown(workspace: Workspace, path: str | None) -> str:
    """A path as short as it can be said from the workspace."""
    return str(Path(path).relative_to(workspace.root)) if path else "none"


def _show_metrics(metrics: dict[str, Any]) -> None:
    rows = []
    for name, m in metrics.items():
        value = "not finite" if m["value"] is None else f"{m['value']:.4g}"
        floor = "" if m["floor"] is None else f"{m['floor']:.4g}"
        rows.append((name, f"{value} {m['note']}".strip(), floor, f"{m['samples']:,}"))
    table(
        "Metrics against held-out images", ("metric", "value", "real images score", "generated images"), rows
    )


# ---- data sets -------------------------------------------------------------------------------------------


def data_add(arguments: Namespace) -> int:
    """Adds a source and accounts for every file."""
    from ganpipe.versioning import add_dataset

    workspace = opened(arguments)
    bars = Bars(quiet=arguments.json)
    try:
        report = add_dataset(
            workspace, arguments.source, arguments.name, settings_of(arguments, workspace).data, bars
        )
    finally:
        bars.close()
    if arguments.json:
        print_json(asdict(report))
        return 0
    rows = [
        ("found", f"{report.found:,}"),
        ("accepted", f"{report.accepted:,} new"),
        ("quarantined", f"{len(report.quarantined):,}"),
        ("duplicates", f"{report.duplicates:,}"),
        ("the data set", f"{report.train:,} to train on, {report.holdout:,} held out"),
        ("version", report.version),
    ]
    pairs(f"Data set {report.name}", rows)
    for entry in report.quarantined[:10]:
        say(f"  {entry['file']}: {entry['reason']}")
    if len(report.quarantined) > 10:
        say(f"  … and {len(report.quarantined) - 10} more in .ganpipe/reports/{report.name}-add.json")
    return 0


def data_list(arguments: Namespace) -> int:
    """All data sets with their versions."""
    from ganpipe.versioning import dataset_info, dataset_names

    workspace = opened(arguments)
    settings = settings_of(arguments, workspace).data
    infos = [dataset_info(workspace, name, settings) for name in dataset_names(workspace)]
    if arguments.json:
        print_json({"datasets": [asdict(info) for info in infos]})
    elif not infos:
        out.print("No data set yet; add one with: ganpipe data add SOURCE --name NAME")
    else:
        rows = [(i.name, i.version, f"{i.images:,}", f"{i.train:,}", f"{i.holdout:,}") for i in infos]
        table("Data sets", ("name", "version", "images", "to train on", "held out"), rows)
    return 0


def data_show(arguments: Namespace) -> int:
    """One data set: counts, labels, and a contact sheet of 64 of its images."""
    from collections import Counter

    from ganpipe.data.raw import RawImages, read_manifest
    from ganpipe.images import ImageShape, fit_image, grid, save_png
    from ganpipe.versioning import dataset_info

    workspace = opened(arguments)
    info = dataset_info(workspace, arguments.name, settings_of(arguments, workspace).data)
    folder = workspace.raw(arguments.name)
    records, images = read_manifest(folder), RawImages(folder)
    labels = Counter(r.label for r in records if r.label is not None)
    chosen = records[:: max(1, len(records) // 64)][:64]
    import numpy as np

    pixels = np.stack([fit_image(images.picture(r), ImageShape(3, 96, 96), "pad") for r in chosen])
    sheet = workspace.state / "reports" / f"{info.name}-{info.version[:12]}.png"
    save_png(
        grid(pixels),
        sheet,
        {"kind": "contact sheet", "dataset": {"name": info.name, "version": info.version}},
    )
    if arguments.json:
        print_json(asdict(info) | {"label_counts": dict(labels), "contact_sheet": str(sheet)})
        return 0
    most = ", ".join(f"{name} {count:,}" for name, count in labels.most_common(12))
    rows = [
        ("version", info.version),
        ("images", f"{info.images:,}: {info.train:,} to train on, {info.holdout:,} held out"),
        ("labels", f"{len(labels)}: {most}" if labels else "none"),
        ("contact sheet", _shown(workspace, str(sheet))),
    ]
    pairs(f"Data set {info.name}", rows)
    return 0


def data_diff(arguments: Namespace) -> int:
    """Images by hash: in A only, in B only, in both."""
    from ganpipe.versioning import records_at

    workspace = opened(arguments)
    settings = settings_of(arguments, workspace).data
    a, b = (
        {r.sha256: r.name for r in records_at(workspace, ref, settings)} for ref in (arguments.a, arguments.b)
    )
    gone, came = [a[h] for h in a if h not in b], [b[h] for h in b if h not in a]
    result = {
        "a": arguments.a,
        "b": arguments.b,
        "removed": len(gone),
        "added": len(came),
        "same": len(a) - len(gone),
    }
    if arguments.json:
        print_json(result | {"removed_files": gone, "added_files": came})
        return 0
    rows = [(f"only in {arguments.a}", _names(gone)), (f"only in {arguments.b}", _names(came)),
            ("in both", f"{result['same']:,}")]  # fmt: skip
    pairs("Difference", rows)
    return 0


def _names(names: list[str]) -> str:
    return f"{len(names):,}" + (
        ": " + ", ".join(names[:8]) + (" …" if len(names) > 8 else "") if names else ""
    )


def data_verify(arguments: Namespace) -> int:
    """Exit 0 if every byte is as it was, else 1 with what is damaged."""
    from ganpipe.versioning import verify_dataset

    workspace = opened(arguments)
    bars = Bars(quiet=arguments.json)
    try:
        lost = verify_dataset(workspace, arguments.name, settings_of(arguments, workspace).data, bars)
    finally:
        bars.close()
    if arguments.json:
        print_json({"name": arguments.name, "intact": not lost, "damaged": lost})
    elif not lost:
        out.print(f"{arguments.name}: every byte is as it was added.")
    if lost and not arguments.json:
        raise GanpipeError(
            f"{arguments.name}: {len(lost)} damaged or missing: {_names(lost)}. "
            f"Add their source again, or bring them back with: dvc checkout --force data/raw/{arguments.name}.dvc"
        )
    return 1 if lost else 0


# ---- models ----------------------------------------------------------------------------------------------


def train(arguments: Namespace) -> int:
    """Trains without Prefect: the same stage, the same records."""
    from ganpipe import stages, versioning

    workspace = opened(arguments)
    settings = settings_of(arguments, workspace)
    name = arguments.dataset or workspace.params().dataset
    bars = Bars(quiet=arguments.json)
    try:
        info = versioning.ensure_dataset(workspace, name, settings.data, bars)
        fresh = stages.new_record(name, info.version, settings, stages.compute_names(settings))
        before = stages.finished_training(workspace, fresh.run_id)
        record = before or stages.train_model(workspace, name, settings, bars)
    finally:
        bars.close()
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
    pairs("Training", [(key.replace("_", " "), str(value)) for key, value in result.items()])
    return 0


def evaluate(arguments: Namespace) -> int:
    """Judges a run's model, or a folder of images."""
    from ganpipe import stages

    if bool(arguments.run_reference) == bool(arguments.generated):
        say("ganpipe evaluate: give either RUN or --generated DIR.")
        return USAGE_ERROR
    workspace = opened(arguments)
    settings = settings_of(arguments, workspace)
    bars = Bars(quiet=arguments.json)
    try:
        if arguments.generated:
            name = arguments.dataset or workspace.params().dataset
            folder = absolute(arguments.generated)
            result = stages.evaluate_folder(workspace, folder, name, settings, bars).as_dict()
        else:
            record = run_named(workspace, arguments.run_reference, arguments.dataset)
            result = stages.evaluate_run(workspace, record, settings, bars).evaluation.as_dict() | {
                "run": record.run_id
            }
    finally:
        bars.close()
    if arguments.json:
        print_json(result)
        return 0
    _show_metrics(result["metrics"])
    pairs("", [("verdict", f"{result['verdict']}: {' '.join(result['evidence'])}"),
               ("sample grid", _shown(workspace, result["grid"]))])  # fmt: skip
    return 0


def run_named(workspace: Workspace, reference: str, dataset: str | None = None) -> RunRecord:
    """The run called so; `champion` is the run that made the champion."""
    from ganpipe.lineage import find_record
    from ganpipe.tracking import CHAMPION, Tracker

    if reference == CHAMPION:
        model = Tracker(workspace).find_model(CHAMPION, dataset)
        return find_record(workspace, str(model.run_id))
    return find_record(workspace, reference)


def generate(arguments: Namespace) -> int:
    """Draws images from a registered model."""
    from ganpipe import stages

    if arguments.count < 1:
        say("ganpipe generate: -n must be at least 1.")
        return USAGE_ERROR
    workspace = opened(arguments)
    model = stages.load_model(workspace, arguments.model, arguments.dataset)
    bars = Bars(quiet=arguments.json)
    try:
        paths = stages.generate_images(model, arguments.count, arguments.seed, absolute(arguments.out), bars)
    finally:
        bars.close()
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
    frames = stages.interpolation_frames(model, arguments.stops, arguments.frames, arguments.seed)
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
    bars = Bars(quiet=arguments.json)
    try:
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
    finally:
        bars.close()
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


# ---- operations ------------------------------------------------------------------------------------------


def up(arguments: Namespace) -> int:
    """Serves until Ctrl-C."""
    from flows.up import UpOptions
    from flows.up import up as serve

    workspace = opened(arguments)
    watch = absolute(arguments.watch) if arguments.watch else None
    options = UpOptions(
        request_of(arguments, workspace), arguments.cron, watch, arguments.prefect_port, arguments.mlflow_port
    )
    serve(workspace, options)
    return 0


def status(arguments: Namespace) -> int:
    """What there is in this workspace."""
    from flows.server import running_servers
    from ganpipe.lineage import all_records
    from ganpipe.tracking import Tracker
    from ganpipe.versioning import dataset_info, dataset_names

    workspace = opened(arguments)
    settings = settings_of(arguments, workspace).data
    datasets = [dataset_info(workspace, name, settings) for name in dataset_names(workspace)]
    records = all_records(workspace)
    tracker = Tracker(workspace) if records else None
    found = [tracker.champion(name) for name in tracker.models()] if tracker else []
    champions = {c.name: str(c) for c in found if c}
    servers = running_servers(workspace)
    disk = shutil.disk_usage(workspace.root)
    result = {
        "workspace": str(workspace.root),
        "datasets": [asdict(info) for info in datasets],
        "runs": [
            {"run": r.run_id, "state": r.state, "dataset": r.dataset, "version": r.version, "champion": r.champion,
             "mlflow_run_id": r.mlflow_run_id, "model_version": r.model_version,
             "verdict": (r.evaluation or {}).get("verdict")}
            for r in records
        ],
        "champions": champions,
        "servers": asdict(servers) if servers else None,
        "disk_free_bytes": disk.free,
    }  # fmt: skip
    if arguments.json:
        print_json(result)
        return 0
    data_rows = [(i.name, i.version, f"{i.images:,}") for i in datasets]
    table("Data sets", ("name", "version", "images"), data_rows)
    run_rows = [
        (r.run_id, r.state, (r.evaluation or {}).get("verdict") or "", r.model_version or "") for r in records
    ]
    table("Runs", ("run", "state", "verdict", "model"), run_rows[-20:])
    rows = [("champions", ", ".join(champions.values()) or "none yet"),
            ("servers", f"{servers.prefect_api}, {servers.mlflow}" if servers else "not running (ganpipe up)"),
            ("free disk", f"{disk.free / 2**30:.1f} GiB")]  # fmt: skip
    pairs("", rows)
    return 0


def trace(arguments: Namespace) -> int:
    """Where a picture comes from: what it carries, and whether the run is still here."""
    from ganpipe.images import read_origin
    from ganpipe.lineage import load_record

    origin = read_origin(absolute(arguments.file))
    workspace = opened(arguments)
    record = load_record(workspace, str(origin["run"])) if "run" in origin else None
    result = {"file": arguments.file, "origin": origin, "run_here": record is not None}
    if arguments.json:
        print_json(result)
        return 0
    rows = []
    for key, value in origin.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        rows.append((key.replace("_", " "), text))
    if "run" in origin:
        rows.append(("run here", "yes" if record else "no: it was made in another workspace"))
    pairs(arguments.file, rows)
    return 0


def reproduce(arguments: Namespace) -> int:
    """Exit 0 if the weights are the same, bit for bit, else 1."""
    from ganpipe import stages

    workspace = opened(arguments)
    record = run_named(workspace, arguments.run_reference)
    bars = Bars(quiet=arguments.json)
    try:
        result = stages.reproduce(workspace, record, bars)
    finally:
        bars.close()
    if arguments.json:
        print_json(result)
    elif result["identical"]:
        out.print(f"{record.run_id}: trained again, and every bit of the weights is the same.")
    if not result["identical"] and not arguments.json:
        raise GanpipeError(
            f"{record.run_id}: the weights differ ({result['weights_sha256'][:12]} instead of {result['expected'][:12]})."
        )
    return 0 if result["identical"] else 1


def promote(arguments: Namespace) -> int:
    """Makes a run's model the champion."""
    from ganpipe.lineage import save_record
    from ganpipe.tracking import Tracker

    workspace = opened(arguments)
    record = run_named(workspace, arguments.run_reference)
    tracker = Tracker(workspace)
    reference = tracker.version_of(record)
    tracker.promote(reference)
    save_record(workspace, replace(record, champion=True))
    return _champion_is(arguments, str(reference))


def rollback(arguments: Namespace) -> int:
    """Brings the champion before back."""
    from ganpipe.tracking import CHAMPION, Tracker, registered_name

    tracker = Tracker(opened(arguments))
    name = (
        registered_name(arguments.dataset) if arguments.dataset else tracker.find_model(CHAMPION, None).name
    )
    return _champion_is(arguments, str(tracker.rollback(name)))


def _champion_is(arguments: Namespace, model: str) -> int:
    if arguments.json:
        print_json({"champion": model})
    else:
        out.print(f"The champion is now {model}.")
    return 0


def settings(arguments: Namespace) -> int:
    """Prints a params.yaml with every setting."""
    out.print(params_template(), end="", markup=False)
    return 0
