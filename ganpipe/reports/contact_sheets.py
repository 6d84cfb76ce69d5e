"""Contact sheets: contents down, styles and their variants across, each result where they meet."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from ganpipe.errors import GanpipeError
from ganpipe.files import escape_control, sha256_of_json
from ganpipe.imaging.image import RejectedImage
from ganpipe.imaging.provenance import read_origin, save_png
from ganpipe.reports.fonts import font
from ganpipe.reports.thumbnails import read_small
from ganpipe.style.batch.plan import MIXED, StyledItem

KIND = "contact sheet"
CELL_PX, GAP_PX, BAR_PX, TITLE_PX = 224, 6, 22, 13
NARROWEST, WIDEST = 0.5, 2.5  # shapes of a cell: width per height
ROWS, COLUMNS = 12, 8  # of results, on one sheet


@dataclass(frozen=True)
class _Column:
    """The styles and the variant of the results in a column."""

    styles: tuple[str, ...]
    variant: str

    @classmethod
    def of(cls, item: StyledItem) -> _Column:
        return cls(item.styles, item.variant)

    def title(self, with_style: bool) -> str:
        """Its style and its variant."""
        style = MIXED.join(Path(style).stem for style in self.styles)
        return ", ".join(part for part in (style if with_style else "", self.variant) if part)


def contact_sheets(results: Sequence[StyledItem], out: Path, anew: bool) -> list[Path]:
    """Sheets of all results: `contact-sheet.png`, `contact-sheet-2.png`, …; drawn only where missing unless `anew`.

    A sheet of another batch, with images that are not among the results, keeps its file: part of a hash is added to the
    names of the new ones.
    """
    contents = list(dict.fromkeys(item.content for item in results))
    styles = list(dict.fromkeys(item.styles for item in results))
    columns = sorted(dict.fromkeys(map(_Column.of, results)), key=lambda column: styles.index(column.styles))
    pages = [
        (contents[row : row + ROWS], columns[column : column + COLUMNS])
        for row in range(0, len(contents), ROWS)
        for column in range(0, len(columns), COLUMNS)
    ]
    paths = _sheet_paths(results, out, len(pages))
    for path, (rows, columns) in zip(paths, pages, strict=True):
        if anew or not path.exists():
            shown = [item for item in results if item.content in rows and _Column.of(item) in columns]
            names = [Path(item.output).name for item in shown]
            down = shown_contents(contents, rows)
            save_png(_sheet(shown, rows, columns, down), path, {"kind": KIND, "shown": names})
    return paths


def shown_contents(contents: list[str], rows: list[str]) -> str:
    """Which of the contents a sheet shows, for its corner."""
    if len(rows) == len(contents):
        return _counted(len(rows), "content")
    first = contents.index(rows[0]) + 1
    numbers = f"{first}" if len(rows) == 1 else f"{first} to {first + len(rows) - 1}"
    return f"content{'s' * (len(rows) > 1)} {numbers} of {len(contents)}"


def _sheet_paths(results: Sequence[StyledItem], out: Path, count: int) -> list[Path]:
    names = {Path(item.output).name for item in results}
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


def _sheet(results: Sequence[StyledItem], rows: list[str], columns: list[_Column], down: str) -> Image.Image:
    """Every picture fills its cell. All cells are equally wide; those of a row have the shape of its content.

    `down`: what stands down the left side, in words.
    """
    contents = [_read(source) for source in rows]
    heights = [_cell_height(image) for image in contents]
    top = statistics.median_low(heights)
    lefts = [GAP_PX + k * (CELL_PX + GAP_PX) for k in range(len(columns) + 1)]
    tops = list(accumulate(heights, lambda y, height: y + height + GAP_PX, initial=top + 2 * GAP_PX))
    sheet = Image.new("RGB", (lefts[-1] + CELL_PX + GAP_PX, tops[-1]), "white")
    swept = any(column.variant for column in columns)
    styles = len({column.styles for column in columns})
    with_style = not swept or styles > 1
    across = [_counted(styles, "style")] * with_style + [_counted(len(columns) // styles, "variant")] * swept
    sheet.paste(_corner(down, " × ".join(across), top), (GAP_PX, GAP_PX))
    for left, column in zip(lefts[1:], columns, strict=True):
        strips = _strips([_read(source) for source in column.styles], top)
        sheet.paste(_titled(strips, column.title(with_style)), (left, GAP_PX))
    for y, height, content, image in zip(tops, heights, rows, contents, strict=False):
        sheet.paste(_titled(_fill(image, CELL_PX, height), Path(content).stem), (GAP_PX, y))
    for item in results:
        row, left = rows.index(item.content), lefts[columns.index(_Column.of(item)) + 1]
        sheet.paste(_fill(_read(item.output), CELL_PX, heights[row]), (left, tops[row]))
    return sheet


def _read(source: str) -> Image.Image:
    """An image that is large enough for every cell, the first frame of a video; an empty one if the file is gone by now."""
    try:
        return read_small(Path(source), round(CELL_PX / NARROWEST))
    except RejectedImage:
        return Image.new("RGB", (CELL_PX, CELL_PX), (224, 224, 224))


def _cell_height(image: Image.Image) -> int:
    """The height of a cell with the image's shape; very long ones are cropped."""
    return round(CELL_PX / min(max(image.width / image.height, NARROWEST), WIDEST))


def _fill(image: Image.Image, width: int, height: int) -> Image.Image:
    """The image scaled to fill the cell; what is too long is cut off on both sides."""
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


def _strips(images: list[Image.Image], height: int) -> Image.Image:
    """A cell with an upright strip of each of several styles that are mixed."""
    cell = Image.new("RGB", (CELL_PX, height), "white")
    edges = [CELL_PX * k // len(images) for k in range(len(images) + 1)]
    for image, (left, right) in zip(images, pairwise(edges), strict=True):
        cell.paste(_fill(image, right - left, height), (left, 0))
    return cell


def _titled(cell: Image.Image, name: str) -> Image.Image:
    """The cell with a name on a bar along its lower edge."""
    letters, text = font(TITLE_PX), escape_control(name)
    while letters.getlength(text) > CELL_PX - 2 * GAP_PX:
        middle = len(text) // 2
        text = f"{text[: middle - 1]}…{text[middle + 1 :]}"
    bar = cell.crop((0, cell.height - BAR_PX, CELL_PX, cell.height)).point(lambda value: value // 3)
    ImageDraw.Draw(bar).text((CELL_PX / 2, BAR_PX / 2), text, "white", letters, anchor="mm")
    cell.paste(bar, (0, cell.height - BAR_PX))
    return cell


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number > 1)}"


def _corner(down: str, across: str, height: int) -> Image.Image:
    """The cell that says what stands along the edges."""
    cell, letters = Image.new("RGB", (CELL_PX, height), (236, 236, 236)), font(TITLE_PX)
    draw, edge = ImageDraw.Draw(cell), 2 * GAP_PX
    draw.text((CELL_PX - edge, height / 2 - TITLE_PX), f"{across} →", "black", letters, anchor="rm")
    draw.text((CELL_PX - edge, height / 2 + TITLE_PX), f"{down} ↓", "black", letters, anchor="rm")
    return cell
