"""Descriptions of records that a server elsewhere keeps, so that nobody takes an empty list for an empty workspace."""

from __future__ import annotations

import os

from ganpipe.errors import redact
from ganpipe.stores.addresses import announced, is_ours
from ganpipe.stores.prefect_database import is_here
from ganpipe.stores.workspace import Workspace, tracks_here


def describe_elsewhere(workspace: Workspace) -> list[str]:
    """A sentence for each of MLflow and Prefect that keeps its records outside this workspace; the addresses have no password."""
    found = []
    if not tracks_here(workspace):
        uri = redact(os.environ["MLFLOW_TRACKING_URI"])
        found.append(f"MLflow's runs and models are kept by {uri} (MLFLOW_TRACKING_URI).")
    api = os.environ.get("PREFECT_API_URL")
    if api and not _is_own_server(workspace, api):
        found.append(
            f"Prefect's runs and schedules are kept by {redact(api)} (PREFECT_API_URL); its page lists them."
        )
    elif not is_here(workspace):
        place = "another database (PREFECT_SERVER_DATABASE_CONNECTION_URL)"
        found.append(f"Prefect's runs and schedules are kept by {place}; the server's page lists them.")
    return found


def describe_untouched(workspace: Workspace, command: str) -> list[str]:
    """The same, for a command that changes nothing on shared servers."""
    return [f"{sentence} `{command}` does not act there." for sentence in describe_elsewhere(workspace)]


def _is_own_server(workspace: Workspace, api: str) -> bool:
    """Whether `ganpipe up` has started this Prefect server, even if it is being started again."""
    up = announced(workspace)
    return (up is not None and up.prefect_api == api) or is_ours(workspace, api)
