"""One of several processes that train together: `python -m torch.distributed.run … -m ganpipe.training.worker JOB.json`.

`ganpipe train --gpus N` writes the job and starts them on one machine. Over several machines that share the
workspace's folder, start torch.distributed.run on each with its own --nnodes and --rdzv-endpoint and the same job.

The first process tells the one that started it what happens, a JSON object a line on standard output. Points of the
curve go to the file `points.jsonl` beside the checkpoints first: what was told only through a pipe could be lost.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ganpipe.data.shards import load_prepared
from ganpipe.errors import GanpipeError, Interrupted
from ganpipe.files import read_json
from ganpipe.models.weights import save_generator
from ganpipe.progress import Progress
from ganpipe.settings.schema import from_dict
from ganpipe.training.loop import train
from ganpipe.training.report import Outbox, Point

POINTS = "points.jsonl"


def die_with_parent() -> None:
    """Asks the kernel to kill this process when its parent dies (Linux), so that no trainer is left behind."""
    pr_set_pdeathsig = 1
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").prctl(pr_set_pdeathsig, signal.SIGKILL)


def tell(event: str, value: Any) -> None:
    """A line for whoever started us."""
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write(json.dumps({event: value}) + "\n")
        sys.stdout.flush()


def append_points(path: Path, points: list[Point]) -> None:
    """Adds points to a file, on the disk before this returns."""
    if path.exists():  # a line that a kill has cut would spoil the next one
        text = path.read_bytes()
        os.truncate(path, text.rfind(b"\n") + 1)
    with path.open("a") as file:
        for point in points:
            file.write(json.dumps(asdict(point)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_points(path: Path) -> list[Point]:
    """The points of the file; a last line that a kill has cut is left out."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [Point(**json.loads(line)) for line in lines[:-1]]


def main() -> int:
    """Trains as the job says."""
    die_with_parent()
    job = read_json(Path(sys.argv[1]))
    run_dir, settings = Path(job["run_dir"]), from_dict(job["settings"])
    tell("pid", os.getpid())

    def report(p: Progress) -> None:
        tell("progress", asdict(p))

    outbox = Outbox(
        points=lambda points: append_points(run_dir / POINTS, points),
        picture=lambda path, nimg: tell("picture", [str(path), nimg]),
        report=report,
    )
    try:
        data = load_prepared(Path(job["prepared"]), job["version"])
        result = train(data, settings, run_dir, outbox, job["origin"])
    except Interrupted as stopped:
        tell("interrupted", [stopped.signum, str(stopped)])
        return 0
    except GanpipeError as error:
        tell("error", str(error))
        return 1
    if os.environ.get("RANK", "0") == "0":
        save_generator(
            run_dir / "model", result.G_ema, settings.model, data.shape, job["origin"], result.labels
        )
        told = {k: v for k, v in vars(result).items() if k not in ("G_ema", "grids")}
        tell("result", told | {"grids": [str(path) for path in result.grids]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
