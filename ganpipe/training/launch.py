"""Several processes on this machine through torch.distributed.run, and what they tell while they train."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from ganpipe.compute.distributed import check_batch_divides
from ganpipe.compute.processes import die_with_parent
from ganpipe.compute.signals import catch_stop_signals
from ganpipe.errors import GanpipeError, Interrupted
from ganpipe.files import write_json
from ganpipe.progress import Progress
from ganpipe.settings.schema import Settings, TrainingSettings
from ganpipe.training.callbacks import Callbacks
from ganpipe.training.points import POINTS, read_points
from ganpipe.training.summary import TrainSummary

log = logging.getLogger(__name__)

LAST_LINES = 20
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


@dataclass(frozen=True)
class Job:
    """A training that several processes share: data, settings and run folder."""

    prepared: Path
    version: str
    settings: Settings
    run_dir: Path
    origin: dict[str, Any]

    def write(self) -> Path:
        """The job as a file in the run folder, with paths relative to it."""
        path = self.run_dir / "job.json"
        write_json(
            path,
            {
                "prepared": os.path.relpath(self.prepared, self.run_dir),
                "version": self.version,
                "settings": self.settings.as_dict(),
                "origin": self.origin,
            },
        )
        return path


def check_processes(settings: TrainingSettings) -> None:
    """Raises GanpipeError where so many processes cannot train these settings here."""
    count = settings.processes
    check_batch_divides(settings.batch_images, count)
    visible = torch.cuda.device_count()
    if settings.device != "cpu" and 0 < visible < count:
        raise GanpipeError(
            f"{count} GPUs are asked for (--gpus, training.processes), and {visible} are visible; ask for {visible}."
        )


def train_distributed(job: Job, callbacks: Callbacks) -> TrainSummary:
    """Trains in several processes; returns the first one's summary.

    A signal to this process is handed to the first one, which ends all in the same step.

    Raises:
        Interrupted: SIGINT or SIGTERM, with a checkpoint written.
        GanpipeError: training failed; the sentence is the first process's.
    """
    path, processes = job.write(), job.settings.training.processes
    points = job.run_dir / POINTS
    callbacks.points(read_points(points))  # written to the file before a kill that kept them from the pipe
    threads = max(1, (os.cpu_count() or 1) // processes)
    # No port is open to the network: rendezvous and process group meet in files, and what they exchange uses loopback.
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "GLOO_SOCKET_IFNAME": LOOPBACK,
        "NCCL_SOCKET_IFNAME": LOOPBACK,
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "PYTHONSAFEPATH": "1",  # a folder `ganpipe` in the current folder is not ours
    }
    if not torch.cuda.is_available():
        log.warning(
            "No GPU is visible: %s processes train on the CPU, with %s threads each.", processes, threads
        )
    with tempfile.TemporaryDirectory(prefix="ganpipe-") as stores:  # of this user alone
        process = subprocess.Popen(
            _torchrun(path, job.run_dir, processes, stores),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        said: dict[str, Any] = {}
        last_words: list[str] = []
        listener = threading.Thread(target=_listen_to_errors, args=(process, last_words), daemon=True)
        listener.start()
        with catch_stop_signals() as stop:
            watcher = threading.Thread(target=_hand_on, args=(process, stop, said), daemon=True)
            watcher.start()
            assert process.stdout is not None
            handled: dict[str, Callable[[Any], None]] = {
                "progress": lambda value: callbacks.report(Progress(**value)),
                "picture": lambda value: callbacks.picture(Path(value[0]), value[1]),
            }
            for line in process.stdout:
                event = _event(line)
                for name, value in event.items():
                    said[name] = value
                    handled.get(name, lambda _: None)(value)
            process.wait()
    listener.join(timeout=5)
    callbacks.points(read_points(points))
    if "interrupted" in said:
        raise Interrupted(*said["interrupted"])
    if "result" not in said:
        why = (
            said.get("error") or f"its processes ended with {process.returncode}: {' '.join(last_words[-3:])}"
        )
        raise GanpipeError(f"Training failed: {why}")
    return TypeAdapter(TrainSummary).validate_python(said["result"])


def _torchrun(job: Path, run_dir: Path, processes: int, stores: str) -> list[str]:
    """The command that starts the workers of one machine. `stores`: a folder of this user alone, for two files."""
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *(
            "--rdzv-backend",
            "c10d",
            "--rdzv-endpoint",
            f"{stores}/rendezvous",
            "--rdzv-conf",
            "store_type=file",
        ),
        *("--rdzv-id", run_dir.name, "--local-addr", "127.0.0.1"),
        *("--nproc-per-node", str(processes)),
        *("--redirects", ",".join(f"{rank}:3" for rank in range(1, processes))),
        *("--log-dir", str(run_dir / "processes")),
        *("-m", "ganpipe.training.worker", str(job), f"{stores}/process-group"),
    ]


def _event(line: str) -> dict[str, Any]:
    """The event in a line; empty if another library wrote the line."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _listen_to_errors(process: subprocess.Popen[str], last_words: list[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        log.debug("%s", line.rstrip())
        last_words.append(line.strip())
        del last_words[:-LAST_LINES]


def _hand_on(process: subprocess.Popen[str], stop: Any, said: dict[str, Any]) -> None:
    """Hands a signal to the first process as soon as it is there to take it."""
    while process.poll() is None:
        if stop.signum is not None and "progress" in said:
            os.kill(said["pid"], stop.signum)
            return
        threading.Event().wait(0.1)
