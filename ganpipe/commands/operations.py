"""`status`, `trace`, `reproduce`, `promote`, `rollback`, `completion`, `settings`."""

from __future__ import annotations

import sys
from argparse import Namespace

from ganpipe.commands.context import (
    absolute,
    find_run,
    open_named_workspace,
    resolve_settings,
)
from ganpipe.commands.tables import count_or_blank
from ganpipe.console import Bars, out, pairs, print_json, say, table
from ganpipe.errors import GanpipeError
from ganpipe.settings.params import params_template


def status(arguments: Namespace) -> int:
    """Datasets, runs, champions, servers and free disk."""
    from ganpipe.stages.status import workspace_status

    workspace = open_named_workspace(arguments, reading=True)
    found = workspace_status(workspace, resolve_settings(arguments, workspace).data)
    if arguments.json:
        print_json(found.as_dict())
        return 0
    data_rows = [(v.name, v.version or "", count_or_blank(v.images), v.problem or "") for v in found.datasets]
    table("Datasets", ("name", "version", "images", ""), data_rows)
    run_rows = [
        (r.run, r.state, r.problem or r.verdict or "", r.conditions or "", r.model_version or "")
        for r in found.runs
    ]
    table("Runs", ("run", "state", "verdict", "conditions", "model"), run_rows[-20:])
    changes = [(c.at, f"{c.model} v{c.version}", f"{c.action} by {c.by}", c.why) for c in found.changes]
    if changes:
        table("Champions", ("when", "model", "who", "why"), changes[-5:])
    servers = found.servers
    rows = [
        ("champions", found.champions_problem or ", ".join(found.champions.values()) or "none yet"),
        *((f"retraining {d.dataset}", d.reason) for d in found.retraining if not d.worth),
        ("servers", f"{servers.prefect_api}, {servers.mlflow}" if servers else "not running (ganpipe up)"),
        ("free disk", f"{found.disk_free_bytes / 2**30:.1f} GiB"),
    ]
    pairs("", rows)
    return 0


def trace(arguments: Namespace) -> int:
    """Prints the origin of an image, and whether its run is still here."""
    from ganpipe.imaging.provenance import read_origin
    from ganpipe.stores.run_records import all_records

    origin = read_origin(absolute(arguments.file))
    workspace = open_named_workspace(arguments, reading=True)
    record = next((r for r in all_records(workspace) if r.run_id == origin.get("run")), None)
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
    from ganpipe.services.recovery import recover
    from ganpipe.stages import reproduce

    workspace = open_named_workspace(arguments, tracks=True)
    recover(workspace)
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
    """Makes a run's model the champion; a refused one only with --force."""
    from ganpipe.services.recovery import recover
    from ganpipe.stages.promote import promote_run

    workspace = open_named_workspace(arguments, tracks=True)
    recover(workspace)
    record = find_run(workspace, arguments.run_reference)
    return _champion_is(arguments, str(promote_run(workspace, record, arguments.force, arguments.because)))


def rollback(arguments: Namespace) -> int:
    """Brings the champion before back."""
    from ganpipe.stages.promote import roll_back

    workspace = open_named_workspace(arguments)
    return _champion_is(arguments, str(roll_back(workspace, arguments.dataset, arguments.because)))


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


def doctor(arguments: Namespace) -> int:
    """Shows leftovers of killed processes and damages; with --fix they are settled. Exit 1 if some of it cannot be."""
    from ganpipe.services import recovery

    workspace = open_named_workspace(arguments, reading=not arguments.fix)
    found = recovery.find_unsettled(workspace)
    left = found
    if arguments.fix and found:
        with workspace.lock("recovery", say=say):
            left = recovery.settle(recovery.find_unsettled(workspace))
    rows = [(f.kind, f.what, f.action, "no" if f in left else "yes") for f in found]
    names = ("kind", "what", "action", "settled")
    if arguments.json:
        settled = [dict(zip(names, row, strict=True)) | {"settled": row[3] == "yes"} for row in rows]
        print_json({"workspace": str(workspace.root), "findings": settled, "left": len(left)})
    elif not found:
        out.print("Nothing is left to settle.")
    else:
        table("Findings", names, rows)
        if not arguments.fix:
            say("Settle it with: ganpipe doctor --fix")
    return 1 if arguments.fix and left else 0
