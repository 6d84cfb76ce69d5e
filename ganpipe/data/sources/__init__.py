"""Readers of image sources, one file per kind; `registry.SOURCES` is the table.

The names are repeated here so that `--help` can show them without importing a reader; a test compares them with the table.
"""

SOURCE_NAMES = (
    "sample:flowers",
    "sklearn:digits",
    "torchvision:NAME",
    "a folder",
    "IDX files",
    ".zip or .tar (.gz, .bz2, .xz, .zst)",
    "Parquet with images",
    "an image",
)
