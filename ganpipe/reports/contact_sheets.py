"""Contact sheets: contents down, styles across, each result where they meet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ganpipe.errors import GanpipeError
from ganpipe.files import sha256_of_json
from ganpipe.imaging.image import RejectedImage
from ganpipe.imaging.provenance import read_origin, save_png
from ganpipe.reports.thumbnails import read_small

KIND = "contact sheet"
CELL_PX, GAP_PX = 224, 6
ROWS, COLUMNS = 12, 8  # of results, on one sheet

Result = tuple[str, str, str]  # content, style, output


def contact_sheets(results: Sequence[Result], out: Path, anew: bool) -> list[Path]:
    """Sheets of all results: `contact-sheet.png`, `contact-sheet-2.png`, …; drawn only where missing unless `anew`.

    A sheet of another batch, with images that are not among the results, keeps its file: part of a hash is added to the
    names of the new ones.
    """
    contents = list(dict.fromkeys(content for content, _, _ in results))
    styles = list(dict.fromkeys(style for _, style, _ in results))
    pages = [
        (contents[row : row + ROWS], styles[column : column + COLUMNS])
        for row in range(0, len(contents), ROWS)
        for column in range(0, len(styles), COLUMNS)
    ]
    paths = _sheet_paths(results, out, len(pages))
    for path, (rows, columns) in zip(paths, pages, strict=True):
        if anew or not path.exists():
            shown = [Path(o).name for content, style, o in results if content in rows and style in columns]
            save_png(_sheet(results, rows, columns), path, {"kind": KIND, "shown": shown})
    return paths


def _sheet_paths(results: Sequence[Result], out: Path, count: int) -> list[Path]:
    names = {Path(output).name for _, _, output in results}
    for stem in ("contact-sheet", f"contact-sheet_{sha256_of_json(sorted(names))[:8]}"):
        paths = [out / f"{stem}{f'-{k}' if k > 1 else ''}.png" for k in range(1, count + 1)]
        if all(_may_replace(path, names) for path in paths):
            break
    return paths


def _may_replace(path: Path, names: set[str]) -> bool:
    """Whether a file is not there, or is a contact sheet of some of these images."""
    if not os.path.lexists(path):
        return True
    try:
        origin = read_origin(path)
    except GanpipeError:
        return False
    return origin.get("kind") == KIND and names.issuperset(origin.get("shown", ()))


def _sheet(results: Sequence[Result], rows: list[str], columns: list[str]) -> Image.Image:
    step = CELL_PX + GAP_PX
    sheet = Image.new("RGB", ((len(columns) + 1) * step + GAP_PX, (len(rows) + 1) * step + GAP_PX), "white")

    def place(source: str, column: int, row: int) -> None:
        picture = _thumbnail(source)
        x = GAP_PX + column * step + (CELL_PX - picture.width) // 2
        sheet.paste(picture, (x, GAP_PX + row * step + (CELL_PX - picture.height) // 2))

    for column, style in enumerate(columns, start=1):
        parts = style.split(" + ")
        place(parts[0], column, 0) if len(parts) == 1 else sheet.paste(
            _halves(parts), (GAP_PX + column * step, GAP_PX)
        )
    for row, content in enumerate(rows, start=1):
        place(content, 0, row)
    for content, style, output in results:
        if content in rows and style in columns:
            place(output, columns.index(style) + 1, rows.index(content) + 1)
    return sheet


def _thumbnail(source: str) -> Image.Image:
    """An image that fits a cell; an empty one if the file is gone by now."""
    try:
        return read_small(Path(source), CELL_PX)
    except RejectedImage:
        return Image.new("RGB", (CELL_PX, CELL_PX), (224, 224, 224))


def _halves(sources: list[str]) -> Image.Image:
    """Strips of several styles that are mixed."""
    cell, width = Image.new("RGB", (CELL_PX, CELL_PX), "white"), CELL_PX // len(sources)
    for k, source in enumerate(sources):
        cell.paste(_thumbnail(source).resize((CELL_PX, CELL_PX)).crop((0, 0, width, CELL_PX)), (k * width, 0))
    return cell
