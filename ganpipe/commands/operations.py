"""`up`, `status`, `trace`, `reproduce`, `promote`, `rollback`, `completion`, `settings`."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from dataclasses import replace

from ganpipe.commands.context import (
    absolute,
    find_run,
    make_request,
    open_named_workspace,
    require_utf8,
    resolve_settings,
)
from ganpipe.console import Bars, out, pairs, print_json, table
from ganpipe.errors import GanpipeError
from ganpipe.settings.params import params_template

# The deployments are a table in flows; its module imports Prefect, which must not happen before the servers are chosen.
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
RUNNER, WATCHED = "flows.deployments", "ganpipe/scheduled"


def up(arguments: Namespace) -> int:
    """Serves until Ctrl-C."""
    from ganpipe.services.up import UpOptions
    from ganpipe.services.up import up as serve

    workspace = open_named_workspace(arguments)
    require_utf8(workspace)
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
    """Datasets, runs, champions, servers and free disk."""
    from ganpipe.stages.status import workspace_status

    workspace = open_named_workspace(arguments)
    found = workspace_status(workspace, resolve_settings(arguments, workspace).data)
    if arguments.json:
        print_json(found.as_dict())
        return 0
    data_rows = [(v.name, v.version, f"{v.images:,}") for v in found.datasets]
    table("Datasets", ("name", "version", "images"), data_rows)
    run_rows = [(r.run, r.state, r.verdict or "", r.model_version or "") for r in found.runs]
    table("Runs", ("run", "state", "verdict", "model"), run_rows[-20:])
    servers = found.servers
    rows = [
        ("champions", ", ".join(found.champions.values()) or "none yet"),
        ("servers", f"{servers.prefect_api}, {servers.mlflow}" if servers else "not running (ganpipe up)"),
        ("free disk", f"{found.disk_free_bytes / 2**30:.1f} GiB"),
    ]
    pairs("", rows)
    return 0


def trace(arguments: Namespace) -> int:
    """Prints the origin of an image, and whether its run is still here."""
    from ganpipe.imaging.provenance import read_origin
    from ganpipe.stores.run_records import load_record

    origin = read_origin(absolute(arguments.file))
    workspace = open_named_workspace(arguments)
    # The image may come from anybody, and so may the name in it.
    run = str(origin.get("run"))
    record = load_record(workspace, run) if RUN_ID.fullmatch(run) else None
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
    sys.stdout.write(params_template())
    return 0


def completion(arguments: Namespace) -> int:
    """Prints the completion script of a shell: eval "$(ganpipe completion bash)"."""
    import shtab

    sys.stdout.write(shtab.complete(arguments.parser, arguments.shell) + "\n")
    return 0
