"""Profiles a dataset version: sizes, colors, brightness, sharpness, near duplicates, and the models it is large enough for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ganpipe.data.inspect import Facts
from ganpipe.data.manifest import Record, split_records
from ganpipe.data.near_duplicates import groups_of
from ganpipe.settings.presets import NEEDED_IMAGES, PRESETS
from ganpipe.settings.schema import DataSettings

SHOWN, GROUPS_SHOWN = 8, 20


DARK, BRIGHT, BLURRED = 0.12, 0.9, 0.5  # mean luminance; sharpness (see Facts)


@dataclass(frozen=True)
class Distribution:
    """The distribution of a value over the images: five quantiles and a histogram."""

    low: float
    quarter: float
    median: float
    three_quarters: float
    high: float
    counts: list[int]
    edges: list[float]


@dataclass(frozen=True)
class DatasetProfile:
    """Statistics of a dataset version, and advice based on them."""

    name: str
    version: str
    images: int
    train: int
    holdout: int
    labels: dict[str, int]
    width_px: Distribution
    height_px: Distribution
    aspect: Distribution
    brightness: Distribution
    sharpness: Distribution
    gray: int
    color: int
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
        """Plain values, without the images that are shown."""
        return {k: v for k, v in asdict(self).items() if k != "shown"}


def profile_records(
    name: str, version: str, records: Sequence[Record], facts: Mapping[str, Facts], settings: DataSettings
) -> DatasetProfile:
    """Profiles `records`; `facts` are by hash."""
    train, holdout = split_records(records, settings.holdout_fraction)
    known = [(r, facts[r.sha256]) for r in records if r.sha256 in facts]
    groups = groups_of(records)
    small = sum(f.width_px < settings.width_px or f.height_px < settings.height_px for _, f in known)

    def count(test: Callable[[Facts], bool]) -> int:
        return sum(test(f) for _, f in known)

    def extreme(key: Callable[[Facts], float], test: Callable[[Facts], bool]) -> list[Record]:
        return [r for r, f in sorted(known, key=lambda pair: key(pair[1])) if test(f)][:SHOWN]

    return DatasetProfile(
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
        count(lambda f: f.gray),
        count(lambda f: not f.gray),
        count(lambda f: f.channels in (2, 4)),
        small,
        count(_is_dark),
        count(_is_bright),
        count(_is_blurred),
        len(groups),
        sum(len(members) - 1 for members in groups),
        _advice(len(train), small, len(known), settings, count(lambda f: f.gray)),
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


def _spread(values: Sequence[float]) -> Distribution:
    if not values:
        return Distribution(0, 0, 0, 0, 0, [], [])
    array = np.asarray(values, dtype=np.float64)
    low, quarter, median, three, high = (
        round(float(q), 4) for q in np.quantile(array, (0, 0.25, 0.5, 0.75, 1))
    )
    counts, edges = np.histogram(array, bins=min(20, max(1, len(set(values)))))
    return Distribution(
        low, quarter, median, three, high, [int(c) for c in counts], [round(float(e), 4) for e in edges]
    )


def _advice(images: int, small: int, known: int, settings: DataSettings, gray: int) -> list[str]:
    """Sentences on which models these images are enough for, and what preparation changes."""
    enough = [model for model, needed in NEEDED_IMAGES.items() if images >= needed]
    short = [f"{model} (from {needed:,})" for model, needed in NEEDED_IMAGES.items() if images < needed]
    counted = f"{images:,} images to train on"
    advice = [
        f"{counted}: enough for {', '.join(enough) or 'no model'}"
        + (f", too few for {', '.join(short)}." if short else ".")
    ]
    wanting = [name for name, row in PRESETS.items() if images < NEEDED_IMAGES[row.model]]
    if wanting and enough:
        fitting = [name for name in PRESETS if name not in wanting]
        advice.append(f"Presets for so many: {', '.join(fitting)}; too few for {', '.join(wanting)}.")
    if small:
        size = f"{settings.width_px}×{settings.height_px}"
        advice.append(f"{small:,} of {known:,} images are smaller than {size} and would be enlarged.")
    if known and 0 < gray < known and settings.channels == 0:
        advice.append(
            f"{gray:,} of {known:,} images are gray; the others have color, so all are trained on in color."
        )
    return advice
