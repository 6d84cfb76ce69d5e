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

from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.workspace import Workspace
from tests.conftest import TINY, fill_folder

KILLS = 50
SETS = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
LONG = [
    "--dataset",
    "noise",
    "--json",
    *SETS,
    "--set",
    "training.total_images=80000",
    "--set",
    "training.log_every_images=800",
    "--set",
    "training.save_every_images=1600",
    "--set",
    "training.grid_every_images=20000",
]


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


def finished_data(root: Path, source: str) -> tuple[str, dict[str, str]]:
    """Version and shard checksums of the dataset after an addition and a preparation that nobody disturbs."""
    results = []
    for words in (("data", "add", source, "--name", "pets"), ("data", "prepare", "pets")):
        done = subprocess.run([*command(root, *words), "--json"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout.splitlines()[-1]))
    return results[0]["version"], results[1]["shards"]


@pytest.mark.slow
def test_kills_at_random_instants_over_add_and_prepare_leave_the_same_data(
    workspace: Workspace, tmp_path: Path
) -> None:
    """After each kill the dataset is the old version or the new one, whole; at the end all is as if undisturbed."""
    source = fill_folder(tmp_path / "in", 400)
    whole = tmp_path / "whole"
    whole.mkdir()
    expected = finished_data(whole, str(source))
    rng = random.Random(1)
    landed = 0
    for kill in range(KILLS):
        words = (
            ("data", "prepare", "pets")
            if kill % 2 and landed
            else ("data", "add", str(source), "--name", "pets")
        )
        process = subprocess.Popen(
            command(workspace.root, *words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.1, 5.0))
        process.kill()
        process.wait()
        manifest = workspace.raw("pets") / "manifest.jsonl"
        if manifest.exists():
            landed += 1
            assert manifest.read_bytes() == (whole / "data/raw/pets/manifest.jsonl").read_bytes()
    assert landed > KILLS // 4
    assert finished_data(workspace.root, str(source)) == expected
    left = [
        p.name
        for p in workspace.root.rglob("*")
        if p.name.endswith((".tmp", ".partial")) and ".dvc" not in p.parts
    ]
    assert left == []
