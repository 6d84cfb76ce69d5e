"""What every command begins with: the workspace, the settings, the run that is meant."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ganpipe.config import Settings, resolve
from ganpipe.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from flows.request import RunRequest
    from ganpipe.lineage import RunRecord


def opened(arguments: Namespace) -> Workspace:
    """The workspace that the command line names, with the tools pointed into it."""
    workspace = open_workspace(getattr(arguments, "workspace", None))
    workspace.activate()
    return workspace


def absolute(path: str) -> Path:
    """A path given on the command line."""
    return Path(path).expanduser().absolute()


def settings_of(arguments: Namespace, workspace: Workspace) -> Settings:
    """Defaults, preset, params.yaml and --set, in this order."""
    from ganpipe.training.device import default_preset

    params = workspace.params()
    preset = getattr(arguments, "preset", None) or params.preset or default_preset()
    return resolve(params, preset, getattr(arguments, "overrides", []))


def request_of(arguments: Namespace, workspace: Workspace) -> RunRequest:
    """The run that the command line asks for; wrong settings fail here, before anything starts."""
    from flows.request import RunRequest

    settings_of(arguments, workspace)
    return RunRequest(str(workspace.root), arguments.dataset, arguments.preset, arguments.overrides)


def run_named(workspace: Workspace, reference: str, dataset: str | None = None) -> RunRecord:
    """The run called so; `champion` is the run that made the champion."""
    from ganpipe.lineage import find_record
    from ganpipe.tracking import CHAMPION, Tracker

    if reference == CHAMPION:
        model = Tracker(workspace).find_model(CHAMPION, dataset)
        return find_record(workspace, str(model.run_id))
    return find_record(workspace, reference)
