"""The event `ganpipe.dataset.updated` in Prefect: a dataset has a new version. Retraining hangs on it (flows.deployments).

Sent with the standard library, since importing Prefect takes a second; without a server there is no event and no wait.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from base64 import b64encode
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from urllib.request import Request, urlopen

from ganpipe.data.manifest import read_manifest
from ganpipe.errors import GanpipeError
from ganpipe.settings.events import UPDATED, resource_id
from ganpipe.stores.addresses import announced, is_ours
from ganpipe.stores.dvc_cache import DatasetCache
from ganpipe.stores.secret import read_secret
from ganpipe.stores.workspace import Workspace

log = logging.getLogger(__name__)

TIMEOUT_S = 1.0


@dataclass(frozen=True)
class DatasetUpdate:
    """A change of a dataset's version. `added` and `removed`: images; None if the old version is not in DVC's cache."""

    name: str
    old_version: str | None
    new_version: str
    images: int
    added: int | None
    removed: int | None


@dataclass(frozen=True)
class _Server:
    api: str
    headers: dict[str, str]


def emit_update(workspace: Workspace, name: str, old_version: str | None, new_version: str) -> bool:
    """Tells Prefect that a dataset has a new version; whether it has heard it."""
    server = _find_server(workspace)
    if server is None:
        return False
    event = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": UPDATED,
        "resource": {"prefect.resource.id": resource_id(name), "prefect.resource.name": name},
        "payload": asdict(_describe(workspace, name, old_version, new_version)),
    }
    request = Request(  # noqa: S310  (the address of Prefect's server)
        f"{server.api}/events",
        json.dumps([event]).encode(),
        {"Content-Type": "application/json", **server.headers},
    )
    try:
        urlopen(request, timeout=TIMEOUT_S).close()  # noqa: S310
    except (OSError, ValueError, HTTPException) as error:
        log.warning("Prefect's server did not take the event %s of %s (%s).", UPDATED, name, error)
        return False
    return True


def _find_server(workspace: Workspace) -> _Server | None:
    """The server that the environment names, or the one of `ganpipe up`."""
    if api := os.environ.get("PREFECT_API_URL"):
        secret, key = os.environ.get("PREFECT_API_AUTH_STRING"), os.environ.get("PREFECT_API_KEY")
        return _Server(api, {"Authorization": f"Bearer {key}"} if key else _basic(secret))
    found = announced(workspace)
    if found is None or not is_ours(workspace, found.prefect_api):
        return None
    return _Server(found.prefect_api, _basic(read_secret(workspace)))


def _basic(secret: str | None) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(secret.encode()).decode()}"} if secret else {}


def _describe(workspace: Workspace, name: str, old_version: str | None, new_version: str) -> DatasetUpdate:
    now = {record.sha256 for record in read_manifest(workspace.raw(name))}
    try:
        old = DatasetCache(workspace).listing(old_version).records if old_version else []
    except GanpipeError:
        return DatasetUpdate(name, old_version, new_version, len(now), None, None)
    before = {record.sha256 for record in old}
    return DatasetUpdate(name, old_version, new_version, len(now), len(now - before), len(before - now))
