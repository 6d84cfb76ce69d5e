"""A workspace that is copied or moved, to a name that is awkward in addresses, works as before."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TINY, fill_folder

SETS = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
RUN = ("run", "--dataset", "noise", *SETS)
AWKWARD = "wörk space #1 ?x=%41&y;$x"
OTHER = "other ?y=2 [%20]"


def ganpipe(root: Path, *words: str, code: int = 0) -> str:
    """The command in a process of its own, and what it printed."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_", "DVC_"))}
    command = [sys.executable, "-m", "ganpipe", *words, "--workspace", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean, timeout=300)
    assert done.returncode == code, done.stderr
    return done.stdout


def as_json(root: Path, *words: str) -> dict[str, Any]:
    return dict(json.loads(ganpipe(root, *words, "--json").splitlines()[-1]))


def text_of(root: Path) -> str:
    """All records and MLflow's database, as text."""
    paths = [p for p in (root / ".ganpipe").rglob("*") if p.suffix in (".json", ".jsonl", ".md", ".db")]
    return "".join(
        p.read_bytes().decode(errors="replace") for p in paths if not {"prefect", "dvc"} & set(p.parts)
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with an awkward name and a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    ganpipe(folder / AWKWARD, "data", "add", str(fill_folder(folder / "in", 90)), "--name", "noise")
    made = as_json(folder / AWKWARD, *RUN)
    as_json(folder / AWKWARD, "promote", made["run"], "--force")  # whatever the verdict on so few steps
    return folder / AWKWARD


@pytest.mark.slow
def test_an_awkward_name_keeps_everything_inside(finished: Path) -> None:
    assert (finished / ".ganpipe/mlflow.db").exists()
    assert (finished / ".ganpipe/prefect/prefect.db").exists()
    assert {p.name for p in finished.parent.iterdir()} == {AWKWARD, "in"}


@pytest.mark.slow
def test_records_hold_no_path_of_the_machine(finished: Path) -> None:
    for path in [*(finished / ".ganpipe/runs").glob("*/*.json"), *(finished / ".ganpipe/results").iterdir()]:
        assert str(finished) not in path.read_text(), path
    (report,) = (finished / ".ganpipe/runs").glob("*/report.html")
    assert str(finished) not in report.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["copied", "moved"])
def test_a_workspace_elsewhere_is_up_to_date_and_writes_only_there(
    finished: Path, tmp_path: Path, how: str
) -> None:
    old, new = finished, tmp_path / OTHER
    if how == "moved":
        old = tmp_path / "old"
        shutil.copytree(finished, old, symlinks=True)
        as_json(old, "evaluate", "champion", *SETS)  # this place is in its records now
        old.rename(new)
    else:
        shutil.copytree(old, new, symlinks=True)
    before = {p: p.stat().st_mtime_ns for p in old.rglob("*")} if how == "copied" else {}

    again = as_json(new, *RUN)
    assert again["state"] == "up_to_date"
    for path in [
        again["grid"],
        again["contact_sheet"],
        again["report_card"],
        again["film"],
        *again["stylized"],
    ]:
        assert path.startswith(str(new))
        assert Path(path).exists()
    status = as_json(new, "status")
    assert status["champions"] == {"ganpipe-noise": "ganpipe-noise v1"}
    drawn = as_json(new, "generate", "-n", "2", "--out", str(tmp_path / "out"))
    assert len(drawn["images"]) == 2
    assert as_json(new, "evaluate", again["run"], *SETS)["grid"].startswith(str(new))
    assert as_json(new, "promote", again["run"])["champion"] == "ganpipe-noise v1"
    if how == "copied":
        other = as_json(new, *RUN, "--set", "training.seed=1")
        assert (other["state"], other["model_version"]) == ("finished", "ganpipe-noise v2")
        assert other["gate"]["picture"].startswith(str(new))
        assert Path(other["gate"]["picture"]).exists()

    assert str(old) + "/" not in text_of(new)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert how == "copied" or not old.exists()
    assert {p.name for p in tmp_path.iterdir()} == {OTHER, "out"}
