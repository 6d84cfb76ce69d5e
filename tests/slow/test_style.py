"""Slow: stylized batches over whole processes, killed, and sent to other workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ganpipe.style.batch.manifest import read_entries
from tests.conftest import noise_image
from tests.style.test_batch import save_images

SETS = [
    part
    for value in (
        "preset=draft",
        "long_edge_px=48",
        "steps=4",
        "scales=1",
        "feedforward=never",
        "batch_items=4",
    )
    for part in ("--set", f"style.{value}")
]


def command(root: Path, *words: str) -> list[str]:
    here = ["--content", str(root / "c"), "--style", str(root / "s"), "--out", str(root / "out"), "--json"]
    return [sys.executable, "-m", "ganpipe", "stylize", *here, "--workspace", str(root), *SETS, *words]


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_", "DVC_", "RAY_"))}


def run(root: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        command(root, *words), capture_output=True, text=True, check=False, env=environment()
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_a_batch_of_100_killed_in_the_middle_redoes_only_what_was_in_flight(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    for k in range(100):
        noise_image(k, (48, 40)).save(tmp_path / f"c/{k:03d}.png")
    save_images(tmp_path / "s", "x.png")
    process = subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL, env=environment())
    while len(read_entries(tmp_path / "out")) < 40:
        assert process.poll() is None, "it was over before it could be killed"
        time.sleep(0.05)
    process.kill()
    process.wait()
    paths = [tmp_path / "out" / entry.output for entry in read_entries(tmp_path / "out")]
    # The line of an image is written before the image: a kill between the two leaves the line alone.
    kept = {path.name: path.stat().st_mtime_ns for path in paths if path.exists()}
    result = run(tmp_path)
    assert (result["skipped"], result["done"], result["failed"]) == (len(kept), 100 - len(kept), 0)
    assert kept == {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in kept}
    assert (
        not [path for path in (tmp_path / "out").iterdir() if path.name.endswith(".tmp")]
        or process.returncode == -9
    )
    assert run(tmp_path)["skipped"] == 100


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["threads", "processes", "ray"])
def test_shards_are_stylized_by_every_runner(tmp_path: Path, runner: str) -> None:
    """Two workers, three shards; for Ray a local cluster of two."""
    if runner == "ray":
        pytest.importorskip("prefect_ray")
    (tmp_path / "c").mkdir()
    for k in range(6):
        noise_image(k, (48, 40)).save(tmp_path / f"c/{k}.png")
    save_images(tmp_path / "s", "x.png")
    words = ("--runner", runner, "--workers", "2", "--set", "style.shard_items=2")
    assert run(tmp_path, *words)["done"] == 6
    assert run(tmp_path, *words)["skipped"] == 6
