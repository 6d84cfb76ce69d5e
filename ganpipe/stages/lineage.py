"""The lineage of a dataset version, a run, a model version or a picture: what it came from, and what came of it."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ganpipe.errors import GanpipeError
from ganpipe.imaging.provenance import read_origin
from ganpipe.stores.addresses import Addresses, running_servers
from ganpipe.stores.dataset_summaries import dataset_names
from ganpipe.stores.registered_models import ALIASES
from ganpipe.stores.run_files import FILM, GATE_PICTURE, REPORT_PICTURE, SAMPLES
from ganpipe.stores.run_records import RunRecord, all_records, find_record, run_folder
from ganpipe.stores.run_results import pictures_of_run
from ganpipe.stores.workspace import Workspace

RUN_PICTURES = (REPORT_PICTURE, SAMPLES, GATE_PICTURE, FILM)  # in a run folder


@dataclass(frozen=True)
class Link:
    """One thing of a chain: `kind` is dataset, run, model or picture. `command` brings, makes or explains it; empty if none
    does."""

    kind: str
    name: str
    about: str
    command: str
    page: str | None = None


@dataclass(frozen=True)
class Lineage:
    """Everything that hangs together with `reference`, in the order in which it was made."""

    reference: str
    chain: list[Link]

    def as_dict(self) -> dict[str, Any]:
        """The fields that `--json` prints."""
        return asdict(self)


def trace_lineage(workspace: Workspace, reference: str) -> Lineage:
    """`reference`: NAME, NAME@VERSION, a run, `champion` and other aliases, NAME/VERSION, or a picture's file.

    Raises:
        GanpipeError: there is no such thing, or a picture that no run here has made.
    """
    servers = running_servers(workspace)
    runs = _runs_of(workspace, reference)
    versions = dict.fromkeys((run.dataset, run.version) for run in runs)
    if not runs and (pair := _split(workspace, reference)):
        versions[pair] = None
    chain = [
        Link("dataset", f"{name}@{version[:12]}", "", f"ganpipe data checkout {name}@{version}")
        for name, version in versions
    ]
    chain += [_link_of_run(run, servers) for run in runs]
    for run in runs:
        if run.model_version:
            name, _, number = run.model_version.partition(" v")
            about = "champion" if run.champion else run.gate.outcome if run.gate else ""
            command = f"ganpipe generate --model {name}/{number} --out DIR"
            chain.append(Link("model", f"{name}/{number}", about, command))
        chain += [
            Link("picture", path, f"of {run.run_id}", _explain(path)) for path in _pictures(workspace, run)
        ]
    return Lineage(reference, chain)


def _runs_of(workspace: Workspace, reference: str) -> list[RunRecord]:
    """The runs that a reference means; of a dataset version, those that were trained on it."""
    path = Path(reference).expanduser()
    if path.is_file():
        origin = read_origin(path)
        run = origin.get("run")
        if run is None:
            raise GanpipeError(
                f"No run has made {reference}; what it depends on: ganpipe trace {shlex.quote(reference)}"
            )
        return [find_record(workspace, str(run))]
    if pair := _split(workspace, reference):
        name, version = pair
        return [r for r in all_records(workspace) if r.dataset == name and r.version.startswith(version)]
    if reference in ALIASES or "/" in reference or "@" in reference:
        from ganpipe.stores.model_registry import ModelRegistry  # MLflow, which no page of a run needs

        model = ModelRegistry(workspace, reading=True).find_model(reference, None)
        return [find_record(workspace, str(model.run_id))]
    record = find_record(workspace, reference)
    others = [r for r in all_records(workspace) if r.parent == record.run_id or r.run_id == record.parent]
    return sorted([record, *others], key=lambda r: r.run_id != record.parent)


def _split(workspace: Workspace, reference: str) -> tuple[str, str] | None:
    """The dataset and the beginning of a version that a reference names; None if it names something else."""
    name, _at, version = reference.partition("@")
    return (name, version) if name in dataset_names(workspace) and version not in ALIASES else None


def _link_of_run(run: RunRecord, servers: Addresses | None) -> Link:
    verdict = f", {run.evaluation.verdict}" if run.evaluation else ""
    parent = f", continues {run.continues}" if run.continues else ""
    parent += f", starts from {run.starts_from.reference}" if run.starts_from else ""
    page = None
    if servers and run.mlflow_run_id:
        page = servers.mlflow_run_page(run.mlflow_run_id, run.mlflow_experiment_id)
    command = f"ganpipe reproduce {run.run_id}" if run.state == "finished" else ""
    return Link("run", run.run_id, f"{run.state}{verdict}{parent}", command, page)


def _pictures(workspace: Workspace, run: RunRecord) -> list[str]:
    own = [run_folder(workspace, run.run_id) / name for name in RUN_PICTURES]
    paths = [str(path) for path in own if path.exists()] + pictures_of_run(workspace, run.run_id)
    return list(dict.fromkeys(path for path in paths if Path(path).exists()))


def _explain(path: str) -> str:
    return (
        "" if path.endswith(".mp4") else f"ganpipe trace {shlex.quote(path)}"
    )  # a film carries no readable origin
