"""MLflow's model registry: versions, the aliases `champion`, `challenger` and `previous`, and who changed the champion."""

from __future__ import annotations

import getpass
import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from ganpipe.errors import GanpipeError, classify_storage_error, first_line
from ganpipe.evaluation.gate_result import GateResult
from ganpipe.stores.mlflow_runs import STYLE_EXPERIMENT, Tracker
from ganpipe.stores.recorded_paths import local_artifact
from ganpipe.stores.registered_models import (
    ALIASES,
    CHALLENGER,
    CHAMPION,
    EARLIER,
    HISTORY,
    PREFIX,
    PREVIOUS,
    ChampionChange,
    RegisteredModel,
    make_version,
    parse_history,
    registered_name,
)
from ganpipe.stores.run_records import RunRecord
from ganpipe.stores.workspace import Workspace

log = logging.getLogger(__name__)

MOST_HISTORY = 50


@dataclass(frozen=True)
class ModelRef:
    """A registered version and where its files are; of a model that is not registered, the run's name and no version."""

    name: str
    version: str
    run_id: str | None
    source: str

    def __str__(self) -> str:
        return f"{self.name} v{self.version}" if self.version else self.name


class ModelRegistry:
    """The registered models of the workspace's MLflow. `reading`: nothing is written."""

    def __init__(self, workspace: Workspace, reading: bool = False) -> None:
        self.tracker = Tracker(workspace, reading)
        self.client = self.tracker.client

    def register(self, record: RunRecord, folder: Path) -> ModelRef:
        """Registers the files of `folder` (safetensors and JSON) as the next version of the dataset's model."""
        run_id = str(record.mlflow_run_id)
        name = registered_name(record.dataset)
        if earlier := self._version_of_run(name, run_id):
            return earlier
        tags = {"ganpipe.run": record.run_id, "ganpipe.dataset_version": record.version}
        return self._new_version(name, run_id, record.run_id, record.dataset, folder, "gan-generator", tags)

    def _new_version(
        self,
        name: str,
        run_id: str,
        run_name: str,
        experiment: str,
        folder: Path,
        kind: str,
        tags: dict[str, str],
    ) -> ModelRef:
        """The files of `folder` as a logged model of the run and as the next version of the registered model `name`."""
        model = self.client.create_logged_model(
            self.tracker.experiment(experiment),
            name=run_name,
            source_run_id=run_id,
            model_type=kind,
            tags=tags,
        )
        self.client.log_model_artifacts(model.model_id, str(folder))
        self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        self.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
        with suppress(MlflowException):  # it exists already
            self.client.create_registered_model(name)
        version = self.client.create_model_version(
            name, source=model.artifact_location, run_id=run_id, model_id=model.model_id, tags=tags
        )
        return _reference(version)

    def register_feedforward(self, style: str, folder: Path, seconds: float) -> ModelRef:
        """Registers a feed-forward network, with a run of its own, as the next version of its style's model."""
        run_id = self.tracker.log_feedforward(style, folder, seconds)
        name = "".join(c if c.isalnum() or c in "-_" else "-" for c in f"style-{style}")
        return self._new_version(
            name, run_id, folder.name, STYLE_EXPERIMENT, folder, "style-feedforward", {"ganpipe.style": style}
        )

    def _version_of_run(self, name: str, run_id: str) -> ModelRef | None:
        found = self.client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
        return _reference(found[0]) if found else None

    def record_gate(self, reference: ModelRef, gate: GateResult) -> None:
        """The gate's answer as tags of a version."""
        for name, value in (("gate", gate.outcome), ("gate_reason", gate.reason)):
            self.client.set_model_version_tag(reference.name, reference.version, f"ganpipe.{name}", value)

    def champion(self, name: str) -> ModelRef | None:
        """The version with the alias `champion`."""
        return self._with_alias(name, CHAMPION)

    def _with_alias(self, name: str, alias: str) -> ModelRef | None:
        try:
            return _reference(self.client.get_model_version_by_alias(name, alias))
        except MlflowException as error:
            if classify_storage_error(error):  # a locked database is no missing champion
                raise
            return None

    def challenge(self, reference: ModelRef) -> None:
        """Gives a version the alias `challenger`."""
        self.client.set_registered_model_alias(reference.name, CHALLENGER, reference.version)

    def promote(self, reference: ModelRef, action: str, why: str) -> None:
        """Gives a version the alias `champion`, and remembers the champion before it, who did it, when and why."""
        name, before = reference.name, self.champion(reference.name)
        if before and before.version == reference.version:
            return
        earlier = [*self._earlier(name), *([before.version] if before else [])]
        self._change_champion(name, reference.version, earlier, action, why)

    def rollback(self, name: str, why: str = "") -> ModelRef:
        """Gives the alias back to the champion before.

        Raises:
            GanpipeError: there was none before.
        """
        earlier = self._earlier(name)
        if not earlier:
            raise GanpipeError(
                f"{name} has no champion before the present one; there is nothing to roll back to."
            )
        self._change_champion(name, earlier[-1], earlier[:-1], "rollback", why)
        return _reference(self.client.get_model_version(name, earlier[-1]))

    def _change_champion(self, name: str, version: str, earlier: list[str], action: str, why: str) -> None:
        before, now = self.champion(name), datetime.now(UTC).isoformat(timespec="seconds")
        change = ChampionChange(version, before.version if before else None, action, user_name(), now, why)
        history = [asdict(entry) for entry in [*self.history(name), change][-MOST_HISTORY:]]
        self.client.set_registered_model_tag(name, HISTORY, json.dumps(history))
        self.client.set_registered_model_tag(name, EARLIER, ",".join(earlier[-MOST_HISTORY:]))
        self.client.set_registered_model_alias(name, CHAMPION, version)
        run_id = self.client.get_model_version(name, version).run_id
        self.tracker.mark_champion(name.removeprefix(PREFIX), run_id)
        for key in ("action", "by", "at", "why"):
            value = str(getattr(change, key))
            self.client.set_model_version_tag(name, version, f"ganpipe.promoted_{key}", value)
        challenger = self._with_alias(name, CHALLENGER)
        if challenger and challenger.version == version:
            self.client.delete_registered_model_alias(name, CHALLENGER)
        if earlier:
            self.client.set_registered_model_alias(name, PREVIOUS, earlier[-1])
        elif self._with_alias(name, PREVIOUS):
            self.client.delete_registered_model_alias(name, PREVIOUS)

    def history(self, name: str) -> list[ChampionChange]:
        """The changes of a model's champion, the latest last; none if the tag is not as ganpipe writes it."""
        return parse_history(self._tags(name))

    def registered_models(self) -> list[RegisteredModel]:
        """Every registered model of a dataset, the one that changed last first."""
        return [self._registered_model(name) for name in self.models()]

    def _registered_model(self, name: str) -> RegisteredModel:
        versions = [
            make_version(str(v.version), v.run_id, v.creation_timestamp, v.tags)
            for v in self.client.search_model_versions(f"name = '{name}'")
        ]
        aliases = {k: str(v) for k, v in self.client.get_registered_model(name).aliases.items()}
        ordered = sorted(versions, key=lambda v: int(v.version))
        return RegisteredModel(name, ordered, aliases, self.history(name))

    def _earlier(self, name: str) -> list[str]:
        return [v for v in self._tags(name).get(EARLIER, "").split(",") if v]

    def protected_runs(self, name: str, earlier: int) -> set[str]:
        """The MLflow runs of a model's champion and challenger, and of so many champions before."""
        now = [self._with_alias(name, alias) for alias in (CHAMPION, CHALLENGER)]
        before = self._earlier(name)[-earlier:] if earlier else []
        versions = [self.client.get_model_version(name, version) for version in before]
        found = [*(reference for reference in now if reference), *map(_reference, versions)]
        return {reference.run_id for reference in found if reference.run_id}

    def _tags(self, name: str) -> dict[str, str]:
        try:
            return dict(self.client.get_registered_model(name).tags)
        except MlflowException as error:
            if classify_storage_error(error):
                raise
            raise GanpipeError(f"There is no registered model {name}; train one with: ganpipe run") from None

    def models(self) -> list[str]:
        """Names of the registered models, the one that changed last first."""
        found = self.client.search_registered_models(filter_string=f"name LIKE '{PREFIX}%'")
        return [m.name for m in sorted(found, key=lambda m: m.last_updated_timestamp or 0, reverse=True)]

    def find_model(self, reference: str, dataset: str | None) -> ModelRef:
        """`champion`, `challenger`, `previous` (of `dataset`, or of the model that changed last), `NAME/VERSION` or `NAME@ALIAS`.

        NAME: a registered model or a dataset.

        Raises:
            GanpipeError: there is no such model.
        """
        names = [registered_name(dataset)] if dataset else self.models()
        if reference in ALIASES:
            found = next((c for name in names if (c := self._with_alias(name, reference))), None)
            if found is None:
                of = f" for the dataset {dataset}" if dataset else ""
                raise GanpipeError(f"There is no {reference}{of} yet; {_how_to_get(reference, bool(names))}")
            return found
        name, slash, version = reference.rpartition("/")
        for known in (name, registered_name(name)) if slash else ():
            with suppress(MlflowException):
                return _reference(self.client.get_model_version(known, version))
        if not slash and "@" in reference:
            name, _, alias = reference.partition("@")
            with suppress(MlflowException):
                return _reference(self.client.get_model_version_by_alias(name, alias))
        there = ", ".join(self.models()) or "none yet"
        raise GanpipeError(
            f"There is no model {reference} (registered models: {there}); use champion or NAME/VERSION."
        )

    def champion_or_challenger(self, dataset: str | None) -> ModelRef:
        """The champion; where no model has become one, the newest challenger, with a warning.

        Raises:
            GanpipeError: there is neither.
        """
        try:
            return self.find_model(CHAMPION, dataset)
        except GanpipeError as error:
            with suppress(GanpipeError):
                found = self.find_model(CHALLENGER, dataset)
                log.warning(f"{str(error).partition(';')[0]}: {found} is used, which was not promoted.")
                return found
            raise

    def version_of(self, record: RunRecord) -> ModelRef:
        """The version that a run registered; raises GanpipeError if it registered none."""
        found = self.registered(record)
        if found is None:
            raise GanpipeError(f"Run {record.run_id} registered no model: it is {record.state}.")
        return found

    def registered(self, record: RunRecord) -> ModelRef | None:
        """The version that a run registered; None if it registered none."""
        return self._version_of_run(registered_name(record.dataset), str(record.mlflow_run_id))

    def model_files(self, reference: ModelRef, into: Path) -> Path:
        """The folder with a version's files, fetched if it is not on this machine."""
        here = local_artifact(self.tracker.workspace, reference.source)
        if here is not None and here.is_dir():
            return here
        from mlflow.artifacts import download_artifacts

        try:
            return Path(download_artifacts(artifact_uri=reference.source, dst_path=str(into)))
        except (MlflowException, OSError) as error:
            raise GanpipeError(f"The files of {reference} cannot be read: {first_line(error)}") from None


def _how_to_get(alias: str, trained: bool) -> str:
    if alias == CHAMPION and trained:
        return "promote the model of a run with: ganpipe promote RUN"
    return "train one with: ganpipe run" if alias == CHAMPION else "`ganpipe status` lists the models."


def user_name() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"


def _reference(version: ModelVersion) -> ModelRef:
    return ModelRef(version.name, str(version.version), version.run_id, str(version.source))
