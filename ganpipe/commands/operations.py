"""`up`, `status`, `trace`, `reproduce`, `promote`, `rollback`, `completion`, `settings`."""

from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from dataclasses import asdict, replace

from ganpipe.commands.context import absolute, find_run, make_request, open_named_workspace, resolve_settings
from ganpipe.console import Bars, out, pairs, print_json, table
from ganpipe.errors import GanpipeError
from ganpipe.settings.params import params_template

# The deployments are a table in flows; its module imports Prefect, which must not happen before the servers are chosen.
RUNNER, WATCHED = "flows.deployments", "ganpipe/scheduled"


def up(arguments: Namespace) -> int:
    """Serves until Ctrl-C."""
    from ganpipe.services.up import UpOptions
    from ganpipe.services.up import up as serve

    workspace = open_named_workspace(arguments)
    watch = absolute(arguments.watch) if arguments.watch else None
    options = UpOptions(
        make_request(arguments, workspace),
        arguments.cron,
        watch,
        arguments.prefect_port,
        arguments.mlflow_port,
        RUNNER,
        WATCHED,
    )
    serve(workspace, options)
    return 0


def status(arguments: Namespace) -> int:
    """What there is in this workspace."""
    from ganpipe.services.prefect import running_servers
    from ganpipe.stores.datasets import dataset_names, open_version
    from ganpipe.stores.mlflow_runs import Tracker
    from ganpipe.stores.run_records import all_records

    workspace = open_named_workspace(arguments)
    settings = resolve_settings(arguments, workspace).data
    datasets = [open_version(workspace, name, settings) for name in dataset_names(workspace)]
    records = all_records(workspace)
    tracker = Tracker(workspace) if records else None
    found = [tracker.champion(name) for name in tracker.models()] if tracker else []
    champions = {c.name: str(c) for c in found if c}
    servers = running_servers(workspace)
    disk = shutil.disk_usage(workspace.root)
    result = {
        "workspace": str(workspace.root),
        "datasets": [info.as_dict() for info in datasets],
        "runs": [
            {
                "run": r.run_id,
                "state": r.state,
                "dataset": r.dataset,
                "version": r.version,
                "champion": r.champion,
                "mlflow_run_id": r.mlflow_run_id,
                "model_version": r.model_version,
                "verdict": (r.evaluation or {}).get("verdict"),
            }
            for r in records
        ],
        "champions": champions,
        "servers": asdict(servers) if servers else None,
        "disk_free_bytes": disk.free,
    }
    if arguments.json:
        print_json(result)
        return 0
    data_rows = [(i.name, i.version, f"{i.images:,}") for i in datasets]
    table("Datasets", ("name", "version", "images"), data_rows)
    run_rows = [
        (r.run_id, r.state, (r.evaluation or {}).get("verdict") or "", r.model_version or "") for r in records
    ]
    table("Runs", ("run", "state", "verdict", "model"), run_rows[-20:])
    rows = [
        ("champions", ", ".join(champions.values()) or "none yet"),
        ("servers", f"{servers.prefect_api}, {servers.mlflow}" if servers else "not running (ganpipe up)"),
        ("free disk", f"{disk.free / 2**30:.1f} GiB"),
    ]
    pairs("", rows)
    return 0


def trace(arguments: Namespace) -> int:
    """Where a picture comes from: what it carries, and whether the run is still here."""
    from ganpipe.imaging.provenance import read_origin
    from ganpipe.stores.run_records import load_record

    origin = read_origin(absolute(arguments.file))
    workspace = open_named_workspace(arguments)
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
    from ganpipe.stages import reproduce

    workspace = open_named_workspace(arguments)
    record = find_run(workspace, arguments.run_reference)
    with Bars(quiet=arguments.json) as bars:
        result = reproduce.reproduce(workspace, record, bars)
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
    from ganpipe.stores.mlflow_runs import Tracker
    from ganpipe.stores.run_records import save_record

    workspace = open_named_workspace(arguments)
    record = find_run(workspace, arguments.run_reference)
    tracker = Tracker(workspace)
    reference = tracker.version_of(record)
    tracker.promote(reference)
    save_record(workspace, replace(record, champion=True))
    return _champion_is(arguments, str(reference))


def rollback(arguments: Namespace) -> int:
    """Brings the champion before back."""
    from ganpipe.stores.mlflow_runs import CHAMPION, Tracker, registered_name

    tracker = Tracker(open_named_workspace(arguments))
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
    out.print(params_template(), end="", markup=False, soft_wrap=True)
    return 0


def completion(arguments: Namespace) -> int:
    """Prints the completion script of a shell: eval "$(ganpipe completion bash)"."""
    import shtab

    sys.stdout.write(shtab.complete(arguments.parser, arguments.shell) + "\n")
    return 0
