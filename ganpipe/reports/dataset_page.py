"""The page of a dataset version: contact sheet, numbers, advice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from PIL import Image

from ganpipe.data.manifest import Record
from ganpipe.data.near_duplicates import groups_of
from ganpipe.data.profile import GROUPS_SHOWN, SHOWN, DatasetProfile
from ganpipe.data.raw_store import RawImages
from ganpipe.data.resize import resize_image
from ganpipe.files import write_json, write_text
from ganpipe.imaging.decode import shrink_above
from ganpipe.imaging.grid import grid, to_pil
from ganpipe.imaging.image import ImageShape, Pixels
from ganpipe.imaging.provenance import save_png
from ganpipe.reports.embedded import data_uri

SHEET_IMAGES, THUMB_PX = 64, 96


def write_dataset_page(
    profile: DatasetProfile,
    folder: Path,
    images: RawImages,
    records: Sequence[Record],
    added: Mapping[str, Any] | None,
) -> Path:
    """Writes `dataset.html`, `dataset.json` and `contact-sheet.png` into `folder`; returns the page.

    `added`: the account of the latest addition, whose quarantined files and copies are listed.
    """
    sheet = contact_sheet(images, records)
    save_png(
        sheet,
        folder / "contact-sheet.png",
        {"kind": "contact sheet", "dataset": {"name": profile.name, "version": profile.version}},
    )
    write_json(folder / "dataset.json", profile.as_dict() | {"addition": added})
    template = Environment(autoescape=True).from_string(
        resources.files("ganpipe").joinpath("templates/dataset.html").read_text()
    )
    thumbs = {
        title: [(r.name, _thumb(images, r)) for r in chosen]
        for title, chosen in profile.shown.items()
        if chosen
    }
    groups = [
        [(r.name, _thumb(images, r)) for r in members[:SHOWN]]
        for members in groups_of(records)[:GROUPS_SHOWN]
    ]
    page = template.render(profile=profile, thumbs=thumbs, groups=groups, added=added, sheet=data_uri(sheet))
    write_text(folder / "dataset.html", page)
    return folder / "dataset.html"


def contact_sheet(images: RawImages, records: Sequence[Record], count: int = SHEET_IMAGES) -> Image.Image:
    """Images spread over the whole dataset, each shown whole."""
    edges = np.linspace(0, len(records), min(count, len(records)) + 1).astype(int)
    return make_sheet(
        [images.decode(records[a], shrink_above(THUMB_PX)) for a, _ in pairwise(edges.tolist())]
    )


def make_sheet(pictures: Sequence[Image.Image]) -> Image.Image:
    """Images side by side, each shown whole; one gray tile if there is none."""
    shape = ImageShape(3, THUMB_PX, THUMB_PX)
    shown = [resize_image(picture, shape, "pad") for picture in pictures]
    return grid(np.stack(shown or [np.full((THUMB_PX, THUMB_PX, 3), 60, np.uint8)]))


def _shown(images: RawImages, record: Record) -> Pixels:
    return resize_image(
        images.decode(record, shrink_above(THUMB_PX)), ImageShape(3, THUMB_PX, THUMB_PX), "pad"
    )


def _thumb(images: RawImages, record: Record) -> str:
    return data_uri(to_pil(_shown(images, record)))
