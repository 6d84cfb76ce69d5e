"""Paths in records: relative to the workspace, so that a copied or moved workspace reads its own files."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from ganpipe.stores.workspace import Workspace

ARTIFACTS = "/.ganpipe/mlartifacts"  # in the URI of an artifact that lies in a workspace


def path_for_record(workspace: Workspace, path: str) -> str:
    """The path as a record holds it: relative to the workspace; absolute if it lies outside."""
    inside = Path(path).is_relative_to(workspace.root)
    return str(Path(path).relative_to(workspace.root)) if inside else path


def path_from_record(workspace: Workspace, path: str) -> str:
    """The absolute path that a record means."""
    return str(workspace.root / path)


def artifacts_root(workspace: Workspace) -> str:
    """The URI below which MLflow's artifacts lie in this workspace."""
    return (workspace.state / "mlartifacts").as_uri()


def local_artifact(workspace: Workspace, uri: str) -> Path | None:
    """Where an artifact lies in this workspace, also if its URI names an earlier place of the workspace.

    None if the URI is no `file:` of a workspace.
    """
    before, found, rest = uri.partition(ARTIFACTS)
    if not found or not before.startswith("file:"):
        return None
    return workspace.state / "mlartifacts" / unquote(rest.strip("/"))
