"""A scheduled run's parameters are a stranger's: they stay in the workspace and in what `up` names."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from ganpipe.errors import GanpipeError
from ganpipe.stages.requests import RunRequest
from ganpipe.stages.served import VARIABLE, Served, named_paths, serve_only
from ganpipe.stores.workspace import Workspace
from tests.conftest import fill_folder


@pytest.fixture
def served(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    """Everything that `up --watch watched --set style.styles=named` serves. `foreign` is named nowhere."""
    for folder in (workspace.root / "own", tmp_path / "watched", tmp_path / "named", tmp_path / "foreign"):
        fill_folder(folder, 1)
    (tmp_path / "foreign" / "list").write_text("PRIVATE KEY\n")
    (workspace.root / "list").write_text("own/000.png\nPRIVATE KEY\n")
    (workspace.root / "leads-out").write_text("../foreign/000.png\n")
    (workspace.root / "link").symlink_to(tmp_path / "foreign")
    (workspace.root / "leads.safetensors").symlink_to(tmp_path / "foreign" / "list")
    (workspace.root / "generator").mkdir()
    (workspace.root / "generator" / "generator.safetensors").symlink_to(tmp_path / "foreign" / "list")
    uploads = fill_folder(workspace.uploads / "photos", 1)
    (uploads / "link.png").symlink_to(tmp_path / "foreign" / "000.png")
    overrides = [f"style.styles={tmp_path / 'named'}"]
    paths = named_paths(workspace.root, overrides, tmp_path / "watched")
    monkeypatch.setenv(VARIABLE, "")
    serve_only(str(workspace.root), paths, overrides, os.getpid())
    return Served(**json.loads(os.environ[VARIABLE]))


def asked(workspace: Workspace, tmp_path: Path, text: str) -> RunRequest:
    text = text.replace("TMP", str(tmp_path))
    given, own = ([], text) if text.startswith("source=") else ([text], None)
    return RunRequest(str(workspace.root), None, "demo", given, own and own.removeprefix("source="))


@pytest.mark.parametrize(
    "text",
    [
        "style.contents=own",
        "style.contents=own/*.png",
        'style.contents=".ganpipe/uploads/photos/000.png"',
        "style.styles=sample:styles",
        "style.contents=model:champion:4",
        "style.contents=TMP/watched",
        "style.contents=TMP/named/000.png",
        "style.styles=TMP/named",
        "training.seed=3",
        "training.start_from=champion",
        "training.start_from=cats-0123456789ab",
        "training.start_from=own/weights.safetensors",
        "source=TMP/watched",
        "source=sample:flowers",
    ],
)
def test_what_the_workspace_and_the_command_line_name_is_served(
    served: Served, workspace: Workspace, tmp_path: Path, text: str
) -> None:
    served.check(asked(workspace, tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "style.contents=@TMP/foreign/list",
        "style.contents=TMP/foreign",
        "style.contents=TMP/foreign/*.png",
        "style.styles=../foreign",
        "style.contents=own/../../foreign/000.png",
        "style.contents=*/../../foreign/*.png",
        "style.contents=link",
        "style.contents=link/000.png",
        "style.contents=.ganpipe/uploads/photos/link.png",
        'style.contents=".ganpipe/uploads/../../../foreign/000.png"',
        "style.contents=lin*/*.png",
        "style.contents=@leads-out",
        "style.contents=~/x",
        "style.weights=TMP/foreign/list",
        "evaluation.extractor_file=TMP/foreign/list",
        "training.start_from=TMP/foreign/weights.safetensors",
        "training.start_from=../foreign/weights.safetensors",
        "training.start_from=link/weights.safetensors",
        f"training.start_from=leads.safetensors@sha256:{'0' * 64}",
        "training.start_from=generator",
        "source=TMP/foreign",
        "source=../foreign",
        "source=/etc",
    ],
)
def test_what_lies_elsewhere_is_refused(
    served: Served, workspace: Workspace, tmp_path: Path, text: str
) -> None:
    with pytest.raises(GanpipeError, match="must stay inside the workspace"):
        served.check(asked(workspace, tmp_path, text))


def test_no_line_of_a_file_is_quoted(served: Served, workspace: Workspace, tmp_path: Path) -> None:
    served.check(asked(workspace, tmp_path, "style.contents=@list"))  # its second line fails as an item
    (workspace.root / "list").write_text("PRIVATE KEY\n")
    with pytest.raises(GanpipeError, match="Line 1") as failure:
        served.check(asked(workspace, tmp_path, "style.contents=@list"))
    assert "PRIVATE" not in str(failure.value)


def test_another_workspace_is_refused_before_anything_is_made_there(served: Served, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    before = sorted(foreign.iterdir())
    with pytest.raises(GanpipeError, match="asks for another one"):
        served.check(RunRequest(str(foreign)))
    assert sorted(foreign.iterdir()) == before


def test_a_folder_that_is_no_workspace_stays_as_it_is(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(GanpipeError, match="is no workspace"):
            RunRequest(str(folder)).open_workspace()
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_name_is_no_path(served: Served, workspace: Workspace) -> None:
    with pytest.raises(GanpipeError, match="cannot name a dataset"):
        served.check(replace(RunRequest(str(workspace.root)), dataset="../x"))
