"""MLflow's runs: settings, losses, grids and metrics of each training and each batch of stylizations."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.exceptions import MlflowException
from PIL import Image

from ganpipe.compute.process_identity import this_process
from ganpipe.errors import GanpipeError, first_line
from ganpipe.evaluation.gate_result import GateResult
from ganpipe.evaluation.verdict import Evaluation
from ganpipe.files import plain, read_json
from ganpipe.settings.schema import StyleSettings
from ganpipe.stores.mlflow_database import database_damage, relocate_artifacts
from ganpipe.stores.mlflow_store import ensure_database, require_tracking_server
from ganpipe.stores.recorded_paths import artifacts_root
from ganpipe.stores.registered_models import damaged_database, missing_runs
from ganpipe.stores.run_files import TRAINING_PICTURES
from ganpipe.stores.run_records import RunRecord
from ganpipe.stores.workspace import Workspace, mlflow_database, tracks_here
from ganpipe.style.batch.report import StyleReport, mean_quality
from ganpipe.style.feedforward.network import CONFIG as FEEDFORWARD_CONFIG
from ganpipe.training.callbacks import Point
from ganpipe.training.summary import StartPoint, TrainSummary

log = logging.getLogger(__name__)


FEEDFORWARD_CURVE = ("feedforward_loss", "feedforward_content", "feedforward_style")
# MLflow's own defaults hold a training up for minutes when its server is away.
SHORT_WAITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "15"}
# The experiment's page shows trainings, in releases of MLflow that read it; 3.17 goes by the switch on its page.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
# Tags for columns of the runs' table; what only ganpipe reads begins with "ganpipe.". `champion`: on one run of a dataset.
VERDICT, DATASET, DATASET_VERSION, CHAMPION_TAG = "verdict", "dataset", "dataset_version", "champion"
# The smaller copy, which MLflow writes last: an image without it was cut off. Its step is nimg.
LOGGED_PICTURE = re.compile(r"images/(?P<key>\w+)\+step\+(?P<nimg>\d+)\+.*\+compressed\.webp")
STARTS_FROM = "ganpipe.starts_from"  # JSON: a StartPoint
PROCESS = "ganpipe.process"  # the tag that names the process of a run (process_identity)
SWEEP = "ganpipe.sweep"  # the tag of the run under which the trials of a sweep are nested
STYLE_EXPERIMENT = "stylized"  # of batches that belong to no training
MOST_METRICS = 1000  # in one batch; MLflow's own limit
PARAM_CHARACTERS = 6000  # of one value; MLflow's own limit


def read_start_point(tag: str | None) -> StartPoint | None:
    """The start point in the tag of a run; None if it has none."""
    return StartPoint(**json.loads(tag)) if tag else None


@dataclass(frozen=True)
class TrainedOn:
    """A run's dataset: its name, version, DVC pointer, and the settings of section `data`, as text."""

    name: str
    version: str
    pointer: str
    settings: dict[str, str]


class Tracker:
    """The workspace's MLflow. `reading`: nothing is written, not even the workspace's new place after a move."""

    def __init__(self, workspace: Workspace, reading: bool = False) -> None:
        self.workspace = workspace
        require_tracking_server()
        if not reading:
            relocate_artifacts(workspace)
        elif problem := missing_runs(workspace):
            raise GanpipeError(problem)
        for name, value in SHORT_WAITS.items():
            os.environ.setdefault(name, value)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        # It logs each error of the database with its traceback, and raises it: whoever called says it.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        try:
            ensure_database(workspace)
            self.client = MlflowClient()
            self.client.search_experiments(max_results=1)
        except (MlflowException, OSError) as error:
            if tracks_here(workspace) and (damage := database_damage(mlflow_database(workspace))):
                raise GanpipeError(damaged_database(workspace, damage)) from None
            uri = os.environ.get("MLFLOW_TRACKING_URI", "")
            raise GanpipeError(f"MLflow at {uri} cannot be used: {first_line(error)}") from None

    def experiment(self, dataset: str) -> str:
        """The id of the dataset's experiment; its artifacts lie in the workspace unless a server keeps them."""
        found = self.client.get_experiment_by_name(dataset)
        if found:
            return str(found.experiment_id)
        local = not os.environ["MLFLOW_TRACKING_URI"].startswith(("http://", "https://"))
        place = f"{artifacts_root(self.workspace)}/{dataset}" if local else None
        try:
            created = self.client.create_experiment(dataset, artifact_location=place, tags=EXPERIMENT_TAGS)
            return str(created)
        except MlflowException:
            if found := self.client.get_experiment_by_name(dataset):  # another process was faster
                return str(found.experiment_id)
            raise

    def begin(self, record: RunRecord, pointer: str) -> str:
        """The MLflow run of a training: the earlier one under the same id where it was interrupted."""
        process = this_process()
        if record.mlflow_run_id and self.exists(record.mlflow_run_id):
            self.client.update_run(record.mlflow_run_id, status="RUNNING")
            for name, value in (("ganpipe.state", "running"), (PROCESS, process)):
                self.client.set_tag(record.mlflow_run_id, name, value)
            return record.mlflow_run_id
        experiment = self.experiment(record.dataset)
        run = self.run_of(record.run_id, experiment) or self.client.create_run(
            experiment, run_name=record.run_id, tags={"ganpipe.run": record.run_id, PROCESS: process}
        )
        run_id = str(run.info.run_id)
        self.client.update_run(run_id, status="RUNNING")
        params = [Param(k, str(v)[:PARAM_CHARACTERS]) for k, v in record.resolved().flat().items()]
        tags = {
            "ganpipe.fingerprint": record.fingerprint,
            PROCESS: process,
            "ganpipe.state": "running",
            DATASET: record.dataset,
            DATASET_VERSION: record.version,
            "ganpipe.source_sha256": record.source_sha256,
            "ganpipe.compute": " ".join(record.compute),
            "ganpipe.dvc_pointer": pointer,
        } | ({"ganpipe.continues": record.continues} if record.continues else {})
        if record.starts_from:
            tags[STARTS_FROM] = json.dumps(asdict(record.starts_from))
        self.client.log_batch(run_id, params=params, tags=[RunTag(k, v) for k, v in tags.items()])
        dataset = Dataset(
            record.dataset, record.version, "dvc", f'{{"path": "data/raw/{record.dataset}.dvc"}}'
        )
        self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
        self.client.log_dict(run_id, record.settings, "settings.json")
        self.client.log_dict(run_id, record.environment, "environment.json")
        return run_id

    def data_of(self, reference: str) -> TrainedOn:
        """Which data a run was trained on and how they were prepared, from MLflow alone.

        `reference`: an MLflow run id, or ganpipe's.

        Raises:
            GanpipeError: no such run, or it knows of no data.
        """
        run = self._run_called(reference)
        tags, name = run.data.tags, dataset_of(run)
        pointer, version = tags.get("ganpipe.dvc_pointer"), tags.get(DATASET_VERSION)
        if not pointer or not version or not name:
            raise GanpipeError(f"MLflow's run {reference} knows of no dataset: it is no training of ganpipe.")
        prefix = "data."
        settings = {k.removeprefix(prefix): v for k, v in run.data.params.items() if k.startswith(prefix)}
        return TrainedOn(name, version, pointer, settings)

    def _run_called(self, reference: str) -> Run:
        with suppress(MlflowException):
            return self.client.get_run(reference)
        if found := self.run_of(reference):
            return found
        raise GanpipeError(f"MLflow has no run {reference}; `ganpipe status` lists the runs.")

    def run_of(self, run_id: str, experiment: str | None = None) -> Run | None:
        """The MLflow run of ganpipe's run `run_id`, in one experiment or in any; None if there is none."""
        experiments = (
            [experiment] if experiment else [e.experiment_id for e in self.client.search_experiments()]
        )
        quoted = run_id.replace("'", "")
        found = self.client.search_runs(experiments, f"tags.`ganpipe.run` = '{quoted}'", max_results=1)
        return found[0] if found else None

    def exists(self, run_id: str) -> bool:
        """Whether MLflow has the run, not deleted."""
        with suppress(MlflowException):
            return self.client.get_run(run_id).info.lifecycle_stage == "active"
        return False

    def experiment_of(self, run_id: str) -> str:
        """The id of the experiment that a run belongs to."""
        return str(self.client.get_run(run_id).info.experiment_id)

    def curve(self, run_id: str) -> CurveWriter:
        """Writes the loss curve; after a resume it leaves out what was logged before the kill."""
        return CurveWriter(self.client, run_id)

    def style_batch(self, settings: StyleSettings, report: StyleReport) -> str:
        """A finished run for a batch of stylizations: settings, means, each item and sheets; its id."""
        run = self.client.create_run(self.experiment(STYLE_EXPERIMENT), tags={PROCESS: this_process()})
        run_id = str(run.info.run_id)
        params = [Param(k, str(v)[:PARAM_CHARACTERS]) for k, v in settings.model_dump().items()]
        self.client.log_batch(run_id, params=params, tags=[RunTag("ganpipe.network", report.network)])
        counts = {
            name: float(getattr(report, name)) for name in ("done", "skipped", "failed", "steps_per_second")
        }
        self.outcome(run_id, counts | mean_quality(report), {})
        self.client.log_dict(run_id, {"items": [asdict(item) for item in report.items]}, "items.json")
        for path in report.sheets:
            self.picture(run_id, Path(path), "stylized")
        self.end(run_id, "finished")
        return run_id

    def log_feedforward(self, style: str, folder: Path, seconds: float) -> str:
        """A finished run for the training of a feed-forward network: its inputs and loss curve; its id."""
        run = self.client.create_run(
            self.experiment(STYLE_EXPERIMENT), run_name=folder.name, tags={PROCESS: this_process()}
        )
        run_id = str(run.info.run_id)
        origin = read_json(folder / FEEDFORWARD_CONFIG)["origin"]
        self.client.log_dict(run_id, origin["inputs"], "training.json")
        points = [
            Point(nimg, dict(zip(FEEDFORWARD_CURVE, values, strict=True)))
            for nimg, *values in origin["curve"]
        ]
        self.curve(run_id).write(points)
        self.outcome(run_id, {"training_seconds": seconds}, {"ganpipe.style": style})
        self.end(run_id, "finished")
        return run_id

    def begin_sweep(self, dataset: str, name: str) -> str:
        """The run under which the trials of a sweep are nested: the earlier one if it is still there; its id."""
        experiment = self.experiment(dataset)
        found = self.client.search_runs([experiment], f"tags.`{SWEEP}` = '{name}'", max_results=1)
        tags = {DATASET: dataset, SWEEP: name}
        run = found[0] if found else self.client.create_run(experiment, run_name=name, tags=tags)
        self.client.update_run(run.info.run_id, status="RUNNING")
        self.client.set_tag(run.info.run_id, PROCESS, this_process())
        return str(run.info.run_id)

    def trial(self, run_id: str, number: int, energy: float) -> None:
        """Adds a trial's validation energy to the curve of its sweep, whose steps are the numbers of the trials."""
        self.client.log_metric(run_id, "validation_energy", energy, step=number)

    def end_sweep(self, run_id: str, best: Mapping[str, object], files: Iterable[Path]) -> None:
        """Logs the best settings as tags and the files of a sweep's outcome, and closes its run."""
        self.tag(run_id, {f"best.{key}": str(value) for key, value in best.items()})
        for path in files:
            self.picture(run_id, path, "sweep")
        self.end(run_id, "finished")

    def picture(self, run_id: str, path: Path, folder: str) -> None:
        """Logs an image as an artifact."""
        self.client.log_artifact(run_id, str(path), folder)

    def grid(self, run_id: str, path: Path, nimg: int) -> None:
        """Logs a grid of the training, for the slider on MLflow's page; nothing if the run has one of this `nimg`.

        The folder that it lies in says which kind it is, a row of TRAINING_PICTURES.
        """
        key = TRAINING_PICTURES[path.parent.name]
        if nimg in self.logged_grids(run_id, key):
            return
        with Image.open(path) as image:
            self.client.log_image(run_id, image, key=key, step=nimg)

    def logged_grids(self, run_id: str, key: str = TRAINING_PICTURES["grids"]) -> list[int]:
        """The `nimg` of each grid of a kind that a run has, in order."""
        names = [artifact.path for artifact in self.client.list_artifacts(run_id, "images")]
        found = [match for name in names if (match := LOGGED_PICTURE.fullmatch(name))]
        return sorted(int(match["nimg"]) for match in found if match["key"] == key)

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Sets tags of a run."""
        self.client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])

    def mark_champion(self, dataset: str, run_id: str | None) -> None:
        """Leaves the tag `champion` on this run alone, of all the dataset's."""
        marked = self.client.search_runs([self.experiment(dataset)], f"tags.{CHAMPION_TAG} = 'yes'")
        for run in marked:
            if run.info.run_id != run_id:
                self.client.delete_tag(run.info.run_id, CHAMPION_TAG)
        if run_id and self.exists(run_id):
            self.client.set_tag(run_id, CHAMPION_TAG, "yes")

    def outcome(self, run_id: str, metrics: dict[str, float], tags: dict[str, str]) -> None:
        """Final numbers (what is not finite is left out) and tags."""
        now = int(time.time() * 1000)
        points = [Metric(k, v, now, 0) for k, v in metrics.items() if math.isfinite(v)]
        self.client.log_batch(run_id, metrics=points, tags=[RunTag(k, v) for k, v in tags.items()])

    def training(self, run_id: str, summary: TrainSummary) -> None:
        """The numbers and notes of a finished training."""
        numbers = {"nimg": float(summary.nimg), "images_per_second": summary.images_per_second}
        tags = {"ganpipe.weights_sha256": summary.weights_sha256}
        if summary.notes:
            tags["ganpipe.notes"] = " ".join(summary.notes)
        self.outcome(run_id, numbers, tags)

    def times(self, run_id: str, record: RunRecord) -> None:
        """When a training began and ended, and how long it took, as the record has them."""
        tags = {"ganpipe.began_at": record.began_at or "", "ganpipe.ended_at": record.ended_at or ""}
        self.outcome(run_id, {"train_s": record.train_s}, tags)

    def evaluation(self, run_id: str, evaluation: Evaluation) -> None:
        """The metrics and the verdict of an evaluation, and its grid if that is there."""
        if evaluation.grid and Path(evaluation.grid).exists():
            self.picture(run_id, Path(evaluation.grid), "evaluation")
        self.client.log_dict(run_id, evaluation.as_dict(), "evaluation/evaluation.json")
        numbers = {name: metric.value for name, metric in evaluation.metrics.items()}
        kd = evaluation.metrics.get("kd")
        extractor = {"ganpipe.extractor": kd.extractor} if kd else {}
        # Equal for runs whose scores may be compared: MLflow's pages group and filter by it.
        conditions = {"ganpipe.conditions": evaluation.conditions.id} if evaluation.conditions else {}
        self.outcome(run_id, numbers, {VERDICT: evaluation.verdict} | extractor | conditions)

    def gate(self, run_id: str, gate: GateResult) -> None:
        """Logs the gate's answer, and its picture if that is there."""
        if gate.picture and Path(gate.picture).exists():
            self.picture(run_id, Path(gate.picture), "gate")
        self.client.log_dict(run_id, plain(replace(gate, picture=None)), "gate/gate.json")
        numbers = {"gate_z": gate.comparison.energy.z} if gate.comparison else {}
        self.outcome(run_id, numbers, {"ganpipe.gate": gate.outcome, "ganpipe.gate_reason": gate.reason})

    def end(self, run_id: str, state: str) -> None:
        """Closes the run: `finished`, `interrupted` or `pruned` (MLflow's KILLED), or `failed`."""
        self.client.set_tag(run_id, "ganpipe.state", state)
        status = {"finished": "FINISHED", "interrupted": "KILLED", "pruned": "KILLED"}.get(state, "FAILED")
        self.client.set_terminated(run_id, status)


def dataset_of(run: Run) -> str | None:
    """The name of the dataset that an MLflow run was trained on, if it says so."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return next((str(i.dataset.name) for i in inputs), None)


class CurveWriter:
    """Appends points to an MLflow run in batches, each nimg once."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client, self.run_id = client, run_id
        # Whatever scalars the algorithm has: the last step of any of them says how far the logged curve goes.
        # System metrics count samples, not images.
        metrics = client.get_run(run_id).data.metrics
        names = [name for name in metrics if not name.startswith("system/")]
        steps = (m.step for name in names for m in client.get_metric_history(run_id, name))
        self.last_nimg = max(steps, default=-1)

    def write(self, points: Iterable[Point]) -> None:
        """Logs the points that are not there yet: a resumed run computes the same ones again."""
        now = int(time.time() * 1000)
        new = [p for p in points if p.nimg > self.last_nimg]
        batch: list[Metric] = []
        for p in new:  # whole points: a kill between two batches must not leave half of one
            metrics = [Metric(name, value, now, p.nimg) for name, value in p.values.items()]
            if len(batch) + len(metrics) > MOST_METRICS:
                self.client.log_batch(self.run_id, metrics=batch)
                batch = []
            batch += metrics
        if batch:
            self.client.log_batch(self.run_id, metrics=batch)
        if new:
            self.last_nimg = new[-1].nimg
