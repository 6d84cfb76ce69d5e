"""Whether a dataset has changed enough to be trained on again: the rule of the section `watch`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ganpipe.errors import GanpipeError
from ganpipe.files import read_dataclass, write_json
from ganpipe.settings.schema import WatchSettings
from ganpipe.stores.dataset_summaries import records_at, versions_of
from ganpipe.stores.dvc import pointer_file, read_pointer
from ganpipe.stores.run_records import all_records
from ganpipe.stores.workspace import Workspace


@dataclass(frozen=True)
class Decision:
    """The rule's decision on a dataset version, and the reason.

    `new`: images that the version trained on last does not have; `changed_percent`: new and removed ones, as a share of
    that version. `not_before`: the change is enough, and a run may start at this time (ISO 8601). `started`: when the
    rule last let a run start.
    """

    dataset: str
    version: str
    worth: bool
    reason: str
    new: int = 0
    changed_percent: float = 0.0
    not_before: str | None = None
    started: str | None = None


def last_trained(workspace: Workspace, dataset: str, besides: str | None = None) -> str | None:
    """The latest version of a dataset on which a training has finished; `besides`: not this one."""
    finished = [r.version for r in all_records(workspace) if r.dataset == dataset and r.state == "finished"]
    order = [entry["version"] for entry in versions_of(workspace, dataset)]
    known = [version for version in order if version in finished] or finished
    return next((version for version in reversed(known) if version != besides), None)


def decide(workspace: Workspace, dataset: str, rule: WatchSettings, now: datetime | None = None) -> Decision:
    """Applies the rule to the present version, and keeps the answer for `ganpipe status`."""
    now = now or datetime.now(UTC)
    earlier = read_decision(workspace, dataset)
    decision = _judge(workspace, dataset, rule, earlier, now)
    write_json(_path(workspace, dataset), decision)
    return decision


def _judge(
    workspace: Workspace, dataset: str, rule: WatchSettings, earlier: Decision | None, now: datetime
) -> Decision:
    started = earlier.started if earlier else None
    if not pointer_file(workspace, dataset).exists():
        return Decision(dataset, "", False, f"there is no dataset {dataset} yet", started=started)
    version, stamp = read_pointer(workspace, dataset), now.isoformat(timespec="seconds")
    trained = last_trained(workspace, dataset)
    if trained == version:
        return Decision(dataset, version, False, "this version was trained on already", started=started)
    if earlier and earlier.worth and earlier.version == version:
        return earlier  # the run was stopped, and resumes
    try:
        before = {r.sha256 for r in records_at(workspace, f"{dataset}@{trained}")} if trained else set()
    except GanpipeError:  # DVC's cache no longer has it: nobody can tell how much changed
        before = set()
    present = {r.sha256 for r in records_at(workspace, dataset)}
    new, gone = len(present - before), len(before - present)
    percent = 100 * (new + gone) / len(before) if before else 100.0
    share = rule.min_changed_percent
    if not (new >= rule.min_new_images or (share and percent >= share)) and before:
        wanted = f" and {percent:.1f} of {share:g}% changed" if share else ""
        reason = f"not worth retraining yet: {new} of {rule.min_new_images} new images{wanted}"
        return Decision(dataset, version, False, reason, new, percent, started=started)
    reason = f"{new} new images, {percent:.1f}% changed"
    earliest = datetime.fromisoformat(started) + timedelta(seconds=rule.at_most_every_s()) if started else now
    if earliest > now:
        when = earliest.isoformat(timespec="seconds")
        waits = f"{reason}; at most one run every {rule.at_most_every}, the next at {when}"
        return Decision(dataset, version, False, waits, new, percent, when, started)
    return Decision(dataset, version, True, reason, new, percent, started=stamp)


def read_decision(workspace: Workspace, dataset: str) -> Decision | None:
    """The last answer; None if there is none."""
    path = _path(workspace, dataset)
    try:
        return read_dataclass(path, Decision) if path.exists() else None
    except GanpipeError:  # it is made again
        return None


def read_decisions(workspace: Workspace) -> list[Decision]:
    """The last answer for each dataset whose present version it is about."""
    names = sorted(path.stem for path in _folder(workspace).glob("*.json"))
    found = [decision for name in names if (decision := read_decision(workspace, name))]
    return [decision for decision in found if _is_present(workspace, decision)]


def _is_present(workspace: Workspace, decision: Decision) -> bool:
    pointer = pointer_file(workspace, decision.dataset)
    return pointer.exists() and read_pointer(workspace, decision.dataset) == decision.version


def _folder(workspace: Workspace) -> Path:
    return workspace.state / "retraining"


def _path(workspace: Workspace, dataset: str) -> Path:
    return _folder(workspace) / f"{dataset}.json"
