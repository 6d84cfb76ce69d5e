"""Addresses of the servers of a running `ganpipe up`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from ganpipe.files import write_json
from ganpipe.stores.workspace import Workspace


def up_file(workspace: Workspace) -> Path:
    """The file in which `ganpipe up` announces its addresses."""
    return workspace.state / "up.json"


@dataclass(frozen=True)
class Addresses:
    """The process of `ganpipe up` and its addresses."""

    pid: int
    prefect_api: str
    mlflow: str


def running_servers(workspace: Workspace) -> Addresses | None:
    """The workspace's running `ganpipe up`, if it answers."""
    try:
        found = Addresses(**json.loads(up_file(workspace).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return found if answers(f"{found.prefect_api}/health") else None


def announce(workspace: Workspace, addresses: Addresses) -> None:
    """Lets other commands of this workspace find the servers."""
    write_json(up_file(workspace), addresses.__dict__)


def answers(url: str, timeout_s: float = 2.0) -> bool:
    """Whether an HTTP server answers."""
    try:
        with urlopen(url, timeout=timeout_s) as reply:  # noqa: S310  (our own http://127.0.0.1 address)
            return bool(reply.status < 500)
    except (URLError, OSError, ValueError):
        return False
