"""`status`."""

from __future__ import annotations

from argparse import Namespace
from datetime import datetime

from ganpipe.commands.context import open_named_workspace
from ganpipe.commands.tables import count_or_blank
from ganpipe.console import duration, line_of, out, pairs, print_json, table
from ganpipe.stages.status import DatasetStatus, DiskUse, RunStatus, WorkspaceStatus, read_status
from ganpipe.stores.activities import Activity

SHOWN_RUNS, SHOWN_CHANGES = 10, 5


def status(arguments: Namespace) -> int:
    """Prints what runs, ran and is planned, datasets, models, servers and disk."""
    workspace = open_named_workspace(arguments, reading=True)
    found = read_status(workspace)
    if arguments.json:
        print_json(found.as_dict())
    else:
        _show(found)
    return 0


def _show(found: WorkspaceStatus) -> None:
    if found.activities:
        table("Now", ("process", "on", "", ""), [_activity_row(activity) for activity in found.activities])
    if found.planned:
        planned = [(local_time(p.at), p.deployment, p.timing) for p in found.planned[:3]]
        table("Next", ("when", "deployment", "schedule"), planned)
    too_little = {d.dataset: d.reason for d in found.retraining if not d.worth}
    datasets = [_dataset_row(dataset, too_little.get(dataset.name, "")) for dataset in found.datasets]
    if datasets:
        table("Datasets", ("name", "version", "images", "champion", ""), datasets)
    if found.runs:
        names = ("run", "began", "training", "state", "verdict", "conditions", "model", "why")
        table("Runs", names, map(_run_row, found.runs[-SHOWN_RUNS:]))
    if not datasets and not found.runs:
        out.print(
            "No dataset and no run yet. Begin with: ganpipe run, or ganpipe data add FOLDER --name NAME"
        )
    if found.flow_runs:
        rows = [
            (f.name, local_time(f.began_at), duration(f.seconds), f.state, f.message) for f in found.flow_runs
        ]
        table("Prefect's runs", ("run", "began", "took", "state", "why"), rows)
    if found.changes:
        changes = [
            (local_time(c.at), f"{c.model} v{c.version}", f"{c.action} by {c.by}", c.why)
            for c in found.changes
        ]
        table("Champions", ("when", "model", "who", "why"), changes[-SHOWN_CHANGES:])
    pairs("", _rest(found))


def _activity_row(activity: Activity) -> tuple[str, str, str, str]:
    p = activity.progress
    stage = "waits" if activity.waits_for else (p.stage if p else "begins")
    return str(activity.pid), activity.subject, stage, activity.waits_for or (line_of(p) if p else "")


def _dataset_row(dataset: DatasetStatus, too_little: str) -> tuple[str, str, str, str, str]:
    seen = {True: "has seen it", False: "has not seen it", None: ""}[dataset.champion_has_seen]
    images, note = count_or_blank(dataset.images), dataset.problem or too_little
    return dataset.name, dataset.version or "", images, seen, note


def _run_row(run: RunStatus) -> tuple[str, ...]:
    return (
        run.run,
        local_time(run.began_at),
        duration(run.train_s) if run.train_s else "",
        run.state,
        run.verdict or "",
        run.conditions or "",
        (run.model_version or "") + (", champion" if run.champion else ""),
        run.reason,
    )


def _rest(found: WorkspaceStatus) -> list[tuple[str, str]]:
    champions = found.models_problem or ", ".join(found.champions.values()) or "none yet"
    servers = [f"{s.name} {s.url}" + (f" (process {s.pid})" if s.pid else "") for s in found.servers]
    up = (
        f"ganpipe up is process {found.up_pid}: {', '.join(servers)}"
        if servers
        else "not running (ganpipe up)"
    )
    return [
        ("champions", champions),
        ("challengers", ", ".join(found.challengers.values()) or "none"),
        ("servers", up),
        *(("elsewhere", sentence) for sentence in found.elsewhere),
        ("disk", ", ".join(map(_disk, found.disk)) or "nothing yet"),
        ("free disk", f"{found.disk_free_bytes / 2**30:.1f} GiB"),
    ]


def _disk(use: DiskUse) -> str:
    return f"{use.what} {'' if use.whole else 'more than '}{use.bytes / 2**20:,.0f} MiB"


def local_time(utc: str | None) -> str:
    """A time of a record in local time; empty if there is none."""
    return f"{datetime.fromisoformat(utc).astimezone():%Y-%m-%d %H:%M}" if utc else ""
