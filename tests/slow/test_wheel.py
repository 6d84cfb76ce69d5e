"""Slow: the wheel alone, without a checkout, runs the main job in an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from PIL import Image

from tests.slow.processes import words_of

ROOT = Path(__file__).parents[2]


def run(*words: str | Path, cwd: Path) -> str:
    """Runs a command and returns what it prints. Nothing of this checkout is on its path."""
    clean = {
        k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_", "DVC_", "PYTHON"))
    }
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The `ganpipe` of a new environment that has the wheel and, from this one, the locked packages."""
    source = tmp_path / "source"
    for name in ("ganpipe", "flows"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*build, "--wheel-dir", tmp_path, source, cwd=tmp_path)
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    [wheel] = tmp_path.glob("*.whl")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    [packages] = (tmp_path / "venv").glob("lib/python*/site-packages")
    # Its folder only: the file that leads to this checkout is not read from there.
    (packages / "locked.pth").write_text(sysconfig.get_path("purelib") + "\n")
    place = run(python, "-c", "import ganpipe, flows; print(ganpipe.__file__, flows.__file__)", cwd=tmp_path)
    assert all(Path(path).is_relative_to(packages) for path in place.split())
    return python.with_name("ganpipe")


@pytest.mark.slow
def test_the_wheel_runs_the_main_job_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    sets = words_of({"training.total_images": 2000, "evaluation.images": 64})
    result = json.loads(run(installed, "run", "--json", *sets, cwd=folder).splitlines()[-1])
    assert result["state"] == "finished"
    assert result["stylized"]
    for picture in [result["grid"], *result["stylized"]]:
        with Image.open(folder / picture) as image:
            assert len(image.convert("L").getcolors() or [0] * 257) > 16, f"{picture} is flat"
    again = json.loads(run(installed, "run", "--json", *sets, cwd=folder).splitlines()[-1])
    assert again["state"] == "up_to_date"
