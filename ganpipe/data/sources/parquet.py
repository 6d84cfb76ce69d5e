"""Parquet files with a column of images, as Hugging Face's datasets and img2dataset write them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ganpipe.data.sources.items import FileItem, Item, RefusedItem, SidecarItem, file_stamp
from ganpipe.data.sources.labels import LABEL_COLUMNS, label_text
from ganpipe.errors import GanpipeError
from ganpipe.imaging.decode import MAX_BYTES
from ganpipe.imaging.image import RejectedImage

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "picture")
ROWS_AT_ONCE = 16


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet, by its first bytes."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def read_parquet(path: Path, name: str) -> Iterator[Item]:
    """Reads the images of a Parquet file, row by row; a file without a column of images is a sidecar.

    Raises:
        GanpipeError: pyarrow is missing, or the file is damaged.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise GanpipeError(f"{path} is Parquet, which needs: pip install pyarrow") from None
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            column = _image_column(schema)
            if column is None:
                yield SidecarItem(name)
                return
            label, names = _label_column(schema)
            columns = [column, label] if label else [column]
            start = 0
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
                yield from _items(path, name, start, batch.to_pylist(), column, label, names)
                start += len(batch)
    except (pa.ArrowException, OSError) as error:
        why = " ".join(str(error).split())[:200]
        raise GanpipeError(f"{path} is a damaged Parquet file ({why}).") from None


def _items(
    path: Path,
    name: str,
    start: int,
    rows: list[dict[str, Any]],
    column: str,
    label: str | None,
    names: list[str],
) -> Iterator[Item]:
    stamp, changed_ns = file_stamp(path.stat())
    for number, row in enumerate(rows, start):
        image = row[column]
        data = image.get("bytes") if isinstance(image, dict) else image
        if not data:
            why = RejectedImage("no_bytes", "its row holds no bytes of an image")
            yield RefusedItem(f"{name}[{number}]", why)
            continue
        text = _class_name(row[label], names) if label else None
        read = partial(_checked, data)
        yield FileItem(f"{name}[{number}]", read, text, None, f"{stamp}!{number}", changed_ns, streamed=True)


def _checked(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise RejectedImage("too_large", f"it has {len(data):,} bytes; at most {MAX_BYTES:,} are read")
    return data


def _class_name(value: Any, names: list[str]) -> str | None:
    known = isinstance(value, int) and 0 <= value < len(names)
    return names[value] if known else None if names and value == -1 else label_text(value)


def _image_column(schema: Any) -> str | None:
    """The first column of structs that hold `bytes`, else of bytes under a usual name."""
    import pyarrow.types as types

    def holds_bytes(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    structs = [
        f.name
        for f in schema
        if types.is_struct(f.type) and any(part.name == "bytes" and holds_bytes(part.type) for part in f.type)
    ]
    plain = [n for n in IMAGE_COLUMNS if n in schema.names and holds_bytes(schema.field(n).type)]
    return next(iter(structs + plain), None)


def _label_column(schema: Any) -> tuple[str | None, list[str]]:
    """The column of labels and the names of its classes: Hugging Face's ClassLabel, else a usual name."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        features = info["info"]["features"].items()
    except (KeyError, ValueError, TypeError, AttributeError):
        features = ()
    for name, feature in features:
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and name in schema.names:
            return name, [str(text) for text in feature.get("names") or []]
    return next((name for name in LABEL_COLUMNS if name in schema.names), None), []
