"""The status of a workspace, as a typed object: what `ganpipe status` prints and the dashboard draws.

It neither writes nor asks a server, except one that keeps the runs elsewhere, and imports neither torch, MLflow nor
Prefect.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ganpipe.errors import GanpipeError, first_line
from ganpipe.settings.params import resolve
from ganpipe.settings.schema import DataSettings
from ganpipe.stages.last_day import LastDay, read_last_day
from ganpipe.stages.retraining import Decision, read_decisions
from ganpipe.stores.activities import Activity, read_activities
from ganpipe.stores.addresses import announced, running_servers
from ganpipe.stores.dataset_summaries import (
    DatasetSummary,
    summarize_datasets,
    summarized_files,
    versions_of,
)
from ganpipe.stores.elsewhere import describe_elsewhere
from ganpipe.stores.prefect_database import FlowRun, PlannedRun, latest_flow_runs, planned_runs
from ganpipe.stores.registered_models import (
    CHALLENGER,
    CHAMPION,
    ChampionChange,
    RegisteredModel,
    read_registered_models,
)
from ganpipe.stores.rereading import Remembered, database_files, states_of
from ganpipe.stores.run_records import RunRecord, RunRecords, newest_experiment, read_records, record_files
from ganpipe.stores.workspace import Workspace, mlflow_database, prefect_database, tracks_here

SHOWN = 10  # of Prefect's runs, and of planned ones
DISK_EVERY_S, SERVERS_EVERY_S, LAST_DAY_EVERY_S = 60.0, 15.0, 60.0
DISK_PATIENCE_S = 0.3  # a folder that takes longer to measure is said to hold "more than"
# Where the bytes are. What a folder inside another one holds counts there alone.
DISK_PLACES = (
    ("datasets", "data/raw"),
    ("earlier versions (DVC)", ".dvc/cache"),
    ("prepared shards", "data/prepared"),
    ("runs", ".ganpipe/runs"),
    ("MLflow's artifacts", ".ganpipe/mlartifacts"),
    ("stylized images", ".ganpipe/stylized"),
    ("uploads", ".ganpipe/uploads"),
    ("features", ".ganpipe/features"),
    ("Prefect", ".ganpipe/prefect"),
    ("drawn images", ".ganpipe/drawn"),
)


@dataclass(frozen=True)
class RunStatus:
    """One run. A run with a damaged record has the state `damaged`, and `reason` says why.

    `reason`: why it is not finished, or else what the gate said. `train_s`: of all attempts; 0: not recorded.
    `kd`, `energy`: as the evaluation has them. `conditions`: of that
    evaluation; equal for runs whose verdicts and scores may be compared. Times are in UTC.
    """

    run: str
    state: str
    dataset: str
    version: str
    champion: bool
    mlflow_run_id: str | None
    model_version: str | None
    verdict: str | None
    gate: str | None = None
    reason: str = ""
    began_at: str | None = None
    ended_at: str | None = None
    train_s: float = 0.0
    model: str = ""
    kd: float | None = None
    energy: float | None = None
    conditions: str | None = None


@dataclass(frozen=True)
class ModelChange(ChampionChange):
    """A change of the champion of one registered model."""

    model: str


@dataclass(frozen=True)
class DatasetStatus(DatasetSummary):
    """A dataset, how many versions the workspace knows, and whether its champion was trained on the present one.

    `champion_has_seen`: None if there is no champion, or it is not known what it was trained on.
    """

    versions: int = 0
    champion_has_seen: bool | None = None


@dataclass(frozen=True)
class ServerStatus:
    """A server of `ganpipe up`: its address, and its process if this machine tells."""

    name: str
    url: str
    pid: int | None

    @property
    def port(self) -> int | None:
        """The port of the address."""
        return urlsplit(self.url).port


@dataclass(frozen=True)
class DiskUse:
    """The bytes below a place of the workspace; `whole`: whether all of it was measured."""

    what: str
    bytes: int
    whole: bool


@dataclass(frozen=True)
class WorkspaceStatus:
    """Running, waiting, past and planned work; datasets, runs, models, servers and disk.

    `champions` and `challengers`: by registered model. `models_problem`: why MLflow could not be asked; None if it could.
    `changes` of champions, and `runs`: the latest last; `flow_runs`: the latest first. `up_pid`: of `ganpipe up`; None if it
    does not run. `retraining`: whether each dataset has changed enough to be trained on again, where that was asked.
    `elsewhere`: a sentence for each tool whose records are not in the workspace.
    """

    workspace: str
    activities: list[Activity]
    flow_runs: list[FlowRun]
    last_day: LastDay
    planned: list[PlannedRun]
    datasets: list[DatasetStatus]
    runs: list[RunStatus]
    models: list[RegisteredModel]
    models_problem: str | None
    changes: list[ModelChange]
    up_pid: int | None
    servers: list[ServerStatus]
    disk: list[DiskUse]
    disk_free_bytes: int
    retraining: list[Decision]
    elsewhere: list[str]

    @property
    def champions(self) -> dict[str, str]:
        """The champion of each registered model that has one, such as `ganpipe-cats v3`."""
        return self._aliased(CHAMPION)

    @property
    def challengers(self) -> dict[str, str]:
        """The challenger of each registered model that has one."""
        return self._aliased(CHALLENGER)

    def _aliased(self, alias: str) -> dict[str, str]:
        return {m.name: f"{m.name} v{m.aliases[alias]}" for m in self.models if alias in m.aliases}

    def as_dict(self) -> dict[str, Any]:
        """The fields that `--json` prints."""
        activities = [_activity_fields(activity) for activity in self.activities]
        servers = [asdict(server) | {"port": server.port} for server in self.servers]
        named = {"champions": self.champions, "challengers": self.challengers}
        return asdict(self) | named | {"activities": activities, "servers": servers}


def _activity_fields(activity: Activity) -> dict[str, Any]:
    progress = activity.progress
    rates = {"per_second": progress.per_second, "left_s": progress.left_s} if progress else {}
    return asdict(activity) | {"pid": activity.pid} | rates


def read_status(workspace: Workspace) -> WorkspaceStatus:
    """The status now, under the workspace's own settings."""
    return StatusReader(workspace).read()


def workspace_status(workspace: Workspace, settings: DataSettings) -> WorkspaceStatus:
    """The status now; the runs in order of their last change, after those with a damaged record."""
    return StatusReader(workspace).read_under(settings)


class StatusReader:
    """Reads the status again and again, for pages that stay open: a part is read anew only if one of its files has changed.

    No file says that the disk or the servers' processes have changed, nor that a day has passed: those parts are read anew
    every DISK_EVERY_S, SERVERS_EVERY_S and LAST_DAY_EVERY_S.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._settings: Remembered[DataSettings] = Remembered()
        self._records: Remembered[RunRecords] = Remembered()
        self._models: Remembered[tuple[list[RegisteredModel], str | None]] = Remembered()
        self._runs: Remembered[list[RunStatus]] = Remembered()
        self._datasets: Remembered[list[tuple[DatasetSummary, int]]] = Remembered()
        self._flow_runs: Remembered[tuple[list[FlowRun], list[PlannedRun], LastDay]] = Remembered()
        self._servers: Remembered[tuple[int | None, list[ServerStatus]]] = Remembered()
        self._disk: Remembered[list[DiskUse]] = Remembered()

    def read(self) -> WorkspaceStatus:
        """The status now, under the workspace's own settings."""
        key = states_of([self.workspace.params_file])
        return self.read_under(self._settings.get(key, partial(_own_settings, self.workspace)))

    def read_under(self, settings: DataSettings) -> WorkspaceStatus:
        """The status now; the runs in order of their last change, after those with a damaged record."""
        place = self.workspace
        records = self._records.get(states_of(record_files(place)), partial(read_records, place))
        models, problem = self._read_models(records)
        champions = None if problem else [_champion_run(model) for model in models]
        up_pid, servers = self._read_servers()
        flow_runs, planned, last_day = self._read_flow_runs()
        return WorkspaceStatus(
            workspace=str(place.root),
            activities=read_activities(place),
            flow_runs=flow_runs,
            last_day=last_day,
            planned=planned if up_pid else [],  # otherwise nothing starts them
            datasets=self._read_datasets(settings, models),
            runs=self._runs.get((records, champions), partial(_run_statuses, records, champions)),
            models=models,
            models_problem=problem,
            changes=_changes(models),
            up_pid=up_pid,
            servers=servers,
            disk=self._disk.get(time.monotonic() // DISK_EVERY_S, partial(disk_use, place)),
            disk_free_bytes=shutil.disk_usage(place.root).free,
            retraining=read_decisions(place),
            elsewhere=describe_elsewhere(place),
        )

    def _read_models(self, records: RunRecords) -> tuple[list[RegisteredModel], str | None]:
        if not tracks_here(self.workspace):  # what another server keeps changes no file
            self._models.forget()
        key = states_of(database_files(mlflow_database(self.workspace))), records
        return self._models.get(key, partial(_models, self.workspace, records))

    def _read_flow_runs(self) -> tuple[list[FlowRun], list[PlannedRun], LastDay]:
        place = self.workspace
        return self._flow_runs.get(
            (states_of(database_files(prefect_database(place))), time.monotonic() // LAST_DAY_EVERY_S),
            lambda: (latest_flow_runs(place, SHOWN), planned_runs(place, SHOWN), read_last_day(place)),
        )

    def _read_datasets(self, settings: DataSettings, models: list[RegisteredModel]) -> list[DatasetStatus]:
        place = self.workspace
        found = self._datasets.get(
            (states_of(summarized_files(place)), settings),
            lambda: [(s, len(versions_of(place, s.name))) for s in summarize_datasets(place, settings)],
        )
        return [_dataset_status(summary, versions, models) for summary, versions in found]

    def _read_servers(self) -> tuple[int | None, list[ServerStatus]]:
        key = announced(self.workspace), time.monotonic() // SERVERS_EVERY_S
        found = self._servers.get(key, partial(_servers, self.workspace))
        if found[0] is None:  # it may only have been too busy to answer
            self._servers.forget()
        return found


def _own_settings(workspace: Workspace) -> DataSettings:
    params = workspace.params()
    return resolve(params, params.preset or "demo", []).data


def _run_statuses(records: RunRecords, champions: list[str | None] | None) -> list[RunStatus]:
    damaged = [_damaged_run(run_id, sentence) for run_id, sentence in records.damaged.items()]
    return damaged + [_run_status(record, champions) for record in records.whole]


def _changes(models: list[RegisteredModel]) -> list[ModelChange]:
    found = [ModelChange(**asdict(change), model=model.name) for model in models for change in model.history]
    return sorted(found, key=lambda change: change.at)


def _models(workspace: Workspace, records: RunRecords) -> tuple[list[RegisteredModel], str | None]:
    """The registered models, and why they cannot be read; a workspace without runs has none."""
    if not records.whole and not records.damaged:
        return [], None
    try:
        return read_registered_models(workspace), None
    except (GanpipeError, OSError) as error:  # hides no dataset and no run
        return [], str(error)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in (
            "mlflow",
            "sqlalchemy",
        ):  # neither is imported for this
            raise
        return [], first_line(error)


def _champion_run(model: RegisteredModel) -> str | None:
    champion = model.with_alias(CHAMPION)
    return champion.mlflow_run_id if champion else None


def _run_status(record: RunRecord, champions: list[str | None] | None) -> RunStatus:
    """`champions`: MLflow's runs of the champions, which the registry knows better than the record; None: unknown."""
    metrics = record.evaluation.metrics if record.evaluation else {}
    judged = record.evaluation
    return RunStatus(
        run=record.run_id,
        state=record.state,
        dataset=record.dataset,
        version=record.version,
        champion=record.champion if champions is None else record.mlflow_run_id in champions,
        mlflow_run_id=record.mlflow_run_id,
        model_version=record.model_version,
        verdict=judged.verdict if judged else None,
        gate=record.gate.word if record.gate else None,
        reason=record.reason or (record.gate.reason if record.gate else ""),
        began_at=record.began_at,
        ended_at=record.ended_at,
        train_s=record.train_s,
        model=record.settings["model"]["name"],
        kd=metrics["kd"].value if "kd" in metrics else None,
        energy=metrics["energy"].value if "energy" in metrics else None,
        conditions=judged.conditions.id if judged and judged.conditions else None,
    )


def _damaged_run(run_id: str, problem: str) -> RunStatus:
    dataset = run_id.rpartition("-")[0]
    return RunStatus(run_id, "damaged", dataset, "", False, None, None, None, reason=problem)


def _dataset_status(summary: DatasetSummary, versions: int, models: list[RegisteredModel]) -> DatasetStatus:
    model = next((m for m in models if m.dataset == summary.name), None)
    champion = model.with_alias(CHAMPION) if model else None
    trained_on = champion.dataset_version if champion else None
    return DatasetStatus(
        **asdict(summary),
        versions=versions,
        champion_has_seen=trained_on == summary.version if trained_on and summary.version else None,
    )


def _servers(workspace: Workspace) -> tuple[int | None, list[ServerStatus]]:
    found = running_servers(workspace)
    if found is None:
        return None, []
    urls = {
        "Dashboard": found.dashboard,
        "Prefect": found.prefect_api.removesuffix("/api"),
        "MLflow": found.mlflow_page(newest_experiment(workspace)) if found.mlflow else "",
    }
    listening = _listening_processes(found.pid)
    return found.pid, [
        ServerStatus(name, url, listening.get(urlsplit(url).port or 0)) for name, url in urls.items() if url
    ]


def _listening_processes(parent: int) -> dict[int, int]:
    """Which child of a process listens on which port; what the system does not tell is left out."""
    import psutil

    found: dict[int, int] = {}
    try:
        for child in psutil.Process(parent).children(recursive=True):
            for connection in child.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found.setdefault(connection.laddr.port, child.pid)
    except psutil.Error:  # one has just ended
        pass
    return found


def disk_use(workspace: Workspace) -> list[DiskUse]:
    """Measures the places that use the disk, the largest first; places that are not there are left out."""
    deadline = time.monotonic() + DISK_PATIENCE_S
    found = [_measure(what, workspace.root / place, deadline) for what, place in DISK_PLACES]
    return sorted((use for use in found if use.bytes), key=lambda use: -use.bytes)


def _measure(what: str, folder: Path, deadline: float) -> DiskUse:
    total = 0
    for number, size in enumerate(_sizes(folder)):
        total += size
        if number % 256 == 255 and time.monotonic() > deadline:
            return DiskUse(what, total, whole=False)
    return DiskUse(what, total, whole=True)


def _sizes(folder: Path) -> Iterator[int]:
    """The bytes on the disk of each file below a folder; links are not followed."""
    folders = [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        yield entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:  # it has just been deleted, or is not ours to read
            continue
