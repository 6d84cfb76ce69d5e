"""Announcement of a running `ganpipe up`: its servers, whether they are this workspace's, and the watched folder."""

from __future__ import annotations

import hmac
import json
import os
import secrets
import socket
import ssl
from base64 import b64encode
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from ganpipe.compute.process_identity import lives
from ganpipe.files import write_json
from ganpipe.stores.secret import prove, read_secret
from ganpipe.stores.workspace import Workspace

# MLflow 3.17 opens pages for language models in a new browser; its short link `#/runs/RUN` drops this on the way.
TRAINING_VIEW = "workflowType=machine_learning"
PROOF_PATH = "/ganpipe/proof/"  # our Prefect server answers it, followed by a question


def up_file(workspace: Workspace) -> Path:
    """The file in which `ganpipe up` announces its addresses."""
    return workspace.state / "up.json"


@dataclass(frozen=True)
class WatchedFolder:
    """The folder that `ganpipe up` watches and the rule of the section `watch`, by which a run starts.

    `mode`: add or mirror. `retrains`: whether runs start at all.
    """

    folder: str
    dataset: str
    mode: str
    retrains: bool
    min_new_images: int
    min_changed_percent: float
    at_most_every: str

    def what(self) -> str:
        """Which images go into the dataset, in words."""
        return "what is in it" if self.mode == "mirror" else "what is added to it"

    def rule(self) -> str:
        """When a run starts, in words."""
        share = f" or {self.min_changed_percent:g}% changed" if self.min_changed_percent else ""
        return f"{self.min_new_images} new images{share}, at most every {self.at_most_every}"


@dataclass(frozen=True)
class Addresses:
    """The process of `ganpipe up`, when it started (see `start_time`), and its addresses. `watched`: None if there is none."""

    pid: int
    started: str
    prefect_api: str
    mlflow: str
    dashboard: str = ""
    watched: WatchedFolder | None = None

    def flow_run_page(self, flow_run_id: str) -> str:
        """The page of a flow run in Prefect."""
        return f"{self.prefect_api.removesuffix('/api')}/runs/flow-run/{flow_run_id}"

    def mlflow_page(self, experiment_id: str | None) -> str:
        """The runs of an experiment in MLflow, which is a dataset; the list of experiments if there is none yet.

        A click in the list drops the view, so it is no substitute for the experiment.
        """
        place = f"experiments/{experiment_id}/runs" if experiment_id else "experiments"
        return f"{self.mlflow}/#/{place}?{TRAINING_VIEW}"

    def mlflow_run_page(self, run_id: str, experiment_id: str | None) -> str:
        """The page of a run in MLflow; see `run_page`."""
        return run_page(self.mlflow, run_id, experiment_id)

    def artifact(self, run_id: str, path: str) -> str:
        """A file among the artifacts of a run in MLflow, such as a picture."""
        return f"{self.mlflow}/get-artifact?path={quote(path)}&run_uuid={run_id}"


def announced(workspace: Workspace) -> Addresses | None:
    """The workspace's `ganpipe up`, if its process lives. Its servers may not be this workspace's; see `running_servers`."""
    try:
        content = json.loads(up_file(workspace).read_text())
        if content.pop("workspace") != str(workspace.root):
            return None
        watched = content.pop("watched", None)
        found = Addresses(**content, watched=WatchedFolder(**watched) if watched else None)
        return found if lives(found.pid, found.started) else None
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return None


def running_servers(workspace: Workspace) -> Addresses | None:
    """The workspace's running `ganpipe up`, if it lives and its Prefect server knows this workspace's secret.

    The file alone proves nothing: after a kill another workspace's server may have the same port. In a copy of a workspace
    it names the servers of the original, which know the secret, too.
    """
    found = announced(workspace)
    return found if found and is_ours(workspace, found.prefect_api) else None


def run_page(mlflow: str, run_id: str, experiment_id: str | None) -> str:
    """The page of a run in the MLflow server at an address, among its pages for training.

    `experiment_id`: None if an earlier ganpipe recorded the run; the page then opens as the browser last chose.
    """
    if experiment_id is None:
        return f"{mlflow}/#/runs/{run_id}"
    return f"{mlflow}/#/experiments/{experiment_id}/runs/{run_id}?{TRAINING_VIEW}"


def mlflow_run_page(workspace: Workspace, run_id: str, experiment_id: str | None) -> str | None:
    """The page of a run in the MLflow server of MLFLOW_TRACKING_URI, or of `ganpipe up`; None if neither is there."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith(("http://", "https://")):
        return run_page(uri.rstrip("/"), run_id, experiment_id)
    found = running_servers(workspace)
    return found.mlflow_run_page(run_id, experiment_id) if found else None


def is_ours(workspace: Workspace, prefect_api: str) -> bool:
    """Whether the server at this address knows the workspace's secret. The secret itself is not sent."""
    secret, question = read_secret(workspace), secrets.token_hex(16)
    if not secret:
        return False
    answer = fetch(f"{prefect_api.removesuffix('/api')}{PROOF_PATH}{question}")
    return hmac.compare_digest(answer or "", prove(secret, question))


def announce(workspace: Workspace, addresses: Addresses) -> None:
    """Lets other commands of this workspace find the servers."""
    write_json(up_file(workspace), addresses.__dict__ | {"workspace": str(workspace.root)})


def answers(url: str, timeout_s: float = 2.0) -> bool:
    """Whether an HTTP server answers."""
    return fetch(url, timeout_s) is not None


def replies(url: str, timeout_s: float) -> bool:
    """Whether a server replies over HTTP, be it with an error or a certificate that is not trusted.

    A proxy that replies for a server that is away is no reply.
    """
    try:
        urlopen(url, timeout=timeout_s).close()  # noqa: S310  (an http:// address)
    except HTTPError as error:
        return error.code not in (502, 503, 504)
    except URLError as error:
        return isinstance(error.reason, ssl.SSLError)
    except (OSError, ValueError, HTTPException):
        return False
    return True


def accepts(host: str, port: int, timeout_s: float) -> bool:
    """Whether a server accepts connections."""
    try:
        socket.create_connection((host, port), timeout_s).close()
    except OSError:
        return False
    return True


def refuses(url: str, auth: str, timeout_s: float = 5.0) -> bool:
    """Whether an HTTP server answers that it wants another password."""
    basic = f"Basic {b64encode(auth.encode()).decode()}"
    try:
        urlopen(Request(url, headers={"Authorization": basic}), timeout=timeout_s).close()  # noqa: S310
    except HTTPError as error:
        return error.code == 401
    except (OSError, ValueError):
        return False
    return False


def fetch(url: str, timeout_s: float = 2.0) -> str | None:
    """The beginning of what an HTTP server answers; None if it does not, or with an error."""
    try:
        with urlopen(url, timeout=timeout_s) as reply:  # noqa: S310  (an http:// address)
            return str(reply.read(1000).decode("ascii", errors="replace"))
    except (URLError, OSError, ValueError):
        return None
