"""Contact sheets and charts: drawn again for a batch that has grown, never over somebody else's file."""

from __future__ import annotations

from pathlib import Path

from ganpipe.reports.charts import chart_path, quality_chart
from ganpipe.reports.contact_sheets import Result, contact_sheets
from ganpipe.style.batch.manifest import ManifestEntry
from tests.conftest import fill_folder, noise_image


def results(folder: Path, *outputs: str) -> list[Result]:
    """Results of one content and style, whose outputs are called so."""
    content, style = (str(path) for path in sorted(fill_folder(folder / "in", 2).iterdir()))
    for name in outputs:
        noise_image(3).save(folder / name)
    return [(content, style, str(folder / name)) for name in outputs]


def test_a_sheet_follows_its_batch_and_another_batch_gets_another_sheet(tmp_path: Path) -> None:
    [first] = contact_sheets(results(tmp_path, "a.png"), tmp_path, {}, anew=True)
    [grown] = contact_sheets(results(tmp_path, "a.png", "b.png"), tmp_path, {}, anew=True)
    [other] = contact_sheets(results(tmp_path, "c.png"), tmp_path, {}, anew=True)
    assert first == grown == tmp_path / "contact-sheet.png"
    assert other.name.startswith("contact-sheet_")
    assert contact_sheets(results(tmp_path, "c.png"), tmp_path, {}, anew=False) == [other]


def test_a_strangers_sheet_and_chart_are_left_alone(tmp_path: Path) -> None:
    mine = [tmp_path / "contact-sheet.png", tmp_path / "quality.png"]
    for path in mine:
        path.write_bytes(b"mine")
    contact_sheets(results(tmp_path, "a.png"), tmp_path, {}, anew=True)
    chart = quality_chart(
        [ManifestEntry("k", "a.png", "0", "draft", 1.0, {"structure": 0.5})], chart_path(tmp_path), {}
    )
    assert chart.name == "quality-chart.png"
    assert [path.read_bytes() for path in mine] == [b"mine"] * 2


def test_the_chart_of_a_folder_is_drawn_again(tmp_path: Path) -> None:
    entries = [ManifestEntry("k", "a.png", "0", "draft", 1.0, {"structure": 0.5})]
    assert (
        quality_chart(entries, chart_path(tmp_path), {}) == chart_path(tmp_path) == tmp_path / "quality.png"
    )
