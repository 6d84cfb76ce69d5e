"""The table of sources for `data add SOURCE`. The first row that matches reads it.

To add a source: write a reader in a file of this package, and a row here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ganpipe.data.sources.archives import is_archive, read_archive
from ganpipe.data.sources.folder import file_item, read_folder
from ganpipe.data.sources.idx import idx_images, is_idx, read_idx_files
from ganpipe.data.sources.items import Item, RefusedItem
from ganpipe.data.sources.packages import read_digits, read_flowers, read_torchvision
from ganpipe.data.sources.parquet import is_parquet, read_parquet
from ganpipe.errors import GanpipeError
from ganpipe.imaging.paths import OVERVIEWS, OWN_OUTPUT, is_image_name
from ganpipe.imaging.provenance import origin_kind


@dataclass(frozen=True)
class Source:
    """A row of the table: `name` as help and errors show it. `read(spec, scratch)` may fill the folder `scratch`."""

    name: str
    matches: Callable[[str], bool]
    read: Callable[[str, Path], Iterator[Item]]


def _path(spec: str) -> Path:
    return Path(os.path.expanduser(spec))


def _read_folder(spec: str, scratch: Path) -> Iterator[Item]:
    return read_any_folder(_path(spec))


def read_any_folder(path: Path, archives: bool = False) -> Iterator[Item]:
    """The items of a folder, of IDX files or of others; `archives`: see `read_folder`."""
    if idx_images(path):
        return chain(read_idx_files(path), read_folder(path, is_idx, archives))
    return read_folder(path, archives=archives)


def _is_image(spec: str) -> bool:
    return _path(spec).is_file() and is_image_name(spec)


def _read_image(spec: str, scratch: Path) -> Iterator[Item]:
    path = _path(spec)
    yield RefusedItem(path.name, OWN_OUTPUT) if origin_kind(path) in OVERVIEWS else file_item(path, path.name)


SOURCES: tuple[Source, ...] = (
    Source("sample:flowers", lambda spec: spec == "sample:flowers", lambda spec, scratch: read_flowers()),
    Source(
        "sklearn:digits", lambda spec: spec == "sklearn:digits", lambda spec, scratch: iter([read_digits()])
    ),
    Source(
        "torchvision:NAME",
        lambda spec: spec.startswith("torchvision:"),
        lambda spec, scratch: read_torchvision(spec.partition(":")[2], scratch),
    ),
    Source("a folder", lambda spec: _path(spec).is_dir(), _read_folder),
    Source(
        "IDX files",
        lambda spec: _path(spec).is_file() and is_idx(_path(spec)),
        lambda spec, scratch: read_idx_files(_path(spec).parent),
    ),
    Source(
        ".zip or .tar (.gz, .bz2, .xz, .zst)",
        lambda spec: is_archive(_path(spec)),
        lambda spec, scratch: read_archive(_path(spec)),
    ),
    Source(
        "Parquet with images",
        lambda spec: _path(spec).is_file() and is_parquet(_path(spec)),
        lambda spec, scratch: read_parquet(_path(spec), _path(spec).name),
    ),
    Source("an image", _is_image, _read_image),
)


def read_source(spec: str, scratch: Path) -> Iterator[Item]:
    """Reads the items of the source `spec`, in an order that does not depend on the machine.

    Downloads go to `scratch`.

    Raises:
        GanpipeError: no reader matches.
    """
    for source in SOURCES:
        if source.matches(spec):
            return source.read(spec, scratch)
    known = ", ".join(source.name for source in SOURCES)
    named = spec.split(":")[0] in {source.name.split(":")[0] for source in SOURCES if ":" in source.name}
    if not named and not _path(spec).exists():
        raise GanpipeError(f"There is no file or folder {spec}; a source is one of: {known}.")
    if named:
        raise GanpipeError(f"Unknown source {spec}; a source is one of: {known}.")
    raise GanpipeError(
        f"{spec} cannot be read as a source; a source is one of: {known}. Give the folder of the images."
    )
