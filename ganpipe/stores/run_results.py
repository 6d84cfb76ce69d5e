"""The result of a whole run, remembered under its fingerprint, so that it is not done again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ganpipe.errors import GanpipeError
from ganpipe.evaluation.conditions import Conditions
from ganpipe.evaluation.gate_result import GateResult
from ganpipe.evaluation.verdict import Metric
from ganpipe.files import plain, read_dataclass, sha256_of, write_json
from ganpipe.stores.recorded_paths import path_for_record, path_from_record
from ganpipe.stores.workspace import Workspace
from ganpipe.training.summary import TrainSummary

log = logging.getLogger(__name__)


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
    report_card: str | None  # a picture; the page report.html lies beside it
    film: str | None  # of the training grids
    gate: GateResult | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    advice: str = ""  # what to do next
    conditions: Conditions | None = None  # of the metrics

    def sentence(self) -> str:
        """Sums up the run, e.g. "ganpipe-cats v7: good; promoted (energy distance: z 4.1); 2 images not stylized."."""
        parts = [f"{self.model_version or 'No model'}: {self.verdict}"]
        if self.gate:
            compared = self.gate.comparison
            parts += [self.gate.word + (f" (energy distance: z {compared.energy.z:.1f})" if compared else "")]
        if self.style_failures:
            parts.append(f"{len(self.style_failures)} images not stylized")
        return "; ".join(parts) + "."

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
    """Remembers a run under its fingerprint, with the hash of every image that it names.

    The report card has none: `ganpipe evaluate` draws it anew.
    """
    recorded = _with_paths(result, lambda path: path_for_record(workspace, path))
    named = [recorded.grid, recorded.film, *recorded.stylized]
    images = [path for path in named if path]
    hashes = {path: sha256_of(workspace.root / path) for path in images}
    write_json(_path(workspace, result.fingerprint), _Saved(recorded, hashes))


def finished_result(workspace: Workspace, fingerprint: str) -> RunResult | None:
    """The result of the finished run with this fingerprint, if every image of it still exists, unchanged."""
    path = _path(workspace, fingerprint)
    if not path.exists():
        return None
    try:
        saved = read_dataclass(path, _Saved)
    except GanpipeError as error:
        log.warning(f"{error} It is ignored: what the run has not finished is done again.")
        return None
    if not all(_is_intact(workspace.root / path, sha256) for path, sha256 in saved.sha256.items()):
        return None
    result = _with_paths(saved.result, lambda path: path_from_record(workspace, path))
    return result if result.report_card is None or Path(result.report_card).exists() else None


def pictures_of_run(workspace: Workspace, run_id: str) -> list[str]:
    """The images that the results of a run name."""
    results = results_of_run(workspace, run_id)
    return [path_from_record(workspace, picture) for result in results for picture in result.stylized]


def results_of_run(workspace: Workspace, run_id: str) -> list[RunResult]:
    """The results of a run, which may have been asked for with several settings of style, the latest last; paths as recorded."""
    found: list[RunResult] = []
    for path in sorted((workspace.state / "results").glob("*.json"), key=lambda p: p.stat().st_mtime):
        with suppress(GanpipeError):
            result = read_dataclass(path, _Saved).result
            found += [result] if result.run == run_id else []
    return found


def _is_intact(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _with_paths(result: RunResult, convert: Callable[[str], str]) -> RunResult:
    """The result with each of its paths converted."""
    return replace(
        result,
        stylized=[convert(path) for path in result.stylized],
        grid=result.grid and convert(result.grid),
        gate=result.gate and result.gate.with_path(convert),
        contact_sheet=result.contact_sheet and convert(result.contact_sheet),
        report_card=result.report_card and convert(result.report_card),
        film=result.film and convert(result.film),
    )


def _path(workspace: Workspace, fingerprint: str) -> Path:
    return workspace.state / "results" / f"{fingerprint}.json"
