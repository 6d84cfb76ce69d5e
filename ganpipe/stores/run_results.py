"""The result of a whole run, remembered under its fingerprint, so that it is not done again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ganpipe.evaluation.verdict import Metric
from ganpipe.files import plain, read_dataclass, sha256_of, write_json
from ganpipe.stores.workspace import Workspace
from ganpipe.training.summary import TrainSummary


@dataclass(frozen=True)
class RunResult:
    """The object that `ganpipe run --json` prints. Paths are strings; `seconds` are by stage."""

    state: str  # finished or up_to_date
    fingerprint: str
    dataset: dict[str, Any]  # name, version, images
    run: str
    flow_run_id: str | None
    mlflow_run_id: str | None
    model_version: str | None
    champion: bool
    train: TrainSummary | None
    metrics: dict[str, Metric]
    verdict: str
    evidence: list[str]
    notes: list[str]
    grid: str | None
    stylized: list[str]
    style_failures: list[str]
    contact_sheet: str | None
    style_quality: dict[str, float]
    quality_chart: str | None
    seconds: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        values: dict[str, Any] = plain(self)
        return values


@dataclass(frozen=True)
class _Saved:
    """A result, and the SHA-256 of each image that it names."""

    result: RunResult
    sha256: dict[str, str]


def save_result(workspace: Workspace, result: RunResult) -> None:
    """Remembers a run under its fingerprint, with the hash of every image that it names."""
    images = [path for path in [result.grid, *result.stylized] if path]
    hashes = {path: sha256_of(Path(path)) for path in images}
    write_json(_path(workspace, result.fingerprint), _Saved(result, hashes))


def finished_result(workspace: Workspace, fingerprint: str) -> RunResult | None:
    """The result of the finished run with this fingerprint, if every image of it still exists, unchanged."""
    path = _path(workspace, fingerprint)
    if not path.exists():
        return None
    saved = read_dataclass(path, _Saved)
    intact = all(Path(p).exists() and sha256_of(Path(p)) == sha for p, sha in saved.sha256.items())
    return saved.result if intact else None


def _path(workspace: Workspace, fingerprint: str) -> Path:
    return workspace.state / "results" / f"{fingerprint}.json"
