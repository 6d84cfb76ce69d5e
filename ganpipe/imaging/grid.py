"""Grids and sheets of images."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from ganpipe.imaging.decode import over_white
from ganpipe.imaging.image import Pixels

BACKGROUND = (24, 24, 28)  # of a sheet


def to_pil(pixels: Pixels) -> Image.Image:
    """Converts uint8 `[H, W, C]` to a Pillow image, gray if C is 1."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def grid(pixels: Pixels, columns: int | None = None, gap_px: int = 2, enlarge_to_px: int = 64) -> Image.Image:
    """Arranges uint8 images `[N, H, W, C]` in rows; enlarges small ones by a whole factor."""
    n, height, width = pixels.shape[:3]
    columns = columns or math.ceil(math.sqrt(n))
    times = max(1, enlarge_to_px // max(height, width))
    rows = math.ceil(n / columns)
    cell_h, cell_w = height * times + gap_px, width * times + gap_px
    sheet = Image.new("RGB", (columns * cell_w + gap_px, rows * cell_h + gap_px), BACKGROUND)
    for k in range(n):
        tile = over_white(to_pil(pixels[k])).resize((width * times, height * times), Image.Resampling.NEAREST)
        sheet.paste(tile, (gap_px + k % columns * cell_w, gap_px + k // columns * cell_h))
    return sheet


def row_of_sheets(sheets: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    """Puts sheets next to each other, each below its title."""
    top, gap = 22, 12
    width = sum(image.width + gap for image in sheets) - gap
    row = Image.new("RGB", (width, top + max(image.height for image in sheets)), BACKGROUND)
    draw, font, x = ImageDraw.Draw(row), ImageFont.load_default(14), 0
    for image, title in zip(sheets, titles, strict=True):
        draw.text((x + 4, top // 2), title, (235, 235, 235), font, anchor="lm")
        row.paste(image, (x, top))
        x += image.width + gap
    return row


def rows_of_sheets(sheets: Sequence[Image.Image], titles: Sequence[str], columns: int = 4) -> Image.Image:
    """Arranges sheets in rows of `columns`, each below its title."""
    starts = range(0, len(sheets), columns)
    rows = [row_of_sheets(sheets[k : k + columns], titles[k : k + columns]) for k in starts]
    picture = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), BACKGROUND)
    top = 0
    for row in rows:
        picture.paste(row, (0, top))
        top += row.height
    return picture
