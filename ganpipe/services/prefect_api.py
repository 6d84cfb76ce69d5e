"""The pages' client of the REST API of `ganpipe up`'s Prefect server. Imports no Prefect, which takes 100 MB."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx

from ganpipe.errors import GanpipeError
from ganpipe.services.prefect_server import HOSTS
from ganpipe.stores.addresses import Addresses, running_servers
from ganpipe.stores.secret import read_secret
from ganpipe.stores.workspace import Workspace

PATIENCE_S = 10.0
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
OPEN = ("SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "PAUSED")
MOST_OPEN = 30  # runs of a deployment that work, wait, or are planned; a schedule plans up to 100
NOT_THERE = "`ganpipe up` is not running: nothing starts by itself, and nothing can be started here. Start it with: ganpipe up"


@dataclass(frozen=True)
class Run:
    """A flow run: `state` as Prefect names it, and why it is in it. Times are ISO 8601. `planned`: a schedule has made it."""

    id: str
    name: str
    kind: str  # the type of the state: SCHEDULED, RUNNING, COMPLETED, …
    state: str
    message: str
    expected_at: str | None
    ended_at: str | None
    planned: bool
    tags: tuple[str, ...]
    overrides: tuple[str, ...]  # settings

    @property
    def mlflow_run_id(self) -> str | None:
        """The MLflow run that it has made."""
        return next((t.removeprefix("mlflow:") for t in self.tags if t.startswith("mlflow:")), None)


@dataclass(frozen=True)
class Timing:
    """A schedule: a cron line or an interval, in a time zone. `active`: whether it starts runs."""

    id: str
    cron: str | None
    interval: timedelta | None  # None: a cron line
    timezone: str | None
    active: bool


@dataclass(frozen=True)
class Deployment:
    """A flow with parameters, which can be started. `paused`: somebody has paused all of it.

    `last`: the run that ended last; `open`: those that work or wait; `planned`: those that wait for their time.
    """

    id: str
    name: str
    flow: str
    about: str
    parameters: Mapping[str, Any]
    paused: bool
    timings: tuple[Timing, ...]
    last: Run | None
    open: tuple[Run, ...]
    planned: tuple[Run, ...]

    @property
    def overrides(self) -> list[str]:
        """The settings of its runs, as `--set` takes them."""
        return [str(text) for text in self.parameters.get("overrides") or []]

    @property
    def active(self) -> bool:
        """Whether its schedules start runs; a deployment without one is active."""
        return not self.paused and all(timing.active for timing in self.timings)


class PrefectApi:
    """The Prefect server of a running `ganpipe up`. Every method raises GanpipeError if the server does not do what is asked."""

    def __init__(self, addresses: Addresses, secret: str) -> None:
        self.addresses, self._auth = addresses, httpx.BasicAuth(*secret.split(":", 1))

    async def deployments(self) -> list[Deployment]:
        """All deployments in the order of their names, with their runs."""
        return await self._deployments({})

    async def deployment(self, name: str) -> Deployment:
        """The deployment of this name."""
        found = await self._deployments({"deployments": {"name": {"any_": [name]}}})
        if not found:
            raise GanpipeError(f"`ganpipe up` has not registered {name!r} yet; try again in some seconds.")
        return found[0]

    async def _deployments(self, wanted: dict[str, Any]) -> list[Deployment]:
        async with self._client() as client:
            found, flows = await asyncio.gather(
                _post(client, "/deployments/filter", {**wanted, "sort": "NAME_ASC"}),
                _post(client, "/flows/filter", {}),
            )
            names = {flow["id"]: flow["name"] for flow in flows}
            return list(await asyncio.gather(*(_with_runs(client, d, names[d["flow_id"]]) for d in found)))

    async def latest_runs(self, deployment: str, count: int) -> list[Run]:
        """The last runs of the deployment called `deployment`, the latest first."""
        question = {
            "deployments": {"name": {"any_": [deployment]}},
            "sort": "EXPECTED_START_TIME_DESC",
            "limit": count,
        }
        async with self._client() as client:
            return [_run(given) for given in await _post(client, "/flow_runs/filter", question)]

    async def set_active(self, deployment: Deployment, active: bool) -> None:
        """Pauses or resumes every schedule of a deployment; `ganpipe up` leaves it so when it starts again."""
        async with self._client() as client:
            if active and deployment.paused:
                await _post(client, f"/deployments/{deployment.id}/resume_deployment", {})
            for timing in deployment.timings:
                path = f"/deployments/{deployment.id}/schedules/{timing.id}"
                await _ask(client, "PATCH", path, {"active": active})

    async def start(self, deployment: Deployment, overrides: list[str] | None = None) -> Run:
        """Queues a run of a deployment, now. `overrides`: settings besides those of the deployment."""
        parameters = {"overrides": [*deployment.overrides, *overrides]} if overrides else {}
        async with self._client() as client:
            path = f"/deployments/{deployment.id}/create_flow_run"
            return _run(await _post(client, path, {"parameters": parameters}))

    async def cancel(self, run: Run) -> None:
        """Cancels a run that works or waits."""
        state = {"type": "CANCELLING", "name": "Cancelling"}
        async with self._client() as client:
            await _post(client, f"/flow_runs/{run.id}/set_state", {"state": state})

    def page(self, run: Run) -> str:
        """The page of a run in Prefect."""
        return self.addresses.flow_run_page(run.id)

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.addresses.prefect_api, auth=self._auth, timeout=PATIENCE_S, trust_env=False
        )


def find_api(workspace: Workspace) -> PrefectApi:
    """The server of the workspace's running `ganpipe up`, on this machine, which has proven that it knows the secret.

    Raises:
        GanpipeError: there is none.
    """
    found, secret = running_servers(workspace), read_secret(workspace)
    if found is None or secret is None or urlsplit(found.prefect_api).hostname not in HOSTS:
        raise GanpipeError(NOT_THERE)
    return PrefectApi(found, secret)


async def _with_runs(client: httpx.AsyncClient, given: dict[str, Any], flow: str) -> Deployment:
    own = {"deployments": {"id": {"any_": [given["id"]]}}}
    ended, other = await asyncio.gather(
        _runs(client, own, ENDED, "END_TIME_DESC", 1),
        _runs(client, own, OPEN, "EXPECTED_START_TIME_ASC", MOST_OPEN),
    )
    planned = tuple(run for run in other if run.planned and run.kind == "SCHEDULED")
    return Deployment(
        given["id"],
        given["name"],
        flow,
        given["description"] or "",
        given["parameters"],
        given["paused"],
        tuple(map(_timing, given["schedules"])),
        ended[0] if ended else None,
        tuple(run for run in other if run not in planned),
        planned,
    )


async def _runs(
    client: httpx.AsyncClient, own: dict[str, Any], kinds: tuple[str, ...], sort: str, count: int
) -> list[Run]:
    of_kind = {"state": {"type": {"any_": list(kinds)}}}
    question = {**own, "flow_runs": of_kind, "sort": sort, "limit": count}
    return [_run(given) for given in await _post(client, "/flow_runs/filter", question)]


def _run(given: dict[str, Any]) -> Run:
    state = given["state"] or {}
    return Run(
        given["id"],
        given["name"],
        state.get("type", ""),
        state.get("name", ""),
        state.get("message") or "",
        given["expected_start_time"],
        given["end_time"],
        given["auto_scheduled"],
        tuple(given["tags"]),
        tuple(str(text) for text in given["parameters"].get("overrides") or []),
    )


def _timing(given: dict[str, Any]) -> Timing:
    when = given["schedule"]
    interval = timedelta(seconds=when["interval"]) if "interval" in when else None
    return Timing(given["id"], when.get("cron"), interval, when.get("timezone"), given["active"])


async def _post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Any:
    return await _ask(client, "POST", path, body)


async def _ask(client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any]) -> Any:
    try:
        reply = await client.request(method, path, json=body)
    except httpx.HTTPError as error:
        raise GanpipeError(
            f"Prefect's server does not answer ({type(error).__name__}); `ganpipe up` starts it again, see "
            ".ganpipe/logs/prefect-server.log."
        ) from None
    if reply.is_error:
        raise GanpipeError(f"Prefect's server answered {reply.status_code} to {method} {path.split('/')[1]}.")
    return reply.json() if reply.content else None
