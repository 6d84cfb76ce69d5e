"""Slow: kill -9 at random instants, over whole processes, changes nothing that is left in the end."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ganpipe.tracking import Tracker
from ganpipe.workspace import Workspace
from tests.conftest import TINY, fill_folder

KILLS = 50
SETS = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
LONG = ["--dataset", "noise", "--json", *SETS, "--set", "training.total_images=80000",
        "--set", "training.log_every_images=800", "--set", "training.save_every_images=1600",
        "--set", "training.grid_every_images=20000"]  # fmt: skip


def command(root: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "ganpipe", *words, "--workspace", str(root)]


def trained(root: Path) -> dict[str, object]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_", "DVC_"))}
    done = subprocess.run(
        command(root, "train", *LONG), capture_output=True, text=True, check=False, env=clean
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_kills_at_random_instants_leave_the_same_weights_and_one_whole_curve(
    workspace: Workspace, tmp_path: Path
) -> None:
    """From before the first import to the middle of a checkpoint: wherever the kill falls."""
    source = str(fill_folder(tmp_path / "in", 90))
    whole = tmp_path / "whole"
    whole.mkdir()
    for root in (workspace.root, whole):
        subprocess.run(
            command(root, "data", "add", source, "--name", "noise"), check=True, capture_output=True
        )
    rng = random.Random(0)
    for _ in range(KILLS):
        process = subprocess.Popen(
            command(workspace.root, "train", *LONG), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(1.0, 9.0))
        assert process.poll() is None, "training was over before it could be killed often enough"
        process.kill()
        process.wait()
    result = trained(workspace.root)
    assert result["weights_sha256"] == trained(whole)["weights_sha256"]
    curve = Tracker(workspace).client.get_metric_history(str(result["mlflow_run_id"]), "loss_g")
    assert [m.step for m in curve] == list(range(800, 80_001, 800))
