"""MLflow's model registry: versions, the alias `champion`, and the champions before it."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from ganpipe.errors import GanpipeError, classify_storage_error, first_line
from ganpipe.evaluation.gate import SCORE
from ganpipe.stores.mlflow_runs import STYLE_EXPERIMENT, Tracker
from ganpipe.stores.recorded_paths import local_artifact
from ganpipe.stores.run_records import RunRecord
from ganpipe.stores.workspace import Workspace

CHAMPION = "champion"
PREVIOUS = "ganpipe.previous_champions"  # versions, the latest last, joined by commas


@dataclass(frozen=True)
class ModelRef:
    """A registered version and where its files are."""

    name: str
    version: str
    run_id: str | None
    source: str

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


def registered_name(dataset: str) -> str:
    """The registered model of a dataset."""
    return f"ganpipe-{dataset}"


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

    def set_score(self, reference: ModelRef, score: float | None) -> None:
        """Records the score of a version, by which it is compared later."""
        value = math.nan if score is None else score
        self.client.set_model_version_tag(reference.name, reference.version, SCORE, f"{value:.9g}")

    def score_of(self, reference: ModelRef) -> float:
        """The recorded score of a version; NaN if it has none."""
        tags = self.client.get_model_version(reference.name, reference.version).tags
        return float(tags.get(SCORE, "nan"))

    def champion(self, name: str) -> ModelRef | None:
        """The version with the alias `champion`."""
        try:
            return _reference(self.client.get_model_version_by_alias(name, CHAMPION))
        except MlflowException as error:
            if classify_storage_error(error):  # a locked database is no missing champion
                raise
            return None

    def promote(self, reference: ModelRef) -> None:
        """Gives a version the alias `champion`, and remembers the champion before it."""
        before = self.champion(reference.name)
        if before and before.version != reference.version:
            history = [*self._history(reference.name), before.version]
            self.client.set_registered_model_tag(reference.name, PREVIOUS, ",".join(history[-50:]))
        self.client.set_registered_model_alias(reference.name, CHAMPION, reference.version)

    def rollback(self, name: str) -> ModelRef:
        """Gives the alias back to the champion before.

        Raises:
            GanpipeError: there was none before.
        """
        history = self._history(name)
        if not history:
            raise GanpipeError(
                f"{name} has no champion before the present one; there is nothing to roll back to."
            )
        self.client.set_registered_model_alias(name, CHAMPION, history[-1])
        self.client.set_registered_model_tag(name, PREVIOUS, ",".join(history[:-1]))
        return _reference(self.client.get_model_version(name, history[-1]))

    def _history(self, name: str) -> list[str]:
        try:
            tags = self.client.get_registered_model(name).tags
        except MlflowException:
            raise GanpipeError(f"There is no registered model {name}; train one with: ganpipe run") from None
        return [v for v in tags.get(PREVIOUS, "").split(",") if v]

    def models(self) -> list[str]:
        """Names of the registered models, the one that changed last first."""
        found = self.client.search_registered_models(filter_string="name LIKE 'ganpipe-%'")
        return [m.name for m in sorted(found, key=lambda m: m.last_updated_timestamp or 0, reverse=True)]

    def find_model(self, reference: str, dataset: str | None) -> ModelRef:
        """`champion` (of `dataset`, or of the model that changed last), `NAME/VERSION`, `NAME@ALIAS` or a run.

        Raises:
            GanpipeError: there is no such model.
        """
        names = [registered_name(dataset)] if dataset else self.models()
        if reference == CHAMPION:
            found = next((c for name in names if (c := self.champion(name))), None)
            if found is None:
                of = f" for the dataset {dataset}" if dataset else ""
                raise GanpipeError(f"There is no champion{of} yet; train one with: ganpipe run")
            return found
        with suppress(MlflowException):
            if "/" in reference:
                name, _, version = reference.rpartition("/")
                return _reference(self.client.get_model_version(name, version))
            if "@" in reference:
                name, _, alias = reference.partition("@")
                return _reference(self.client.get_model_version_by_alias(name, alias))
        there = ", ".join(self.models()) or "none yet"
        raise GanpipeError(
            f"There is no model {reference} (registered models: {there}); use champion or NAME/VERSION."
        )

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


def _reference(version: ModelVersion) -> ModelRef:
    return ModelRef(version.name, str(version.version), version.run_id, str(version.source))
