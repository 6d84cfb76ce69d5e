"""`dashboard`."""

from __future__ import annotations

import sys
from argparse import Namespace

from ganpipe.commands.context import open_named_workspace
from ganpipe.console import say
from ganpipe.stores.workspace import Workspace


def dashboard(arguments: Namespace) -> int:
    """Serves the pages on this machine until Ctrl-C; nothing of the workspace is changed."""
    from ganpipe.dashboard.server import serve
    from ganpipe.services.prefect import choose_port
    from ganpipe.services.up import DASHBOARD_PORT

    workspace = open_named_workspace(arguments)
    port = choose_port(arguments.port, DASHBOARD_PORT, "dashboard")
    _tell(workspace, port)
    serve(workspace, port, acts=False)
    return 0


def _tell(workspace: Workspace, port: int) -> None:
    from ganpipe.dashboard.server import sign_in_url
    from ganpipe.stores.secret import secret_file, workspace_secret

    if sys.stderr.isatty():
        say(f"Dashboard  {sign_in_url(port)}#{workspace_secret(workspace)}")
    else:  # the output may be a log
        say(f"Dashboard  {sign_in_url(port)}# (with the contents of {secret_file(workspace)} behind it)")
    say("Ctrl-C stops it.")
