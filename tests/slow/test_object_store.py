"""Slow: MLflow's artifacts and DVC's remote on an S3-compatible store, which moto plays on this machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ganpipe.compute.processes import start_process, stop_process
from ganpipe.services.prefect import free_port
from ganpipe.stores.addresses import replies
from ganpipe.stores.workspace import Workspace
from tests.conftest import copied
from tests.slow.processes import answer, command, environment, soon, words_of
from tests.slow.teams import running_mlflow

S3 = "S3 is not installed: pip install 'ganpipe[s3]' 'moto[server]'"
boto3 = pytest.importorskip("boto3", reason=S3)
for name in ("moto.server", "dvc_s3"):
    pytest.importorskip(name, reason=S3)

BUCKET = "ganpipe"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The variables that name the store and its keys; an empty bucket is in it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = start_process(words, environment(**keys), tmp_path / "s3.log")
    try:
        soon(lambda: replies(url, 2.0))
        bucket(url, keys).create()
        yield keys | {"MLFLOW_S3_ENDPOINT_URL": url, "AWS_ENDPOINT_URL": url}
    finally:
        stop_process(process)


def bucket(url: str, keys: dict[str, str]) -> Any:
    session = boto3.Session(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1")
    return session.resource("s3", endpoint_url=url).Bucket(BUCKET)


def keys_below(store: dict[str, str], prefix: str) -> list[str]:
    found = bucket(store["MLFLOW_S3_ENDPOINT_URL"], store).objects.filter(Prefix=prefix)
    return [entry.key for entry in found]


@pytest.mark.slow
def test_models_and_pictures_of_a_run_are_in_the_store_and_another_machine_draws_with_them(
    workspace: Workspace, added_noise: Path, store: dict[str, str], tmp_path: Path
) -> None:
    copied(added_noise, workspace)
    stores = ["--backend-store-uri", f"sqlite:///{tmp_path / 'runs.db'}", "--no-serve-artifacts"]
    root = ["--default-artifact-root", f"s3://{BUCKET}/mlflow"]
    with running_mlflow(tmp_path, *stores, *root, **store) as mlflow:
        around = store | {"MLFLOW_TRACKING_URI": mlflow}
        made = answer(workspace.root, "run", "--dataset", "noise", *words_of({}), **around)
        keys = keys_below(store, "mlflow/")
        assert any(made["mlflow_run_id"] in key and key.endswith("samples.png") for key in keys)
        assert len([key for key in keys if "/images/grid+step+" in key and key.endswith(".png")]) == 2
        assert not list((workspace.state / "mlartifacts").rglob("*.*"))

        elsewhere = tmp_path / "elsewhere"
        (elsewhere / ".ganpipe").mkdir(parents=True)
        for place in (workspace.root, elsewhere):
            words = ["--model", "ganpipe-noise/1", "-n", "4", "--seed", "5", "--out", str(place / "drawn")]
            answer(place, "generate", *words, **around)
    drawn = [sorted((place / "drawn").glob("*.png")) for place in (workspace.root, elsewhere)]
    assert drawn[0]
    assert [p.read_bytes() for p in drawn[0]] == [p.read_bytes() for p in drawn[1]]


@pytest.mark.slow
def test_a_dataset_comes_back_from_the_store(
    workspace: Workspace, added_noise: Path, store: dict[str, str]
) -> None:
    copied(added_noise, workspace)
    dvc = [sys.executable, "-m", "dvc", "remote"]
    for words in (
        ["add", "-d", "store", f"s3://{BUCKET}/dvc"],
        ["modify", "store", "endpointurl", store["MLFLOW_S3_ENDPOINT_URL"]],
    ):
        subprocess.run([*dvc, *words], cwd=workspace.root, env=environment(), check=True, capture_output=True)
    ganpipe_(workspace.root, store, "data", "push", "noise")
    assert len(keys_below(store, "dvc/files/md5/")) >= 90
    images = {p.name: p.read_bytes() for p in workspace.raw("noise").rglob("*.png")}

    shutil.rmtree(workspace.root / ".dvc/cache")
    shutil.rmtree(workspace.raw("noise"))
    ganpipe_(workspace.root, store, "data", "pull", "noise")
    assert {p.name: p.read_bytes() for p in workspace.raw("noise").rglob("*.png")} == images


def ganpipe_(root: Path, store: dict[str, str], *words: str) -> None:
    done = subprocess.run(
        command(root, *words), cwd=root, env=environment(**store), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
