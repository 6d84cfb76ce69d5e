"""One of several training processes: `torchrun … -m ganpipe.training.worker JOB.json [STORE]`.

`ganpipe train --gpus N` writes the job and starts them on one machine, where they find each other through the file
STORE. On several machines that share the workspace's folder, start torchrun on each with its own --nnodes and
--rdzv-endpoint, the same job and no STORE; that network must be trusted.

The first process reports to its starter, one JSON object per line on standard output. Points of the loss curve
reach it through the file that the trainer writes: what was only in a pipe could be lost."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ganpipe.compute.distributed import join_process_group
from ganpipe.compute.processes import die_with_parent
from ganpipe.data.shards import load_prepared
from ganpipe.errors import GanpipeError, Interrupted
from ganpipe.files import read_json
from ganpipe.models.io import save_generator
from ganpipe.progress import Progress
from ganpipe.settings.schema import from_dict
from ganpipe.training.callbacks import Callbacks
from ganpipe.training.trainer import train


def tell(event: str, value: Any) -> None:
    """A line for whoever started us."""
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write(json.dumps({event: value}) + "\n")
        sys.stdout.flush()


def main() -> int:
    """Trains as the job says."""
    die_with_parent()
    path = Path(sys.argv[1]).absolute()
    job = read_json(path)
    store = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    run_dir, settings = path.parent, from_dict(job["settings"])
    tell("pid", os.getpid())

    def report(p: Progress) -> None:
        tell("progress", asdict(p))

    callbacks = Callbacks(
        picture=lambda path, nimg: tell("picture", [str(path), nimg]),
        report=report,
    )
    try:
        data = load_prepared(Path(os.path.normpath(run_dir / job["prepared"])), job["version"])
        with join_process_group(settings.training.device, store) as distributed:
            result = train(data, settings, run_dir, callbacks, job["origin"], distributed)
    except Interrupted as stopped:
        tell("interrupted", [stopped.signum, str(stopped)])
        return 0
    except GanpipeError as error:
        tell("error", str(error))
        return 1
    if os.environ.get("RANK", "0") == "0":
        save_generator(
            run_dir / "model", result.model, settings.model, data.shape, job["origin"], result.labels
        )
        tell("result", asdict(result.summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
