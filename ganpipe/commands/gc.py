"""`gc`: deletes what the workspace can do without."""

from __future__ import annotations

from argparse import Namespace

from ganpipe.commands.context import open_named_workspace, resolve_settings
from ganpipe.console import out, print_json, say, table


def gc(arguments: Namespace) -> int:
    """Says by kind what is deleted; with --dry-run nothing is."""
    from ganpipe.services.recovery import recover
    from ganpipe.stages import gc as stage

    workspace = open_named_workspace(arguments, reading=arguments.dry_run, tracks=True)
    settings = resolve_settings(arguments, workspace)
    if arguments.dry_run:
        plan = stage.plan_removals(workspace, settings)
    else:
        recover(workspace)
        with workspace.lock("run", wait_s=0.0):
            plan = stage.collect(workspace, settings)
    by_kind = {kind: [r for r in plan.removals if r.kind == kind] for kind in stage.KINDS}
    if arguments.json:
        items = [{"kind": r.kind, "what": r.what, "bytes": r.bytes} for r in plan.removals]
        kinds = {kind: sum(r.bytes for r in found) for kind, found in by_kind.items()}
        print_json(
            {
                "dry_run": arguments.dry_run,
                "bytes": plan.bytes,
                "kinds": kinds,
                "items": items,
                "notes": plan.notes,
            }
        )
        return 0
    if plan.removals:
        rows = [
            (kind, f"{len(found):,}", _mib(sum(r.bytes for r in found)), ", ".join(r.what for r in found[:3]))
            for kind, found in by_kind.items()
            if found
        ]
        title = "This can be deleted" if arguments.dry_run else "Deleted"
        table(title, ("kind", "number", "room", "such as"), rows)
    for note in plan.notes:
        say(note)
    if not plan.removals:
        out.print("There is nothing to delete.")
    elif arguments.dry_run:
        out.print(f"{_mib(plan.bytes)} in all. Delete it with: ganpipe gc")
    else:
        out.print(f"{_mib(plan.bytes)} freed.")
    return 0


def _mib(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
