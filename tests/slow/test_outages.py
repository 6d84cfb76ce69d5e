"""Slow: servers go away during a training and come back, and a disk fills up; nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ganpipe.compute.processes import start_process, stop_process
from ganpipe.services.prefect import free_port, start_prefect
from ganpipe.stores.addresses import answers
from ganpipe.stores.mlflow_runs import LOGGED_PICTURE
from ganpipe.stores.run_records import load_record
from ganpipe.stores.workspace import Workspace
from tests.conftest import activated, copied
from tests.slow.processes import answer, environment, half_done, soon, start, words_of

IMAGES = 40_000
SETS: dict[str, object] = {
    "training.total_images": IMAGES,
    "training.log_every_images": 400,
    "training.save_every_images": 400,
    "training.grid_every_images": 4000,
}
WORDS = ["--dataset", "noise", *words_of(SETS)]
STEPS = list(range(400, IMAGES + 1, 400))


def checkpoint(workspace: Workspace) -> int:
    """The number of images at the newest checkpoint."""
    names = [path.stem.rpartition("-")[2] for path in workspace.runs.glob("*/checkpoints/*.json")]
    return max(map(int, names), default=0)


def wait_for_images(workspace: Workspace, more: int) -> None:
    """Waits until so many more images are trained on."""
    goal = checkpoint(workspace) + more
    soon(lambda: checkpoint(workspace) >= goal)


def start_mlflow_server(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """A server of its own, as a team has it."""
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    stores = [
        "--backend-store-uri",
        f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination",
        str(folder / "a"),
    ]
    process = start_process(
        command + stores, environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"), folder / "server.log"
    )
    soon(lambda: answers(f"http://127.0.0.1:{port}/health"))
    return process


@pytest.mark.slow
def test_mlflow_goes_away_and_comes_back_during_a_training(
    workspace: Workspace, added_noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(added_noise, workspace)
    folder, port, log = tmp_path / "server", free_port(), tmp_path / "log"
    folder.mkdir()
    server = start_mlflow_server(folder, port)
    uri = f"http://127.0.0.1:{port}"
    training = start(workspace.root, "train", *WORDS, "--json", log=log, MLFLOW_TRACKING_URI=uri)
    try:
        soon(lambda: checkpoint(workspace))
        stop_process(server)
        wait_for_images(workspace, 8000)
        server = start_mlflow_server(folder, port)
        assert training.wait(300) == 0, log.read_text()
        told = log.read_text()
        assert told.count("MLflow cannot be reached") == 1, told
        run = json.loads(told.splitlines()[-1])["mlflow_run_id"]

        from mlflow import MlflowClient

        client = MlflowClient(uri)
        assert client.get_run(run).info.status == "FINISHED"
        assert [point.step for point in client.get_metric_history(run, "loss_g")] == STEPS
        images = [artifact.path for artifact in client.list_artifacts(run, "images")]
        grids = [found["nimg"] for image in images if (found := LOGGED_PICTURE.fullmatch(image))]
        assert len(grids) == len(set(grids)) >= IMAGES // 4000
    finally:
        training.kill()
        stop_process(server)


@pytest.mark.slow
def test_prefect_goes_away_and_comes_back_during_a_run(
    workspace: Workspace, added_noise: Path, tmp_path: Path
) -> None:
    copied(added_noise, workspace)
    port, log = free_port(), tmp_path / "log"
    url = f"http://127.0.0.1:{port}/api"

    def start_server() -> subprocess.Popen[bytes]:
        process = start_prefect(workspace, port, keep_days=30)
        soon(lambda: answers(f"{url}/health"))
        return process

    server = start_server()
    chain = start(workspace.root, "run", *WORDS, "--json", log=log, PREFECT_API_URL=url)
    try:
        soon(lambda: checkpoint(workspace))
        stop_process(server)
        wait_for_images(workspace, 8000)
        server = start_server()
        assert chain.wait(400) == 0, log.read_text()
        result = json.loads(log.read_text().splitlines()[-1])
        assert result["state"] == "finished"
        assert result["model_version"]
        assert load_record(workspace, next(workspace.runs.iterdir()).name).state == "finished"
    finally:
        chain.kill()
        stop_process(server)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own in memory; skips the test where nobody may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all the room that is left."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            return filler
    return filler


def refused(log: Path, process: subprocess.Popen[bytes]) -> None:
    """The command has failed with one sentence that names the full disk."""
    assert process.wait(300) == 1, log.read_text()
    told = log.read_text()
    assert "disk" in told.splitlines()[-1], told
    assert "full" in told.splitlines()[-1], told
    assert "Traceback" not in told
    assert "Unexpected" not in told


Work = tuple[list[str], Callable[[Workspace], Any]]
PREPARE: Work = (["data", "prepare", "noise"], lambda _: True)
TRAIN: Work = (["train", *WORDS], checkpoint)
STYLIZE: Work = (
    ["stylize", "--content", "in", "--style", "in/000.png", "--out", "out", *words_of({"style.steps": 20})],
    lambda place: list((place.root / "out").rglob("*.png")),
)


@pytest.mark.slow
@pytest.mark.parametrize("work", [PREPARE, TRAIN, STYLIZE], ids=["prepare", "train", "stylize"])
def test_work_that_a_full_disk_has_ended_goes_on_once_there_is_room(
    work: Work, added_noise: Path, tmp_path: Path
) -> None:
    """`train` fills the disk of checkpoints, grids and MLflow's database alike."""
    words, has_begun = work
    log = tmp_path / "log"
    with small_disk(tmp_path / "disk", 200) as disk, activated(disk / "workspace") as place:
        copied(added_noise, place)
        (disk / "in").rename(place.root / "in")
        answer(place.root, "status")
        if work is PREPARE:
            filler = fill(disk)
            refused(log, start(place.root, *words, log=log))
        else:
            process = start(place.root, *words, log=log)
            soon(lambda: has_begun(place))
            filler = fill(disk)
            refused(log, process)
        filler.unlink()
        result = answer(place.root, *words)
        assert half_done(place.root) == []
        if work is TRAIN:
            check_training(place, added_noise, tmp_path, result)
        elif work is STYLIZE:
            assert (result["failed"], result["done"] + result["skipped"]) == (0, 90)
        else:
            assert answer(place.root, "data", "verify", "noise")["damaged"] == []


def check_training(place: Workspace, added_noise: Path, tmp_path: Path, result: dict[str, Any]) -> None:
    """The curve is whole and the weights are those of a training that nobody has disturbed."""
    from ganpipe.stores.mlflow_runs import Tracker

    curve = Tracker(place).client.get_metric_history(result["mlflow_run_id"], "loss_g")
    assert [point.step for point in curve] == STEPS
    with activated(tmp_path / "whole" / "workspace") as whole:
        copied(added_noise, whole)
        assert answer(whole.root, "train", *WORDS)["weights_sha256"] == result["weights_sha256"]
