"""`dashboard`."""

from __future__ import annotations

import sys
from argparse import Namespace

from ganpipe.commands.context import open_named_workspace
from ganpipe.console import say
from ganpipe.errors import GanpipeError
from ganpipe.stores.workspace import Workspace


def dashboard(arguments: Namespace) -> int:
    """Serves the pages on this machine until Ctrl-C; nothing of the workspace is changed."""
    from ganpipe.services.prefect import free_port

    workspace = open_named_workspace(arguments)
    try:
        free_port(arguments.port)
    except (GanpipeError, OverflowError):
        raise GanpipeError(
            f"Port {arguments.port} cannot be had; choose another with --port, or stop what uses it."
        ) from None
    from ganpipe.dashboard.server import serve

    _tell(workspace, arguments.port)
    serve(workspace, arguments.port)
    return 0


def _tell(workspace: Workspace, port: int) -> None:
    from ganpipe.dashboard.server import sign_in_url
    from ganpipe.stores.secret import secret_file, workspace_secret

    if sys.stderr.isatty():
        say(f"Dashboard  {sign_in_url(port)}#{workspace_secret(workspace)}")
    else:  # the output may be a log
        say(f"Dashboard  {sign_in_url(port)}# (with the contents of {secret_file(workspace)} behind it)")
    say("Ctrl-C stops it.")
