"""Arrows only point down: the core runs on a machine that has none of Prefect, MLflow and DVC."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import ganpipe
from ganpipe.stores.fingerprint import CORE

ROOT = Path(ganpipe.__file__).parent
CORE_MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(ROOT)], "ganpipe.")
    if module.name.split(".")[1] in (*CORE, "progress", "errors", "files")
)


def test_core_modules_are_found() -> None:
    """The list below is not empty by accident."""
    assert {
        "ganpipe.settings.presets",
        "ganpipe.training.trainer",
        "ganpipe.style.batch.runner",
        "ganpipe.data.prepare",
    } <= set(CORE_MODULES)


def test_no_core_module_imports_an_outer_layer() -> None:
    """Each core module is imported in a fresh interpreter that then looks at what else was loaded."""
    outer = [
        "prefect",
        "mlflow",
        "dvc",
        "flows",
        "ganpipe.stores.mlflow_runs",
        "ganpipe.services",
        "ganpipe.stores.datasets",
        "ganpipe.stores.dvc",
        "ganpipe.cli",
        "ganpipe.parser",
    ]
    program = (
        "import importlib, sys\n"
        f"for name in {CORE_MODULES}:\n"
        "    importlib.import_module(name)\n"
        f"    found = [m for m in {outer} if m in sys.modules]\n"
        "    assert not found, (name, found)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_imports_nothing_heavy() -> None:
    """`ganpipe --help` must answer at once: no torch, no Prefect, no MLflow, no DVC, no numpy."""
    program = (
        "import sys, ganpipe.cli\n"
        "from ganpipe.parser.root import build_parser\n"
        "build_parser().format_help()\n"
        "heavy = {'torch', 'prefect', 'mlflow', 'dvc', 'numpy', 'rich', 'yaml', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml"])
def test_the_repository_shows_the_generated_files(name: str) -> None:
    """params.yaml and dvc.yaml at the top are what ganpipe itself writes: no default stands twice."""
    from ganpipe.settings.params import params_template
    from ganpipe.stores.dvc import dvc_yaml_template

    expected = {"params.yaml": params_template, "dvc.yaml": dvc_yaml_template}[name]()
    assert (ROOT.parent / name).read_text() == expected


def test_importing_the_command_line_does_nothing(tmp_path: Path) -> None:
    """No folder, no file, no environment is changed by an import."""
    subprocess.run(
        [sys.executable, "-c", "import ganpipe.cli, ganpipe.settings.params"], cwd=tmp_path, check=True
    )
    assert list(tmp_path.iterdir()) == []


def test_the_fingerprint_covers_what_the_engines_import() -> None:
    """Every package that the trainer, the evaluation and the style batch reach enters the fingerprint, and no other."""
    from grimp import build_graph

    graph = build_graph("ganpipe", cache_dir=None)
    engines = ("ganpipe.training.trainer", "ganpipe.evaluation.evaluate", "ganpipe.style.batch.runner")
    reached = {module for engine in engines for module in graph.find_upstream_modules(engine)} | {*engines}
    packages = {module.split(".")[1] for module in reached if module.count(".") > 1}
    assert packages - {"samples"} == set(CORE) - {"samples"}
    outside = {module.split(".")[1] for module in reached if module.count(".") == 1} - packages
    assert outside <= {"errors", "files", "progress"}, outside


def test_every_command_has_its_function() -> None:
    """The parser names modules and functions as text; a moved one would fail only when somebody runs it."""
    import argparse
    import importlib

    from ganpipe.parser.root import build_parser

    def targets(parser: argparse.ArgumentParser) -> list[str]:
        subparsers = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        below = [name for a in subparsers for sub in a.choices.values() for name in targets(sub)]
        return [*below, *([parser.get_default("run")] if parser.get_default("run") else [])]

    found = targets(build_parser())
    assert len(found) > 20
    for target in found:
        module, function = target.split(".")
        assert callable(getattr(importlib.import_module(f"ganpipe.commands.{module}"), function)), target


def test_help_names_the_sources_of_the_table() -> None:
    from ganpipe.data.sources import SOURCE_NAMES
    from ganpipe.data.sources.registry import SOURCES

    assert tuple(source.name for source in SOURCES) == SOURCE_NAMES
