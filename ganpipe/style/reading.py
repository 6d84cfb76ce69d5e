"""Reads contents and styles at their full precision, but no larger than a result needs."""

from __future__ import annotations

from pathlib import Path

from ganpipe.imaging.float_image import FloatImage, read_float_image
from ganpipe.settings.schema import StyleSettings
from ganpipe.style.metrics import LARGEST_PX
from ganpipe.style.optimize import SMALLEST_PX
from ganpipe.style.params import StyleParams

# A picture over LARGE_PIXELS is read at no less than so many times the size at which it is used: resizing from there
# differs by less than a level of 8 bits from resizing the whole picture.
KEPT = 4


def read_content(path: Path, settings: StyleSettings, params: StyleParams) -> FloatImage:
    """A content, for results of `params.long_edge_px`."""
    return _read(path, settings, params.long_edge_px)


def read_style(path: Path, settings: StyleSettings, params: StyleParams) -> FloatImage:
    """A style, for its statistics and for the measured distance."""
    largest = params.long_edge_px * params.style_scale * max(params.style_scales)
    return _read(path, settings, max(SMALLEST_PX, LARGEST_PX, round(largest)))


def _read(path: Path, settings: StyleSettings, edge_px: int) -> FloatImage:
    return read_float_image(path, settings.max_megapixels * 1_000_000, KEPT * edge_px)
