"""The overhead of the chain besides its work: `ganpipe --help`, and `ganpipe run` less its four stages.

    python -m benchmarks.startup [--up]

With --up the second part runs with `ganpipe up` beside it. Everything happens in a temporary workspace.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TINY = [
    "--dataset",
    "digits",
    "--set",
    "data.height_px=16",
    "--set",
    "data.width_px=16",
    "--set",
    "training.total_images=640",
    "--set",
    "evaluation.images=64",
    "--set",
    "evaluation.size_px=32",
    "--set",
    "style.long_edge_px=48",
    "--set",
    "style.steps=2",
]


def timed(*words: str) -> tuple[float, str]:
    """Seconds of a whole process, and what it printed."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "ganpipe", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return time.monotonic() - started, done.stdout


def overhead(workspace: str, seed: int) -> tuple[float, float]:
    """Seconds of `run` outside its four stages, and in all."""
    seconds, printed = timed(
        "run", "--workspace", workspace, "--json", *TINY, "--set", f"training.seed={seed}"
    )
    result = json.loads(printed.splitlines()[-1])
    return seconds - sum(result["seconds"].values()), seconds


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--up", action="store_true")
    with_up = parser.parse_args().up
    helps = [timed("--help")[0] for _ in range(10)]
    bare = [_seconds([sys.executable, "-c", "import argparse"]) for _ in range(10)]
    print(
        f"ganpipe --help       median {statistics.median(helps):.3f} s (limit 0.3 s; Python and argparse alone "
        f"{statistics.median(bare):.3f} s)"
    )
    with tempfile.TemporaryDirectory() as workspace:
        up = _start_up(workspace) if with_up else None
        try:
            for k, name in enumerate(("first", "second")):
                outside, total = overhead(workspace, k)
                limit = 5 if with_up else 20
                beside = "with ganpipe up" if with_up else "temporary server"
                print(
                    f"ganpipe run, {name:<7} {outside:.1f} s outside the stages of {total:.1f} s ({beside}; limit {limit} s)"
                )
            seconds, printed = timed(
                "run", "--workspace", workspace, "--json", *TINY, "--set", "training.seed=1"
            )
            state = json.loads(printed.splitlines()[-1])["state"]
            print(f"ganpipe run, again   {seconds:.1f} s, {state} (limit 20 s)")
        finally:
            if up:
                up.send_signal(signal.SIGINT)
                up.wait()


def _seconds(command: list[str]) -> float:
    started = time.monotonic()
    subprocess.run(command, check=True)
    return time.monotonic() - started


def _start_up(workspace: str) -> subprocess.Popen[bytes]:
    ports = ["--prefect-port", "4397", "--mlflow-port", "5397"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ganpipe", "up", "--workspace", workspace, *ports], env=os.environ
    )
    deadline = time.monotonic() + 120
    while not (Path(workspace) / ".ganpipe/up.json").exists():
        if time.monotonic() > deadline or process.poll() is not None:
            sys.exit("ganpipe up did not start.")
        time.sleep(0.2)
    return process


if __name__ == "__main__":
    main()
