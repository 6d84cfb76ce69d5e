"""The start of every command: the workspace, the settings, the run."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ganpipe.console import say
from ganpipe.errors import GanpipeError
from ganpipe.files import is_utf8
from ganpipe.settings.presets import ASKED_FOR
from ganpipe.settings.schema import Settings
from ganpipe.stores.mlflow_store import require_tracking_server
from ganpipe.stores.workspace import Workspace, open_workspace

LEAST_ROOM_BYTES = 32 * 2**20  # for a training: with less even the smallest ends on a full disk

if TYPE_CHECKING:
    from ganpipe.stages.requests import RunRequest
    from ganpipe.stores.run_records import RunRecord


def open_named_workspace(arguments: Namespace, reading: bool = False, tracks: bool = False) -> Workspace:
    """The workspace that the command line names, with the tools pointed into it.

    `reading`: what is not there is not made, since the command only looks. `tracks`: the command needs MLflow.

    Raises:
        GanpipeError: the workspace cannot be used, or MLflow's server does not answer.
    """
    workspace = open_workspace(getattr(arguments, "workspace", None))
    if not reading or workspace.state.is_dir():
        workspace.activate()
    if tracks:
        require_tracking_server()
    return workspace


def require_utf8(workspace: Workspace) -> None:
    """Raises GanpipeError, before a server starts, if the workspace's path is no text that Prefect and DVC can keep."""
    if not is_utf8(str(workspace.root)):
        raise GanpipeError(
            f"The path of the workspace {workspace.root} is not UTF-8, which Prefect and DVC need; rename the folder."
        )


def absolute(path: str) -> Path:
    """A path given on the command line."""
    return Path(os.path.expanduser(path)).absolute()  # unlike Path.expanduser, it knows a file called ~x


def resolve_settings(arguments: Namespace, workspace: Workspace) -> Settings:
    """Defaults, preset, params.yaml and --set, in this order."""
    return request_of(arguments, workspace).settings()


def explain_preset(arguments: Namespace, workspace: Workspace) -> None:
    """Says which preset was chosen, and why, if nobody has named one."""
    choice = request_of(arguments, workspace).choice()
    if choice.why != ASKED_FOR:
        say(f"Preset {choice.preset} ({choice.why}); --preset NAME takes another.")


def make_request(arguments: Namespace, workspace: Workspace) -> RunRequest:
    """The run that the command line asks for; wrong settings fail here, before anything starts."""
    request = request_of(arguments, workspace)
    request.settings()
    return request


def request_of(arguments: Namespace, workspace: Workspace) -> RunRequest:
    """The same, not checked yet."""
    from ganpipe.stages.requests import RunRequest

    return RunRequest(
        str(workspace.root),
        getattr(arguments, "dataset", None),
        getattr(arguments, "preset", None),
        list(getattr(arguments, "overrides", [])),
    )


def find_run(workspace: Workspace, reference: str, dataset: str | None = None) -> RunRecord:
    """The run called so; `champion` is the run that made the champion, and so on."""
    from ganpipe.stores.model_registry import ModelRegistry
    from ganpipe.stores.registered_models import ALIASES
    from ganpipe.stores.run_records import find_record

    if reference in ALIASES:
        model = ModelRegistry(workspace).find_model(reference, dataset)
        return find_record(workspace, str(model.run_id))
    return find_record(workspace, reference)
