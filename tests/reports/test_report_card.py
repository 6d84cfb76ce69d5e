"""The report card: what a page says of a run, escaped, complete, and on paper of any length."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganpipe.evaluation.gate_result import Change, Comparison, GateResult
from ganpipe.evaluation.verdict import Evaluation, Metric, Suspect
from ganpipe.files import append_json_lines
from ganpipe.reports.card_page import write_page
from ganpipe.reports.card_picture import MARGIN_PX, WIDTH_PX, draw_card
from ganpipe.reports.charts import curves_chart
from ganpipe.reports.neighbors import TILE_PX, save_suspects
from ganpipe.reports.report_card import Additions, ReportCard, make_card
from ganpipe.settings.schema import Settings
from ganpipe.stores.dataset_versions import DatasetVersion
from ganpipe.stores.run_files import SUSPECTS_SHEET
from ganpipe.stores.run_records import RunRecord, new_record
from ganpipe.training.callbacks import Point
from ganpipe.training.points import POINTS
from ganpipe.training.summary import TrainSummary
from tests.conftest import noise_data, noise_image

VERSION = DatasetVersion("pets", "0" * 32 + ".dir", 90, 80, 10, 0, "")
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def record(settings: Settings, tmp_path: Path) -> RunRecord:
    """An evaluated run whose folder, `tmp_path`, has a grid and a curve."""
    noise_image(1, (300, 160)).save(tmp_path / "samples.png")
    points = [Point(k * 100, {"loss_g": 1.0 / k, "loss_d": 0.5, "d_gap": float(k)}) for k in range(1, 6)]
    append_json_lines(tmp_path / POINTS, points)
    metrics = {
        "precision": Metric(0.512, "vgg19", 24, 0.97, error=0.021),
        "modes_missing": Metric(2, "classifier", 24, 0.0, f"rose, {EVIL}"),
        "alone": Metric(3.25, "vgg19", 24),
    }
    evaluation = Evaluation(
        metrics, "fair", ["Precision is low."], "Train longer.", str(tmp_path / "samples.png")
    )
    fresh = new_record("pets", VERSION.version, settings, ("cpu", "fp32"))
    return replace(fresh, evaluation=evaluation, train=TrainSummary(64, 9.0, "cpu", "fp32", "0" * 64))


def card_of(record: RunRecord, folder: Path) -> ReportCard:
    return make_card(record, VERSION, folder, Additions({"train": 61.2}))


def titles(card: ReportCard) -> list[str]:
    return [picture.title for picture in card.pictures]


def test_a_metric_stands_beside_that_of_real_images_with_its_error_or_not_at_all(
    record: RunRecord, tmp_path: Path
) -> None:
    card = card_of(record, tmp_path)
    assert [(row.name, row.generated, row.real) for row in card.metrics] == [
        ("precision", "0.512 ± 0.021", "0.97"),
        ("modes missing", "2", "0"),
    ]


def test_the_page_says_everything_in_one_file_without_scripts_or_addresses(
    record: RunRecord, tmp_path: Path
) -> None:
    page = write_page(card_of(record, tmp_path), tmp_path / "report.html").read_text()
    for text in ("fair", "Precision is low.", "Train longer.", "0.512 ± 0.021", "dcgan", "train 61 s"):
        assert text in page
    assert VERSION.version in page
    assert "90 images" in page
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) == 2
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_gate_and_its_picture_are_shown_if_there_is_a_gate(record: RunRecord, tmp_path: Path) -> None:
    assert card_of(record, tmp_path).gate == []
    noise_image(2, (300, 100)).save(tmp_path / "gate.png")
    change = Change.of(0.02, 0.004)
    compared = Comparison(24, 10, change, 0.0, 0.0, 0.1, 0.2, 1.0, change, change)
    path = str(tmp_path / "gate.png")
    gate = GateResult(
        "promoted", "It is better.", compared, champion="m v1", challenger="m v2", waiting=True, picture=path
    )
    card = card_of(replace(record, gate=gate), tmp_path)
    assert card.gate[0] == "Promoted. It is better."
    assert f"ganpipe promote {record.run_id}" in card.gate[1]
    assert "m v2 instead of m v1: energy distance gained +0.02 ± 0.004 (z 5.0)" in card.gate[2]
    assert titles(card) == ["Generated and real", "Training", "Champion and challenger"]


def test_pictures_that_are_not_there_are_left_out(record: RunRecord, tmp_path: Path) -> None:
    assert titles(card_of(record, tmp_path)) == ["Generated and real", "Training"]
    (tmp_path / "samples.png").unlink()
    (tmp_path / POINTS).unlink()
    assert titles(card_of(record, tmp_path)) == []


def ink_right_of_the_margin(picture: Image.Image) -> int:
    """Dark pixels in the right margin: what is clipped would stand there."""
    return int((np.asarray(picture.convert("L"))[:, WIDTH_PX - MARGIN_PX // 2 :] < 200).sum())


def test_the_picture_grows_with_its_text_and_breaks_names_without_spaces(
    record: RunRecord, tmp_path: Path
) -> None:
    short = card_of(record, tmp_path)
    long = replace(short, dataset="x" * 300, evidence=["y" * 500, *["many words " * 60] * 40])
    small, large = draw_card(short), draw_card(long)
    assert large.height > small.height + 40 * 100
    assert large.width == small.width == WIDTH_PX
    assert ink_right_of_the_margin(large) == 0
    bottom = np.asarray(large.convert("L"))[-MARGIN_PX // 2 :]
    assert (bottom > 200).all(), "the last line is whole"


def test_suspects_stand_left_of_their_nearest_training_images(tmp_path: Path) -> None:
    data = noise_data()
    suspects = [Suspect(2, 5, 0.5, 0.25), Suspect(1, 7, 1.5, 1.25)]
    path = save_suspects(suspects, data.holdout.pixels, data, tmp_path / SUSPECTS_SHEET, {})
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    times = TILE_PX // 16
    generated = pixels[12 : 12 + TILE_PX : times, 12 : 12 + TILE_PX : times]
    nearest = pixels[12 : 12 + TILE_PX : times, 14 + TILE_PX : 14 + 2 * TILE_PX : times]
    assert (generated == data.holdout.pixels[2].numpy()).all()
    assert (nearest == data.train.pixels[5].numpy()).all()


def test_a_chart_shows_the_signals_that_were_logged_and_none_has_no_chart() -> None:
    few = curves_chart([Point(k, {"loss_g": float(k)}) for k in range(3)])
    many = curves_chart(
        [Point(k, dict.fromkeys(("loss_g", "d_gap", "d_sign", "spread"), 1.0)) for k in range(3)]
    )
    assert few is not None
    assert many is not None
    assert many.height > few.height, "a second row of panels"
    assert curves_chart([]) is None
    assert curves_chart([Point(1, {"other": 1.0})]) is None
