"""The report card of a run: verdict, pictures, curves, metrics and settings, as card_page and card_picture show them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ganpipe.evaluation.gate_result import GateResult
from ganpipe.evaluation.verdict import Evaluation, Metric
from ganpipe.reports.charts import curves_chart
from ganpipe.settings.schema import Settings
from ganpipe.stores.dataset_versions import DatasetVersion
from ganpipe.stores.run_files import SUSPECTS_SHEET
from ganpipe.stores.run_records import RunRecord
from ganpipe.training.points import POINTS, read_points

UNIT_LETTERS = 10
VERDICT_COLORS = {
    "good": "#1f7a4d",
    "fair": "#2f6bb0",
    "poor": "#b86a00",
    "collapsed": "#b3261e",
    "memorized": "#b3261e",
}  # else gray


@dataclass(frozen=True)
class Additions:
    """Parts only a whole run has: seconds by stage, a contact sheet of stylized images, and their mean qualities."""

    seconds: dict[str, float] = field(default_factory=dict)
    contact_sheet: Path | None = None
    style_quality: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CardPicture:
    """A picture with its heading and a sentence. `small_text`: a phone shows it wider than its screen."""

    title: str
    about: str
    image: Image.Image
    small_text: bool


@dataclass(frozen=True)
class MetricRow:
    """A metric of generated images beside that of as many real ones."""

    name: str
    generated: str
    real: str
    note: str


@dataclass(frozen=True)
class ReportCard:
    """The contents of the page, in its order. `settings`: name and value, one line each."""

    dataset: str
    verdict: str
    evidence: list[str]
    advice: str
    gate: list[str]
    pictures: list[CardPicture]
    metrics_about: str
    metrics: list[MetricRow]
    settings: list[tuple[str, str]]
    seconds: str
    origin: str


def make_card(record: RunRecord, version: DatasetVersion, folder: Path, additions: Additions) -> ReportCard:
    """The report card of an evaluated run, from its record and its folder; pictures that are not there are left out."""
    evaluation = record.evaluation or Evaluation()
    train = record.train
    validation = [train.validation.sentence()] if train and train.validation else []
    notes = [*validation, *train.notes] if train else []
    return ReportCard(
        dataset=record.dataset,
        verdict=evaluation.verdict,
        evidence=[*evaluation.evidence, *notes],
        advice=evaluation.advice,
        gate=_gate_sentences(record),
        pictures=_pictures(record, version, folder, additions),
        metrics_about=_metrics_about(evaluation.metrics),
        metrics=_metric_rows(evaluation.metrics),
        settings=_settings_lines(record),
        seconds=", ".join(f"{stage} {value:,.0f} s" for stage, value in additions.seconds.items()),
        origin=_origin(record, version),
    )


def _gate_sentences(record: RunRecord) -> list[str]:
    gate = record.gate
    if gate is None:
        return []
    waits = (
        f"It waits for: ganpipe promote {record.run_id}, or ganpipe refuse {record.run_id}."
        if gate.waiting
        else ""
    )
    return [text for text in (f"{gate.outcome.capitalize()}. {gate.reason}", waits, _changes(gate)) if text]


def _changes(gate: GateResult) -> str:
    """How the challenger differs from the champion, with standard errors."""
    if (c := gate.comparison) is None:
        return ""
    told = "; ".join(f"{name} {change} (z {change.z:.1f})" for name, change in c.changes.items())
    return f"{gate.challenger} instead of {gate.champion}: {told}."


def _pictures(
    record: RunRecord, version: DatasetVersion, folder: Path, additions: Additions
) -> list[CardPicture]:
    evaluation = record.evaluation or Evaluation()
    nearest = (
        f"The {len(evaluation.suspects)} generated images that are likeliest copies, each left of the nearest of all "
        f"{version.train:,} training images. Distances are relative to the one below which 5% of the held-out images lie: "
        "1 × and more is as for real images."
    )
    grid = "Images of fixed latents beside held-out images, which no training has seen."
    quality = additions.style_quality.items()
    means = ", ".join(f"mean {name.replace('_', ' ')} {value:.3g}" for name, value in quality)
    compared = record.gate.picture if record.gate else None
    samples = evaluation.grid
    gate = "Champion and challenger from the same latents, beside the same held-out images."
    wanted = [
        ("Generated and real", grid, _read_picture(Path(samples) if samples else None), False),
        ("Nearest training images", nearest, _read_picture(folder / SUSPECTS_SHEET), True),
        ("Training", "", curves_chart(read_points(folder / POINTS)), True),
        ("Champion and challenger", gate, _read_picture(Path(compared) if compared else None), False),
        ("Stylized", means, _read_picture(additions.contact_sheet), False),
    ]
    return [CardPicture(title, about, image, small) for title, about, image, small in wanted if image]


def _read_picture(path: Path | None) -> Image.Image | None:
    if path is None or not path.exists():
        return None
    with Image.open(path) as image:
        return image.convert("RGB")


def _metric_rows(metrics: dict[str, Metric]) -> list[MetricRow]:
    """The metrics that are finite and whose value for real images is known: without it a value means nothing."""
    return [
        _metric_row(name, m, m.floor)
        for name, m in metrics.items()
        if math.isfinite(m.value) and m.floor is not None and math.isfinite(m.floor)
    ]


def _metric_row(name: str, m: Metric, real: float) -> MetricRow:
    """A short note, such as a unit, stands beside the value."""
    short = len(m.note) <= UNIT_LETTERS
    return MetricRow(
        name.replace("_", " "), m.text if short else m.number, f"{real:.4g}", "" if short else m.note
    )


def _metrics_about(metrics: dict[str, Metric]) -> str:
    samples = max((m.samples for m in metrics.values()), default=0)
    return (
        f"{samples:,} generated images against held-out ones. The column real is the score of real images at the same "
        "sizes: a value means nothing without it. ± is a standard error."
    )


def _settings_lines(record: RunRecord) -> list[tuple[str, str]]:
    s: Settings = record.resolved()
    t, summary = s.training, record.train
    seen = summary.nimg if summary else t.total_images
    where = f", on {summary.device} in {summary.precision}" if summary else ""
    penalty = f"penalty {s.loss.penalty}, γ {s.loss.gamma:g}"
    augment = s.augment.mode if s.augment.mode == "none" else f"{s.augment.mode}: {s.augment.kinds}"
    return [
        ("data", f"{s.data.width_px}×{s.data.height_px} pixels, {s.data.holdout_fraction:.0%} held out"),
        ("model", f"{s.model.name}, {s.model.z_dim} latent dimensions, conditional: {s.model.conditional}"),
        ("loss", f"{s.loss.name}, {penalty}"),
        (
            "training",
            f"{seen:,} images in batches of {t.batch_images}, learning rates {t.g_lr:g} (G) and {t.d_lr:g} (D), "
            f"seed {t.seed}{where}",
        ),
        ("augmentation", augment),
    ]


def _origin(record: RunRecord, version: DatasetVersion) -> str:
    champion = " (champion)" if record.champion else ""
    parts = [
        f"dataset {record.dataset}, version {record.version}, {version.images:,} images",
        f"run {record.run_id}",
        f"model {record.model_version}{champion}" if record.model_version else "",
        f"MLflow run {record.mlflow_run_id}",
        f"ganpipe {record.origin()['ganpipe']}",
    ]
    return " · ".join(part for part in parts if part)
