"""What a data set looks like before the GPU is paid for: sizes, colours, light, blur, copies, and for what it is enough."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from PIL import Image

from ganpipe.data.duplicates import groups_of
from ganpipe.data.fit import fit_image
from ganpipe.data.inspect import Facts
from ganpipe.data.raw import RawImages
from ganpipe.data.records import Record, split_records
from ganpipe.files import write_json, write_text
from ganpipe.images import ImageShape, Pixels, grid, save_png, shrink_above, to_pil
from ganpipe.settings.presets import NEEDED_IMAGES, PRESETS
from ganpipe.settings.schema import DataSettings

SHEET_IMAGES, THUMB_PX = 64, 96
SHOWN, GROUPS_SHOWN = 8, 20
DARK, BRIGHT, BLURRED = 0.12, 0.9, 0.5  # mean luminance; sharpness (see Facts)


@dataclass(frozen=True)
class Spread:
    """How a number is spread over the images: five quantiles and a histogram."""

    low: float
    quarter: float
    median: float
    three_quarters: float
    high: float
    counts: list[int]
    edges: list[float]


@dataclass(frozen=True)
class Survey:
    """A version of a data set in numbers, and what follows from them."""

    name: str
    version: str
    images: int
    train: int
    holdout: int
    labels: dict[str, int]
    width_px: Spread
    height_px: Spread
    aspect: Spread
    brightness: Spread
    sharpness: Spread
    grey: int
    colour: int
    with_alpha: int
    smaller_than_asked: int
    dark: int
    bright: int
    blurred: int
    near_groups: int
    near_copies: int
    advice: list[str]
    shown: dict[str, list[Record]] = field(default_factory=dict, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the pictures that are shown."""
        return {k: v for k, v in asdict(self).items() if k != "shown"}


def survey_records(
    name: str, version: str, records: Sequence[Record], facts: Mapping[str, Facts], settings: DataSettings
) -> Survey:
    """The survey of `records`, whose `facts` are by hash."""
    train, holdout = split_records(records, settings.holdout_fraction)
    known = [(r, facts[r.sha256]) for r in records if r.sha256 in facts]
    groups = groups_of(records)
    small = sum(f.width_px < settings.width_px or f.height_px < settings.height_px for _, f in known)

    def count(test: Callable[[Facts], bool]) -> int:
        return sum(test(f) for _, f in known)

    def extreme(key: Callable[[Facts], float], test: Callable[[Facts], bool]) -> list[Record]:
        return [r for r, f in sorted(known, key=lambda pair: key(pair[1])) if test(f)][:SHOWN]

    return Survey(
        name,
        version,
        len(records),
        len(train),
        len(holdout),
        dict(Counter(r.label for r in records if r.label is not None).most_common()),
        _spread([f.width_px for _, f in known]),
        _spread([f.height_px for _, f in known]),
        _spread([f.width_px / f.height_px for _, f in known]),
        _spread([f.brightness for _, f in known]),
        _spread([f.sharpness for _, f in known]),
        count(lambda f: f.grey),
        count(lambda f: not f.grey),
        count(lambda f: f.channels in (2, 4)),
        small,
        count(_is_dark),
        count(_is_bright),
        count(_is_blurred),
        len(groups),
        sum(len(members) - 1 for members in groups),
        _advice(len(train), small, len(known), settings, count(lambda f: f.grey)),
        {
            "darkest": extreme(lambda f: f.brightness, _is_dark),
            "brightest": extreme(lambda f: -f.brightness, _is_bright),
            "most blurred": extreme(lambda f: f.sharpness, _is_blurred),
            "smallest": extreme(
                lambda f: min(f.width_px, f.height_px),
                lambda f: min(f.width_px, f.height_px) < settings.height_px,
            ),
        },
    )


def _is_dark(facts: Facts) -> bool:
    return facts.brightness < DARK


def _is_bright(facts: Facts) -> bool:
    return facts.brightness > BRIGHT


def _is_blurred(facts: Facts) -> bool:
    return facts.sharpness < BLURRED


def _spread(values: Sequence[float]) -> Spread:
    if not values:
        return Spread(0, 0, 0, 0, 0, [], [])
    array = np.asarray(values, dtype=np.float64)
    low, quarter, median, three, high = (
        round(float(q), 4) for q in np.quantile(array, (0, 0.25, 0.5, 0.75, 1))
    )
    counts, edges = np.histogram(array, bins=min(20, max(1, len(set(values)))))
    return Spread(
        low, quarter, median, three, high, [int(c) for c in counts], [round(float(e), 4) for e in edges]
    )


def _advice(images: int, small: int, known: int, settings: DataSettings, grey: int) -> list[str]:
    """Sentences: for which models these images are enough, and what will be lost."""
    enough = [model for model, needed in NEEDED_IMAGES.items() if images >= needed]
    short = [f"{model} (from {needed:,})" for model, needed in NEEDED_IMAGES.items() if images < needed]
    counted = f"{images:,} images to train on"
    advice = [f"{counted}: enough for {', '.join(enough) or 'no model'}"
              + (f", too few for {', '.join(short)}." if short else ".")]  # fmt: skip
    wanting = [name for name, row in PRESETS.items() if images < NEEDED_IMAGES[row.model]]
    if wanting and enough:
        fitting = [name for name in PRESETS if name not in wanting]
        advice.append(f"Presets for so many: {', '.join(fitting)}; too few for {', '.join(wanting)}.")
    if small:
        size = f"{settings.width_px}×{settings.height_px}"
        advice.append(f"{small:,} of {known:,} images are smaller than {size} and would be enlarged.")
    if known and 0 < grey < known and settings.channels == 0:
        advice.append(
            f"{grey:,} of {known:,} images are grey; the others have colour, so all are trained on in colour."
        )
    return advice


def write_survey(
    survey: Survey,
    folder: Path,
    images: RawImages,
    records: Sequence[Record],
    added: Mapping[str, Any] | None,
) -> Path:
    """Writes `dataset.html`, `dataset.json` and `contact-sheet.png` into `folder`; returns the page.

    `added`: the account of the latest addition, whose quarantined files and copies are listed.
    """
    sheet = contact_sheet(images, records)
    save_png(sheet, folder / "contact-sheet.png",
             {"kind": "contact sheet", "dataset": {"name": survey.name, "version": survey.version}})  # fmt: skip
    write_json(folder / "dataset.json", survey.as_dict() | {"addition": added})
    template = Environment(autoescape=True).from_string(
        resources.files("ganpipe").joinpath("templates/dataset.html").read_text()
    )
    thumbs = {
        title: [(r.name, _thumb(images, r)) for r in chosen]
        for title, chosen in survey.shown.items()
        if chosen
    }
    groups = [
        [(r.name, _thumb(images, r)) for r in members[:SHOWN]]
        for members in groups_of(records)[:GROUPS_SHOWN]
    ]
    page = template.render(
        survey=survey, thumbs=thumbs, groups=groups, added=added, sheet=_data_uri(sheet, "JPEG")
    )
    write_text(folder / "dataset.html", page)
    return folder / "dataset.html"


def contact_sheet(images: RawImages, records: Sequence[Record], count: int = SHEET_IMAGES) -> Image.Image:
    """Pictures spread over the whole data set, each shown whole."""
    edges = np.linspace(0, len(records), min(count, len(records)) + 1).astype(int)
    return sheet_of([images.picture(records[a], shrink_above(THUMB_PX)) for a, _ in pairwise(edges.tolist())])


def sheet_of(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures side by side, each shown whole; one grey tile where there is none."""
    shape = ImageShape(3, THUMB_PX, THUMB_PX)
    shown = [fit_image(picture, shape, "pad") for picture in pictures]
    return grid(np.stack(shown or [np.full((THUMB_PX, THUMB_PX, 3), 60, np.uint8)]))


def _shown(images: RawImages, record: Record) -> Pixels:
    return fit_image(images.picture(record, shrink_above(THUMB_PX)), ImageShape(3, THUMB_PX, THUMB_PX), "pad")


def _thumb(images: RawImages, record: Record) -> str:
    return _data_uri(to_pil(_shown(images, record)), "JPEG")


def _data_uri(image: Image.Image, format: str) -> str:
    buffer = BytesIO()
    image.save(buffer, format=format, quality=85)
    return f"data:image/{format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
