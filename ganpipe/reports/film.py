"""The film of a training: its grids in order, each with the number of images seen."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from ganpipe.imaging.video import encode_video, with_even_sides
from ganpipe.reports.fonts import font
from ganpipe.stores.run_files import FILM

log = logging.getLogger(__name__)

MOST_FRAMES = 120
LONG_EDGE_PX = 720
CAPTION_PX = 32
SECONDS = 8  # about; a short training has few grids, which are shown longer
SLOWEST, FASTEST = 2, 12  # grids per second
STILL_FRAMES = 2  # seconds for which the last grid stays


def write_film(folder: Path, origin: dict[str, Any]) -> Path | None:
    """Writes `film.mp4` of the grids in a run folder; None if there are fewer than two grids that can be read.

    Of many grids, at most MOST_FRAMES are shown, the first and the last among them.
    """
    grids = sorted((folder / "grids").glob("*.png"))
    frames = [frame for path in _spread(grids, MOST_FRAMES) if (frame := _frame(path))]
    if len(frames) < 2:
        return None
    rate = min(FASTEST, max(SLOWEST, len(frames) // SECONDS))
    same = [frame.resize(frames[-1].size) for frame in frames]
    film = [*same, *[same[-1]] * (STILL_FRAMES * rate)]
    encode_video(film, folder / FILM, rate, origin | {"kind": "film of training grids"})
    return folder / FILM


def _spread(paths: Sequence[Path], most: int) -> list[Path]:
    """At most `most` of them, evenly spaced, with the first and the last."""
    if len(paths) <= most:
        return list(paths)
    return [paths[round(k * (len(paths) - 1) / (most - 1))] for k in range(most)]


def _frame(path: Path) -> Image.Image | None:
    """A grid above its number of images, which is its file's name; None if the file is damaged."""
    try:
        with Image.open(path) as image:
            grid = image.convert("RGB")
    except OSError as error:
        log.warning("%s is left out of the film: %s", path, error)
        return None
    grid.thumbnail((LONG_EDGE_PX, LONG_EDGE_PX), Image.Resampling.LANCZOS)
    frame = Image.new("RGB", (grid.width, grid.height + CAPTION_PX), (24, 24, 28))
    frame.paste(grid, (0, 0))
    draw, middle = ImageDraw.Draw(frame), grid.height + CAPTION_PX // 2
    text = f"{int(path.stem):,} images"
    draw.text((8, middle), text, (235, 235, 235), font(16), anchor="lm")
    return with_even_sides(frame)
