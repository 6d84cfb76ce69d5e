"""Slow: kill -9 at random instants, over whole processes, changes nothing that is left in the end."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.workspace import Workspace
from tests.conftest import STYLE, fill_folder
from tests.slow.processes import answer, half_done, soon, start, words_of

KILLS = 50
IMAGES = 200_000  # more than are trained on before the last kill
LONG = [
    "--dataset",
    "noise",
    *words_of(
        {
            "training.total_images": IMAGES,
            "training.log_every_images": 2000,
            "training.save_every_images": 2000,
            "training.grid_every_images": 100_000,
        }
    ),
]


@pytest.mark.slow
def test_kills_at_random_instants_leave_the_same_weights_and_one_whole_curve(
    workspace: Workspace, tmp_path: Path
) -> None:
    """From before the first import to the middle of a checkpoint: wherever the kill falls."""
    source = str(fill_folder(tmp_path / "in", 90))
    whole = tmp_path / "whole"
    whole.mkdir()
    for root in (workspace.root, whole):
        answer(root, "data", "add", source, "--name", "noise")
    rng = random.Random(0)
    for _ in range(KILLS):
        process = start(workspace.root, "train", *LONG)
        time.sleep(rng.uniform(1.0, 7.0))
        assert process.poll() is None, "training was over before it could be killed often enough"
        process.kill()
        process.wait()
    result = answer(workspace.root, "train", *LONG)
    assert result["weights_sha256"] == answer(whole, "train", *LONG)["weights_sha256"]
    curve = Tracker(workspace).client.get_metric_history(result["mlflow_run_id"], "loss_g")
    assert [m.step for m in curve] == list(range(2000, IMAGES + 1, 2000))


def add_twice(workspace: Workspace, scratch: Path) -> Path:
    """The same images in the workspace and in a second one, where nothing is killed; the folder of the second."""
    source, whole = str(fill_folder(scratch / "in", 90)), scratch / "whole"
    whole.mkdir()
    for root in (workspace.root, whole):
        answer(root, "data", "add", source, "--name", "noise")
    return whole


def weights_of(root: Path, words: list[str]) -> str:
    """The checksum at the end of the training."""
    return str(answer(root, "train", *words)["weights_sha256"])


def newest_nimg(root: Path) -> int:
    """Of the checkpoints of the only run."""
    return max((int(p.stem.split("-")[1]) for p in root.glob(".ganpipe/runs/*/checkpoints/*.pt")), default=0)


@pytest.mark.slow
def test_kills_inside_each_phase_of_growing_networks_leave_the_same_weights(
    workspace: Workspace, tmp_path: Path
) -> None:
    """At 4 pixels, in the fade to 8, at 8, in the fade to 16, and at full size."""
    images, growing = 40_000, 20_000
    sets = {
        "model.name": "progan",
        "model.width": 0.02,
        "loss.name": "wgan-gp",
        "training.total_images": images,
        "training.growth_share": growing / images,
        "training.save_every_images": 800,
        "training.log_every_images": images,  # nothing calls noise that so small a D cannot tell apart diverged
        "training.grid_every_images": images,
    }
    words = ["--dataset", "noise", *words_of(sets)]
    whole = add_twice(workspace, tmp_path)
    for phase in range(5):
        process = start(workspace.root, "train", *words)
        soon(lambda until=(phase + 0.3) * growing / 4: newest_nimg(workspace.root) >= until)
        assert process.poll() is None
        process.kill()
        process.wait()
    assert weights_of(workspace.root, words) == weights_of(whole, words)


@pytest.mark.slow
def test_kills_between_lazy_steps_of_stylegan2_leave_the_same_weights(
    workspace: Workspace, tmp_path: Path
) -> None:
    """Its average path length, its noise and its mixed styles, too, are functions of the checkpoint and nimg."""
    style = {key.replace("__", "."): value for key, value in STYLE.items()}
    lengths = {
        "training.total_images": 20_000,
        "training.save_every_images": 56,  # seven steps: before, at and after both kinds of lazy steps
        "training.grid_every_images": 20_000,
    }
    words = ["--dataset", "noise", *words_of(style | lengths)]
    whole, rng = add_twice(workspace, tmp_path), random.Random(2)
    for _ in range(8):
        process = start(workspace.root, "train", *words)
        time.sleep(rng.uniform(4.0, 9.0))
        assert process.poll() is None, "training was over before it could be killed often enough"
        process.kill()
        process.wait()
    assert weights_of(workspace.root, words) == weights_of(whole, words)


def finished_data(root: Path, source: str) -> tuple[str, dict[str, str]]:
    """Version and shard checksums of the dataset after an addition and a preparation that nobody disturbs."""
    added = answer(root, "data", "add", source, "--name", "pets")
    return added["version"], answer(root, "data", "prepare", "pets")["shards"]


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
        process = start(workspace.root, *words)
        time.sleep(rng.uniform(0.1, 5.0))
        process.kill()
        process.wait()
        manifest = workspace.raw("pets") / "manifest.jsonl"
        if manifest.exists():
            landed += 1
            assert manifest.read_bytes() == (whole / "data/raw/pets/manifest.jsonl").read_bytes()
    assert landed > KILLS // 4
    assert finished_data(workspace.root, str(source)) == expected
    assert half_done(workspace.root) == []
