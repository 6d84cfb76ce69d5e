"""The report card as one HTML file that holds its pictures and no scripts."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from jinja2 import Environment
from PIL import Image

from ganpipe.files import write_text
from ganpipe.reports.embedded import data_uri
from ganpipe.reports.report_card import VERDICT_COLORS, ReportCard

LONG_EDGE_PX = 1400  # of a picture


def write_page(card: ReportCard, path: Path) -> Path:
    """Writes the page; all text is escaped."""
    template = Environment(autoescape=True).from_string(
        resources.files("ganpipe").joinpath("templates/report.html").read_text()
    )
    pictures = [(picture, _embedded(picture.image)) for picture in card.pictures]
    write_text(path, template.render(card=card, pictures=pictures, color=VERDICT_COLORS.get(card.verdict)))
    return path


def _embedded(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((LONG_EDGE_PX, LONG_EDGE_PX), Image.Resampling.LANCZOS)
    return data_uri(small, quality=90)
