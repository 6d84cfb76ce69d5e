"""`trace`, `reproduce`, `promote`, `refuse`, `rollback`, `notify`, `completion`, `settings`, `doctor`."""

from __future__ import annotations

import sys
from argparse import Namespace

from ganpipe.commands.context import (
    absolute,
    find_run,
    open_named_workspace,
)
from ganpipe.commands.tables import relative_path
from ganpipe.console import Bars, out, pairs, print_json, say, table
from ganpipe.errors import GanpipeError
from ganpipe.settings.params import params_template


def trace(arguments: Namespace) -> int:
    """Prints the origin of an image, whether its run is still here, and the command that makes it again."""
    from ganpipe.imaging.provenance import read_origin
    from ganpipe.stages.trace import trace_origin

    origin = read_origin(absolute(arguments.file))
    workspace = open_named_workspace(arguments, reading=True)
    found = trace_origin(workspace, arguments.file, origin)
    if arguments.json:
        print_json(found.as_dict())
        return 0
    rows = found.facts()
    if "run" in origin:
        rows.append(("run here", "yes" if found.record else "no: it was made in another workspace"))
    if found.record:
        rows.append(("model", found.record.model_version or "none"))
    if found.command:
        rows.append(("make it again", found.command))
    pairs(arguments.file, rows)
    return 0


def lineage(arguments: Namespace) -> int:
    """Prints what something came from and what came of it, with the commands for each."""
    from ganpipe.stages.lineage import trace_lineage

    workspace = open_named_workspace(arguments, reading=True)
    found = trace_lineage(workspace, arguments.reference)
    if arguments.json:
        print_json(found.as_dict())
        return 0
    rows = [
        (
            step.kind,
            relative_path(workspace, step.name) if step.kind == "picture" else step.name,
            step.about,
            step.command,
        )
        for step in found.chain
    ]
    table(f"Lineage of {found.reference}", ("kind", "name", "", "command"), rows)
    for step in found.chain:
        if step.page:
            out.print(f"{step.name}: {step.page}")
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


def refuse(arguments: Namespace) -> int:
    """Keeps the champion, though a run's model waits for a person."""
    from ganpipe.services.recovery import recover
    from ganpipe.stages.promote import refuse_run
    from ganpipe.stores.model_registry import ModelRegistry

    workspace = open_named_workspace(arguments, tracks=True)
    recover(workspace)
    record = find_run(workspace, arguments.run_reference)
    refused = refuse_run(workspace, record, arguments.because)
    champion = ModelRegistry(workspace, reading=True).champion(refused.name)
    if arguments.json:
        print_json({"refused": str(refused), "champion": str(champion) if champion else None})
    else:
        out.print(
            f"{refused} is refused; {f'the champion is still {champion}' if champion else 'there is no champion'}."
        )
    return 0


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


def notify(arguments: Namespace) -> int:
    """Shows who is told of what; with --test sends a message. Exit 1 if a service did not take it."""
    from dataclasses import asdict

    from ganpipe.services import notifications

    workspace = open_named_workspace(arguments, reading=True)
    urls = notifications.check_urls(workspace)
    events = workspace.params().notify.events.split("+")
    services = [str(service) for service in notifications.service_names(urls)]
    deliveries = notifications.send_test(workspace) if arguments.test else []
    lost = [delivery.service for delivery in deliveries if not delivery.delivered]
    if arguments.json:
        sent = [asdict(delivery) for delivery in deliveries]
        print_json({"services": services, "events": events, "test": sent})
        return 1 if lost else 0
    rows = [("services", ", ".join(services) or "none (notify.urls)"), ("events", ", ".join(events))]
    pairs("Notifications", rows)
    if lost:
        raise GanpipeError(f"The test message was not delivered to {', '.join(lost)}; check the address.")
    if arguments.test:
        out.print("The test message was delivered.")
    return 0


def completion(arguments: Namespace) -> int:
    """Prints the completion script of a shell: eval "$(ganpipe completion bash)"."""
    import shtab

    sys.stdout.write(shtab.complete(arguments.parser, arguments.shell) + "\n")
    return 0


def doctor(arguments: Namespace) -> int:
    """Shows leftovers of killed processes and damages; with --fix they are settled. Exit 1 if some of it cannot be."""
    from ganpipe.services import recovery
    from ganpipe.stores.elsewhere import describe_untouched

    workspace = open_named_workspace(arguments, reading=not arguments.fix)
    found = recovery.find_unsettled(workspace)
    left = found
    if arguments.fix and found:
        with workspace.lock("recovery", say=say):
            left = recovery.settle(recovery.find_unsettled(workspace))
    rows = [(f.kind, f.what, f.action, "no" if f in left else "yes") for f in found]
    names, notes = ("kind", "what", "action", "settled"), describe_untouched(workspace, "ganpipe doctor")
    if arguments.json:
        settled = [dict(zip(names, row, strict=True)) | {"settled": row[3] == "yes"} for row in rows]
        print_json({"workspace": str(workspace.root), "findings": settled, "left": len(left), "notes": notes})
    elif not found:
        out.print("Nothing is left to settle.")
    else:
        table("Findings", names, rows)
        if not arguments.fix:
            say("Settle it with: ganpipe doctor --fix")
    for note in notes if not arguments.json else ():
        say(note)
    return 1 if arguments.fix and left else 0
