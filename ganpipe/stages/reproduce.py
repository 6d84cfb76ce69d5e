"""The reproduce stage: trains a finished run again and compares the weights."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from ganpipe.compute.checkpoints import copy_newest_checkpoint
from ganpipe.errors import GanpipeError
from ganpipe.files import read_json, write_json
from ganpipe.progress import Report, ignore
from ganpipe.stages.continuation import CHECKPOINTS
from ganpipe.stages.run import compute_names
from ganpipe.stages.train import train_or_launch
from ganpipe.stores.code import changed_files, read_code, restoring_command
from ganpipe.stores.dataset_shards import load_dataset, open_version_at
from ganpipe.stores.run_records import RunRecord, new_record, run_folder
from ganpipe.stores.workspace import Workspace
from ganpipe.training import warm_start
from ganpipe.training.callbacks import Callbacks
from ganpipe.training.probe import PROBE_FILE

MOST_NAMED = 8  # files in one sentence


def reproduce(workspace: Workspace, record: RunRecord, report: Report = ignore) -> dict[str, Any]:
    """Trains a finished run again in a folder of its own and compares the weights, bit for bit.

    Raises:
        GanpipeError: the run is not finished, its data are not to be had, or source or packages are no longer those of the run.
    """
    if record.state != "finished" or not record.train:
        raise GanpipeError(f"Run {record.run_id} is {record.state}; only a finished run can be reproduced.")
    settings = record.resolved()
    version = open_version_at(workspace, record.dataset, record.version, settings.data)
    now = new_record(version.name, version.version, settings, compute_names(settings))
    if obstacle := find_obstacle(workspace, record, now):
        raise GanpipeError(obstacle)
    data = load_dataset(workspace, version, settings.data)
    folder = run_folder(workspace, record.run_id) / f"reproduction-{os.getpid()}"
    # The same split of each batch: what memory is free today must not decide over the last digits.
    write_json(folder / PROBE_FILE, read_json(run_folder(workspace, record.run_id) / PROBE_FILE))
    if record.continues:
        parent = run_folder(workspace, record.continues) / CHECKPOINTS
        if copy_newest_checkpoint(parent, folder / CHECKPOINTS) is None:
            raise GanpipeError(
                f"Run {record.run_id} continues run {record.continues}, whose last checkpoint is no longer in {parent}."
            )
    if record.starts_from:
        start = run_folder(workspace, record.run_id) / warm_start.FOLDER
        if copy_newest_checkpoint(start, folder / warm_start.FOLDER) is None:
            raise GanpipeError(
                f"Run {record.run_id} starts from the networks of {record.starts_from}, which are no longer in {start}."
            )
    summary = train_or_launch(workspace, data, settings, folder, Callbacks(report=report), record)
    same = summary.weights_sha256 == record.train.weights_sha256
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "run": record.run_id,
        "identical": same,
        "weights_sha256": summary.weights_sha256,
        "expected": record.train.weights_sha256,
    }


def find_obstacle(workspace: Workspace, record: RunRecord, now: RunRecord) -> str | None:
    """Why a run cannot be reproduced here and now, and the commands that change it; None if it can.

    `now`: the record that the same training would have today.
    """
    changes, commands = [], []
    if record.source_sha256 != now.source_sha256:
        change, command = _changed_code(run_folder(workspace, record.run_id))
        changes.append(change)
        commands += command
    packages = {
        name: (record.environment.get(name), now.environment.get(name))
        for name in sorted({*record.environment, *now.environment})
        if record.environment.get(name) != now.environment.get(name)
    }
    changes += [
        f"{name} {then or 'none'} then, {today or 'none'} now" for name, (then, today) in packages.items()
    ]
    pinned = [f"{name}=={then}" for name, (then, _) in packages.items() if then and name != "python"]
    commands += [f"pip install {' '.join(pinned)}"] if pinned else []
    if record.compute != now.compute:
        changes.append(f"it was trained on {' '.join(record.compute)}, and this is {' '.join(now.compute)}")
    if not changes:
        return None
    advice = f" Bring it back with: {' && '.join(commands)}" if commands else ""
    return f"Run {record.run_id} cannot be reproduced here: {'; '.join(changes)}.{advice}"


def _changed_code(folder: Path) -> tuple[str, list[str]]:
    """Describes in words how ganpipe's source changed, and gives the command that brings it back."""
    code = read_code(folder)
    if code is None:
        return "ganpipe's source changed (the run is from before ganpipe recorded its commit)", []
    files = changed_files(code)
    more = f" and {len(files) - MOST_NAMED} more files" if len(files) > MOST_NAMED else ""
    return f"in ganpipe's source {', '.join(files[:MOST_NAMED])}{more}", [restoring_command(code, folder)]
