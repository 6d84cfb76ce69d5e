"""Registered models as values, read from MLflow's database of the workspace in milliseconds and without MLflow."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ganpipe.errors import GanpipeError
from ganpipe.stores.mlflow_database import database_damage, open_reading
from ganpipe.stores.run_records import all_records
from ganpipe.stores.workspace import Workspace, mlflow_database, tracks_here

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"  # aliases
ALIASES = (CHAMPION, CHALLENGER, PREVIOUS)
EARLIER = "ganpipe.previous_champions"  # versions, the latest last, joined by commas
HISTORY = "ganpipe.champion_history"  # JSON: a list of ChampionChange, the latest last
PREFIX = "ganpipe-"


@dataclass(frozen=True)
class ChampionChange:
    """An entry of a model's history: which version became champion after which, by whom, when and why.

    `action`: gate, promote, force (promoted though it was refused), rollback, restore (MLflow's database was rebuilt).
    """

    version: str
    before: str | None
    action: str
    by: str
    at: str
    why: str


@dataclass(frozen=True)
class RegisteredVersion:
    """A version: MLflow's run that made it, when, from which version of the dataset, and the gate's answer."""

    version: str
    mlflow_run_id: str | None
    made_at: str
    dataset_version: str | None = None
    gate: str | None = None
    gate_reason: str | None = None


@dataclass(frozen=True)
class RegisteredModel:
    """The registered model of a dataset; `versions` and `history`: the latest last."""

    name: str
    versions: list[RegisteredVersion]
    aliases: dict[str, str]  # version by alias
    history: list[ChampionChange]

    @property
    def dataset(self) -> str:
        """The dataset that its versions were trained on."""
        return self.name.removeprefix(PREFIX)

    def with_alias(self, alias: str) -> RegisteredVersion | None:
        """The version with this alias."""
        return next((v for v in self.versions if v.version == self.aliases.get(alias)), None)


def registered_name(dataset: str) -> str:
    """The registered model of a dataset."""
    return f"{PREFIX}{dataset}"


def parse_history(tags: Mapping[str, str]) -> list[ChampionChange]:
    """The changes of a model's champion, the latest last; none if the tag is not as ganpipe writes it."""
    try:
        return [ChampionChange(**entry) for entry in json.loads(tags.get(HISTORY, "[]"))]
    except (ValueError, TypeError):
        return []


def make_version(
    number: str, run_id: str | None, made_ms: int | None, tags: Mapping[str, str]
) -> RegisteredVersion:
    """A version from what MLflow has of it."""
    made = datetime.fromtimestamp((made_ms or 0) / 1000, UTC).isoformat(timespec="seconds")
    return RegisteredVersion(
        number,
        run_id,
        made,
        tags.get("ganpipe.dataset_version"),
        tags.get("ganpipe.gate"),
        tags.get("ganpipe.gate_reason"),
    )


def read_registered_models(workspace: Workspace) -> list[RegisteredModel]:
    """The registered models of the datasets, the one that changed last first.

    Raises:
        GanpipeError: MLflow's database is missing though there are runs, or is damaged.
    """
    if not tracks_here(workspace):
        from ganpipe.stores.model_registry import ModelRegistry  # another server keeps them: MLflow asks it

        return ModelRegistry(workspace, reading=True).registered_models()
    path = mlflow_database(workspace)
    if problem := missing_runs(workspace):
        raise GanpipeError(problem)
    if damage := database_damage(path):
        raise GanpipeError(damaged_database(workspace, damage))
    if not path.exists() or path.stat().st_size == 0:
        return []
    try:
        with open_reading(path) as database:
            names = _ask(
                database, "SELECT name FROM registered_models ORDER BY coalesce(last_updated_time, 0) DESC"
            )
            return [_read_model(database, name) for (name,) in names if name.startswith(PREFIX)]
    except sqlite3.DatabaseError as error:
        raise GanpipeError(f"{path} cannot be read: {error}.") from None


def _read_model(database: sqlite3.Connection, name: str) -> RegisteredModel:
    tags: dict[str, dict[str, str]] = {}
    of_versions = "SELECT version, key, value FROM model_version_tags WHERE name = ?"
    for version, key, value in _ask(database, of_versions, name):
        tags.setdefault(str(version), {})[key] = value
    rows = "SELECT version, run_id, creation_time FROM model_versions WHERE name = ? ORDER BY version"
    versions = [
        make_version(str(version), run, made, tags.get(str(version), {}))
        for version, run, made in _ask(database, rows, name)
    ]
    aliases = "SELECT alias, version FROM registered_model_aliases WHERE name = ?"
    own_tags = dict(_ask(database, "SELECT key, value FROM registered_model_tags WHERE name = ?", name))
    return RegisteredModel(
        name,
        versions,
        {alias: str(version) for alias, version in _ask(database, aliases, name)},
        parse_history(own_tags),
    )


def _ask(database: sqlite3.Connection, question: str, *values: str) -> list[tuple[Any, ...]]:
    return database.execute(question, values).fetchall()


def missing_runs(workspace: Workspace) -> str | None:
    """The sentence that says that MLflow's database of this workspace is gone though there are runs; else None."""
    path = mlflow_database(workspace)
    if not tracks_here(workspace) or path.exists():
        return None
    if not any(record.mlflow_run_id for record in all_records(workspace)):
        return None
    return f"{path} is missing; build it again from the runs with: ganpipe doctor --fix"


def damaged_database(workspace: Workspace, damage: str) -> str:
    """The sentence that says so."""
    return (
        f"{mlflow_database(workspace)} is damaged ({damage}); "
        "set it aside and build it again from the runs with: ganpipe doctor --fix"
    )
