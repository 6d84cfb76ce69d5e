"""IDX files (MNIST and its relatives)."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np

from ganpipe.data.sources.items import ArrayItem, Item
from ganpipe.errors import GanpipeError
from ganpipe.imaging.image import Pixels

MAX_IDX_BYTES = 4 * 2**30
TEST_SPLIT_WORDS = ("t10k", "test")


def _open_maybe_gzip(path: Path) -> bytes:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        data = (gzip.GzipFile(fileobj=file) if packed else file).read(MAX_IDX_BYTES + 1)
    if len(data) > MAX_IDX_BYTES:
        raise ValueError(f"it holds over {MAX_IDX_BYTES:,} bytes")
    return data


def is_idx(path: Path) -> bool:
    """Whether a file is IDX, by name and first bytes: an image may have such a name."""
    if not ("idx" in path.name and "ubyte" in path.name):
        return False
    try:
        with path.open("rb") as file:
            head = file.read(2)
            if head == b"\x1f\x8b":
                head = gzip.GzipFile(fileobj=BytesIO(head + file.read(4096))).read(2)
    except (OSError, EOFError, zlib.error):
        return False
    return head == b"\0\0"


def idx_images(folder: Path) -> list[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise GanpipeError(f"The folder {folder} cannot be read ({error.strerror}).") from None
    paths = [Path(entry.path) for entry in entries if "idx" in entry.name]
    return sorted(p for p in paths if p.is_file() and is_idx(p) and "images" in p.name)


def read_idx(path: Path) -> Pixels:
    """Reads the uint8 array in an IDX file, plain or .gz (format: LeCun's MNIST page; big-endian sizes).

    Raises:
        GanpipeError: it is not an IDX file of bytes, or is truncated.
    """
    try:
        data = _open_maybe_gzip(path)
        shape = _idx_shape(data)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise GanpipeError(f"{path} is a damaged IDX file ({error}).") from None


def _idx_shape(data: bytes) -> tuple[int, ...]:
    zero, kind, dimensions = struct.unpack(">HBB", data[:4])
    if (zero, kind) != (0, 0x08):
        raise ValueError("its header is not that of an IDX file of bytes")
    return struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])


def read_idx_files(folder: Path) -> Iterator[Item]:
    for path in sorted(idx_images(folder), key=lambda p: any(w in p.name for w in TEST_SPLIT_WORDS)):
        pixels = read_idx(path)
        if pixels.ndim != 3:
            raise GanpipeError(
                f"{path} holds {pixels.ndim} dimensions; images have 3 (number, height, width)."
            )
        stem = path.name.split("images")[0]
        labels = next((p for p in sorted(folder.iterdir()) if p.name.startswith(stem + "labels")), None)
        values = [str(v) for v in read_idx(labels)] if labels else None
        if values is not None and len(values) != len(pixels):
            raise GanpipeError(
                f"{labels} has {len(values)} labels for the {len(pixels)} images of {path.name}."
            )
        yield ArrayItem(path.name, pixels[..., None], values, any(w in path.name for w in TEST_SPLIT_WORDS))
