"""End to end: images → versions → training → verdict → style, through the real Prefect, DVC and MLflow."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.prefect_database import latest_flow_runs
from ganpipe.stores.workspace import Workspace
from tests.conftest import TINY, copied, fill_folder

SETS = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]


def ganpipe(workspace: Workspace, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a script calls it."""
    command = [sys.executable, "-m", "ganpipe", *words, "--workspace", str(workspace.root)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def noise(workspace: Workspace, tmp_path: Path) -> Workspace:
    done = ganpipe(workspace, "data", "add", str(fill_folder(tmp_path / "in", 90)), "--name", "noise")
    assert done.returncode == 0, done.stderr
    return workspace


@pytest.fixture
def added(workspace: Workspace, added_noise: Path) -> Workspace:
    """The same without a process of its own."""
    return copied(added_noise, workspace)


def test_a_run_makes_everything_and_the_second_makes_nothing(noise: Workspace) -> None:
    words = ("run", "--dataset", "noise", "--json", *SETS)
    first = ganpipe(noise, *words)
    assert first.returncode == 0, first.stderr
    result = json.loads(first.stdout.splitlines()[-1])
    assert result["state"] == "finished"
    assert result["dataset"]["images"] == 90
    assert result["model_version"] == "ganpipe-noise v1"
    refused = result["verdict"] in ("collapsed", "memorized", "poor")
    assert (result["gate"]["outcome"], result["champion"]) == ("kept" if refused else "promoted", not refused)
    assert result["verdict"] in result["gate"]["reason"]
    assert set(result["seconds"]) == {"data", "train", "evaluate", "stylize"}
    assert len(result["stylized"]) == 4
    for path in [result["grid"], result["contact_sheet"], result["report_card"], *result["stylized"]]:
        with Image.open(path) as image:
            low, high = image.convert("L").getextrema()
            assert high - low > 50, path
    client, run = Tracker(noise).client, result["mlflow_run_id"]
    tags = client.get_run(run).data.tags
    assert tags["prefect.flow_run_id"] == result["flow_run_id"]
    assert "mlflow.note.content" not in tags, "the page of a temporary server is gone"
    assert Path(result["film"]).stat().st_size > 1000
    [told] = latest_flow_runs(noise, 1)
    assert told.message == f"ganpipe-noise v1: {result['verdict']}; {result['gate']['outcome']}."

    def artifacts(folder: str) -> set[str]:
        return {Path(f.path).name for f in client.list_artifacts(run, folder)}

    assert artifacts("data") == {"dataset.html", "dataset.json", "contact-sheet.png"}
    assert artifacts("report") == {"report.html", "report.png"}
    assert artifacts("evaluation") == {"evaluation.json", "samples.png", "nearest-training-images.png"}
    assert "film.mp4" in artifacts("film")

    second = ganpipe(noise, *words)
    again = json.loads(second.stdout.splitlines()[-1])
    assert again["state"] == "up_to_date"
    assert {k: again[k] for k in ("fingerprint", "mlflow_run_id", "grid")} == {
        k: result[k] for k in ("fingerprint", "mlflow_run_id", "grid")
    }
    in_words = ganpipe(noise, *(w for w in words if w != "--json"))
    assert "up to date: same data, settings and code as run" in in_words.stdout

    for name in ("grid", "report_card", "film"):
        Path(result[name]).unlink()
    repaired = json.loads(ganpipe(noise, *words).stdout.splitlines()[-1])
    assert repaired["state"] == "finished"
    assert repaired["train"] == result["train"]
    assert all(Path(result[name]).exists() for name in ("grid", "report_card", "film"))


@pytest.mark.slow
def test_sigterm_ends_with_143_and_the_next_run_gives_the_same_weights(
    added: Workspace, added_noise: Path, tmp_path: Path
) -> None:
    longer = (
        "--dataset",
        "noise",
        "--json",
        *SETS,
        "--set",
        "training.total_images=4800",
        "--set",
        "training.log_every_images=800",
        "--set",
        "training.save_every_images=800",
    )
    command = [sys.executable, "-m", "ganpipe", "train", *longer, "--workspace", str(added.root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(added.runs.glob("*/checkpoints/*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "the same command resumes from it" in err
    resumed = json.loads(ganpipe(added, "train", *longer).stdout.splitlines()[-1])
    elsewhere = Workspace(tmp_path / "other")
    shutil.copytree(added_noise / "workspace", elsewhere.root)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_", "DVC_"))}
    whole = subprocess.run(
        [sys.executable, "-m", "ganpipe", "train", *longer, "--workspace", str(elsewhere.root)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert resumed["weights_sha256"] == json.loads(whole.stdout.splitlines()[-1])["weights_sha256"]


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (("data.holdout_fraction=0.02",), "are held out; evaluation needs 8"),
        (("data.height_px=48",), "data.height_px is 48: set it to 32"),
    ],
)
@pytest.mark.slow
def test_a_run_that_cannot_succeed_is_one_sentence_without_a_traceback(
    added: Workspace, sets: tuple[str, ...], said: str
) -> None:
    words = [w for text in sets for w in ("--set", text)]
    done = ganpipe(added, "run", "--dataset", "noise", *SETS, *words)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Error logging" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("ganpipe: ")]) == 1
