"""Continues a finished run whose `training.total_images` was raised, instead of training again from the start."""

from __future__ import annotations

import logging

from ganpipe.compute.checkpoints import copy_newest_checkpoint
from ganpipe.stores.run_records import (
    RunRecord,
    all_records,
    continued_record,
    load_record,
    run_folder,
    started_record,
)
from ganpipe.stores.workspace import Workspace
from ganpipe.training.posthoc_ema import FOLDER as AVERAGES
from ganpipe.training.posthoc_ema import copy_snapshots

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
TRAINED_BY = ("data", "model", "loss", "augment", "training")


def find_attempt(workspace: Workspace, fresh: RunRecord) -> RunRecord:
    """The record under which a training was begun before; else fresh.

    That is its own, that of a run that continues another, or that of a run that starts from given networks.
    """
    if run_folder(workspace, fresh.run_id).exists():
        return fresh
    begun = [r for r in all_records(workspace) if is_continuation(r, fresh) or is_warm_start(r, fresh)]
    return max(begun, key=lambda r: r.state == "finished", default=fresh)


def is_continuation(record: RunRecord, fresh: RunRecord) -> bool:
    """Whether a run continues another one to what `fresh` asks for."""
    if record.continues is None:
        return False
    return record.fingerprint == continued_record(fresh, record.continues).fingerprint


def is_warm_start(record: RunRecord, fresh: RunRecord) -> bool:
    """Whether a run is what `fresh` asks for, started from given networks."""
    if record.starts_from is None:
        return False
    return record.fingerprint == started_record(fresh, record.starts_from).fingerprint


def begin_continuation(workspace: Workspace, fresh: RunRecord) -> RunRecord:
    """The record of a run that starts from the last checkpoint of the longest finished run of the same settings.

    `fresh` itself if there is no such run, or if none can be continued; why not is said.
    """
    shorter = [r for r in all_records(workspace) if asks_for_less(r, fresh)]
    shorter.sort(key=total_images, reverse=True)
    why = ""
    for parent in shorter:
        record = continued_record(fresh, parent.run_id)
        obstacle = find_obstacle(parent, fresh)
        nimg = None if obstacle else copy_start(workspace, record)
        if nimg is not None:
            log.warning(continuation_sentence(record, nimg))
            return record
        why = why or f"run {parent.run_id} is not continued: {obstacle or 'it has no undamaged checkpoint'}"
    if why:
        log.warning(f"training.total_images was raised, but {why}. Training starts at zero.")
    return fresh


def continuation_sentence(record: RunRecord, nimg: int) -> str:
    """The sentence for a run that continues another one: from where, and what becomes of the schedules."""
    total = total_images(record)
    schedules = (
        f"Schedules that follow training.total_images take the values of a run of {total:,} images."
        if not record.settings["training"]["decay_images"]
        else "Schedules follow training.decay_images, as before."
    )
    return (
        f"training.total_images was raised: run {record.run_id} continues run {record.continues} at {nimg:,} of {total:,} "
        f"images. {schedules}"
    )


def total_images(record: RunRecord) -> int:
    """`training.total_images` of a run."""
    return int(record.settings["training"]["total_images"])


def asks_for_less(record: RunRecord, fresh: RunRecord) -> bool:
    """Whether a run has the settings and the data of `fresh`, but a lower number of images."""
    same_data = (record.dataset, record.version) == (fresh.dataset, fresh.version)
    return (
        same_data
        and total_images(record) < total_images(fresh)
        and _without_total(record) == _without_total(fresh)
    )


def _without_total(record: RunRecord) -> dict[str, object]:
    sections = {name: dict(record.settings[name]) for name in TRAINED_BY}
    del sections["training"]["total_images"]
    return dict(sections)


def find_obstacle(parent: RunRecord, fresh: RunRecord) -> str | None:
    """Why a run cannot be continued; None if it can."""
    if parent.state != "finished":
        return f"it is {parent.state}; finish it first with its own number of images"
    changes = {
        "ganpipe's source": (parent.source_sha256, fresh.source_sha256),
        "the installed packages": (parent.environment, fresh.environment),
        "the device or precision": (parent.compute, fresh.compute),
    }
    changed = [what for what, (then, now) in changes.items() if then != now]
    return f"{' and '.join(changed)} changed since" if changed else None


def copy_start(workspace: Workspace, record: RunRecord) -> int | None:
    """Copies the last checkpoint of the run that a record continues into its own folder; returns the images seen there.

    None if there is none. After a kill it is copied again. Snapshots of the averages come with it, before it.
    """
    source, target = (
        run_folder(workspace, run) / CHECKPOINTS for run in (str(record.continues), record.run_id)
    )
    copy_snapshots(source / AVERAGES, target / AVERAGES)
    return copy_newest_checkpoint(source, target)


def lineage_note(workspace: Workspace, record: RunRecord) -> tuple[str, ...]:
    """The sentence for the report of a run that continues another; empty for any other run."""
    if not record.continues:
        return ()
    parent = load_record(workspace, record.continues)
    seen = f" from {parent.train.nimg:,} images on" if parent and parent.train else ""
    return (f"It continues run {record.continues}{seen}, whose training.total_images was raised.",)
