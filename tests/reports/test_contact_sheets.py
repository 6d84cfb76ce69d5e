"""Contact sheets: drawn again for a batch that has grown, never over somebody else's file."""

from __future__ import annotations

from pathlib import Path

from ganpipe.reports.contact_sheets import Result, contact_sheets
from tests.conftest import fill_folder, noise_image


def results(folder: Path, *outputs: str) -> list[Result]:
    """Results of one content and style, whose outputs are called so."""
    content, style = (str(path) for path in sorted(fill_folder(folder / "in", 2).iterdir()))
    for name in outputs:
        noise_image(3).save(folder / name)
    return [(content, style, str(folder / name)) for name in outputs]


def test_a_sheet_follows_its_batch_and_another_batch_gets_another_sheet(tmp_path: Path) -> None:
    [first] = contact_sheets(results(tmp_path, "a.png"), tmp_path, anew=True)
    [grown] = contact_sheets(results(tmp_path, "a.png", "b.png"), tmp_path, anew=True)
    [other] = contact_sheets(results(tmp_path, "c.png"), tmp_path, anew=True)
    assert first == grown == tmp_path / "contact-sheet.png"
    assert other.name.startswith("contact-sheet_")
    assert contact_sheets(results(tmp_path, "c.png"), tmp_path, anew=False) == [other]


def test_a_strangers_sheet_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "contact-sheet.png"
    mine.write_bytes(b"mine")
    contact_sheets(results(tmp_path, "a.png"), tmp_path, anew=True)
    assert mine.read_bytes() == b"mine"
