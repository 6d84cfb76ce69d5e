"""A generated corpus of bad, odd and hostile files for whatever takes in pictures.

Every case is a small function: it returns the bytes of a file and, where the file must be taken, the pixels
that people see when they open it, worked out from the numbers that went into the file and not from what a
decoder made of them. What Pillow does not write is written here by hand (`png`, `tiff`, `bmp`, `gif`, …).

    for case in cases():
        case.make(folder / os.fsdecode(case.file))
"""

from __future__ import annotations

from tests.imaging.corpus import (
    bmp,
    color_profiles,
    damaged,
    extreme_sizes,
    gif,
    jpeg,
    names,
    not_images,
    orientation,
    png,
    special_files,
    tiff,
    webp_avif,
)
from tests.imaging.corpus.registry import CASES, Case

__all__ = ["Case", "cases"]

MODULES = (
    orientation,
    jpeg,
    png,
    names,
    gif,
    tiff,
    bmp,
    webp_avif,
    color_profiles,
    damaged,
    extreme_sizes,
    not_images,
    special_files,
)


def cases() -> list[Case]:
    """The whole corpus; each case has a name, a file name and (links apart) a content of its own."""
    return [case for module in MODULES for case in CASES[module.__name__]]
