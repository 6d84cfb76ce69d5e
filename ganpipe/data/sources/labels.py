"""Labels and splits as a source writes them: in folder names, annotation files and names of shards.

Read from names and from the bytes of the annotation files alone, so that folders and archives are treated alike.
"""

from __future__ import annotations

import csv
import json
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

from ganpipe.data.sources.items import RefusedItem
from ganpipe.imaging.image import RejectedImage
from ganpipe.imaging.paths import is_image_name

TRAIN = ("train", "training")
HELD_OUT = ("val", "valid", "validation", "dev", "eval", "test", "testing")
LABEL_COLUMNS = ("label", "labels", "class", "category")
CLASS_SUFFIX = ".cls"  # WebDataset: the label of the image with the same stem
SIDECAR_SUFFIXES = frozenset(
    (".txt", ".caption", ".json", ".jsonl", ".cls", ".xml", ".xmp", ".yaml", ".yml", ".npy", ".npz", ".idx")
)
SHARD = re.compile(r"\.(tar|tgz|tbz2|txz|tar\.\w+|zip|parquet)", re.IGNORECASE)
SHARD_STATISTICS = "_stats"  # img2dataset: 00000_stats.json beside 00000.tar
LONGEST_LABEL = 200


def is_shard_name(name: str) -> bool:
    """Whether a file's name ends like an archive's or a Parquet file's."""
    stem, _ = posixpath.splitext(posixpath.basename(name))
    suffixes = {posixpath.splitext(name)[1], posixpath.splitext(stem)[1] + posixpath.splitext(name)[1]}
    return any(SHARD.fullmatch(suffix) for suffix in suffixes)


def is_annotation(name: str) -> bool:
    """Whether a file may hold labels."""
    return posixpath.basename(name).lower() in READERS or name.lower().endswith(CLASS_SUFFIX)


class SourceLabels:
    """Label and split of each file of a source, as the source itself gives them.

    `names`: all files, relative to the source, with `/`. `texts`: the bytes of those that `is_annotation` names.
    `problems`: annotation files that are damaged, or that name absent files. `holds_shards`: archives and Parquet files are
    its content.
    """

    def __init__(self, names: Sequence[str], texts: Mapping[str, bytes]) -> None:
        self.problems: list[RefusedItem] = []
        images = [n for n in names if is_image_name(n)]
        self.holds_shards = not images  # an archive among images is something else
        self._contents = images or [n for n in names if is_shard_name(n)]
        self._stems = set(self._contents) | {posixpath.splitext(n)[0] for n in self._contents}
        self._stems |= {_shard_stem(n) + SHARD_STATISTICS for n in self._contents if self.holds_shards}
        self._labels: dict[str, str | None] = {}
        self._annotations: set[str] = set()
        self._annotated: set[str] = set()  # folders whose annotation file holds the labels
        for name, data in texts.items():
            self._read(name, data, set(names))
        self._splits = dict(_split_folders(self._contents))
        self._base = posixpath.commonpath([_parent(folder) for folder in self._splits] or [""])
        self._shard_splits = dict(_split_shards(self._contents))

    def _read(self, name: str, data: bytes, names: set[str]) -> None:
        folder, reader = _parent(name), READERS.get(posixpath.basename(name).lower())
        if reader is None:
            label = label_text(data[: LONGEST_LABEL + 1].decode(errors="replace").strip())
            self._labels[posixpath.splitext(name)[0]] = label
            return
        try:
            rows = reader(data)
        except (ValueError, TypeError, LookupError, RecursionError, csv.Error) as error:
            why = f"its labels cannot be read ({error}); correct it and add the source again"
            self.problems.append(RefusedItem(name, RejectedImage("damaged_labels", why)))
            self._annotations.add(name)
            return
        if rows is None:
            return
        listed = {_below(folder, file): label for file, label in rows}
        self._annotations.add(name)
        self._annotated.add(folder)
        self._labels |= listed
        if absent := sorted(listed.keys() - names):
            why = f"it names {len(absent):,} files that are not there, such as {absent[0]}"
            self.problems.append(RefusedItem(name, RejectedImage("absent_files", why)))

    def is_sidecar(self, name: str) -> bool:
        """Whether a file describes images: it holds labels, or has the stem of an image or a shard."""
        if name in self._annotations:
            return True
        stem, suffix = posixpath.splitext(name)
        if suffix.lower() not in SIDECAR_SUFFIXES:
            return False
        while stem not in self._stems and posixpath.splitext(stem)[1]:
            stem = posixpath.splitext(stem)[0]
        return stem in self._stems

    def label(self, name: str) -> str | None:
        """The label of a file: as listed, else its folder (as in torchvision's ImageFolder)."""
        for key in (name, posixpath.splitext(name)[0]):
            if key in self._labels:
                return self._labels[key]
        if any(folder in self._annotated for folder in _parents(name)):
            return None
        return self._folder_label(name)

    def _folder_label(self, name: str) -> str | None:
        """The folder without the names of splits and without what comes before all of them."""
        folder = _parent(name)
        splits = [f for f in _parents(name) if f in self._splits]
        if splits:
            kept = [part for part, path in _walk(folder) if path not in self._splits]
            before = len(self._base.split("/")) if self._base else 0
            folder = "/".join(kept[before:])
        return folder or None

    def holdout(self, name: str) -> bool | None:
        """Whether a file is of a test or validation split; None: the source has no splits."""
        said = [self._splits.get(folder) for folder in _parents(name)] + [self._shard_splits.get(name)]
        known = [value for value in said if value is not None]
        return any(known) if known else None


def _parent(name: str) -> str:
    return posixpath.dirname(name)


def _parents(name: str) -> Iterator[str]:
    """The folders above a file, the closest first; the source itself is ''."""
    while name:
        name = _parent(name)
        yield name


def _walk(folder: str) -> Iterator[tuple[str, str]]:
    """Each part of a path, and the path up to it."""
    parts = folder.split("/") if folder else []
    return ((part, "/".join(parts[: k + 1])) for k, part in enumerate(parts))


def _below(folder: str, file: str) -> str:
    return posixpath.normpath(posixpath.join(folder, file.replace("\\", "/")))


def _shard_stem(name: str) -> str:
    return posixpath.join(_parent(name), posixpath.basename(name).split(".")[0])


def _split_of(name: str) -> bool | None:
    """Whether a folder's name is that of a held-out split (True), of training (False), or of neither (None)."""
    plain = re.sub(r"[ _-]?(set|data)$", "", name.lower())
    return True if plain in HELD_OUT else False if plain in TRAIN else None


def _split_folders(names: Iterable[str]) -> Iterator[tuple[str, bool | None]]:
    """The folders that are splits, and whether each is held out.

    Folders are splits if one is for training and one is held out, or if all beside each other have such names. Without a
    folder to train on beside it, nothing is held out.
    """
    beside: dict[str, set[str]] = {}
    for folder in {f for name in names for f in _parents(name) if f}:
        beside.setdefault(_parent(folder), set()).add(posixpath.basename(folder))
    for parent, children in beside.items():
        said = {child: _split_of(child) for child in children}
        both = {True, False} <= set(said.values())
        if both or None not in said.values():
            yield from (
                (posixpath.join(parent, child), value if both else None)
                for child, value in said.items()
                if value is not None
            )


def _split_shards(names: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Splits that shards have in their names, as in train-00000-of-00002.parquet; none if all are of one split."""
    said = {name: _split_in(posixpath.basename(name)) for name in names if is_shard_name(name)}
    if {True, False} <= set(said.values()):
        yield from ((name, value) for name, value in said.items() if value is not None)


def _split_in(name: str) -> bool | None:
    words = (_split_of(word) for word in re.split(r"[^A-Za-z]+", name))
    return next((value for value in words if value is not None), None)


def label_text(value: Any) -> str | None:
    """A label as text: 3, 3.0 and [0, 0, 0, 1] are '3'; None for what is no class."""
    if isinstance(value, list):
        return str(value.index(1)) if sorted(value)[-1:] == [1] and sum(map(abs, value)) == 1 else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int | float):
        return None
    text = re.sub(r"^(-?\d+)\.0+$", r"\1", str(value).strip())
    return text if 0 < len(text) <= LONGEST_LABEL else None


Rows = list[tuple[str, str | None]] | None


def _stylegan(data: bytes) -> Rows:
    """`dataset.json` of StyleGAN's dataset_tool: {"labels": [[file, label], …]}, or null; None if it is another file."""
    value = json.loads(data)
    if not isinstance(value, dict) or "labels" not in value:
        return None
    labels = value["labels"] or []
    pairs = labels.items() if isinstance(labels, dict) else labels
    return [(str(file), label_text(label)) for file, label in pairs]


def _metadata_csv(data: bytes) -> Rows:
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    return _metadata(list(csv.DictReader(StringIO(text, newline=""))))


def _metadata_jsonl(data: bytes) -> Rows:
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    return _metadata([json.loads(line) for line in text.split("\n") if line.strip()])


def _metadata(rows: list[dict[str, Any]]) -> Rows:
    """Rows as Hugging Face's imagefolder has them: `file_name`, and maybe a label; None without `file_name`."""
    if not rows or "file_name" not in rows[0]:
        return None
    column = next((name for name in LABEL_COLUMNS if name in rows[0]), "")
    return [(os.fspath(row["file_name"]), label_text(row.get(column))) for row in rows]


READERS: dict[str, Callable[[bytes], Rows]] = {
    "dataset.json": _stylegan,
    "metadata.csv": _metadata_csv,
    "metadata.jsonl": _metadata_jsonl,
}
