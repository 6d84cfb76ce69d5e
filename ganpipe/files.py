"""Files that are either whole or absent: write beside, flush, rename, flush the folder."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from ganpipe.errors import STORAGE_SENTENCES, GanpipeError, classify_storage_error

T = TypeVar("T")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_json(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def fsync_folder(folder: Path) -> None:
    """Makes a rename inside `folder` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def plain_disk_errors(path: Path) -> Iterator[None]:
    """Says in one sentence why `path` cannot be written; each library has its own error for a full disk."""
    try:
        yield
    except GanpipeError:
        raise
    except Exception as error:
        fault = classify_storage_error(error)
        if fault is None and not isinstance(error, OSError):
            raise
        why = str(error) if fault is None else STORAGE_SENTENCES[fault]
        raise GanpipeError(f"Could not write {path}: {why}.") from error


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of `path` when the block ends well, and leaves no trace otherwise.

    Raises:
        GanpipeError: the file cannot be written (a full disk, no permission); `path` is as it was.
    """
    with plain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(fd, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.rename(path)
            fsync_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path`, whole or not at all."""
    with replacing(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 `text` to `path`, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def plain(value: Any) -> Any:
    """Dictionaries, lists and scalars; numbers that are not finite become None, because JSON has no NaN."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, inf_nan_mode="null")


def read_dataclass(path: Path, kind: type[T]) -> T:
    """The dataclass of type `kind` in a JSON file; unknown fields are left out.

    Raises:
        GanpipeError: the file is missing, is not JSON, or lacks a field.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise GanpipeError(
            f"{path} is damaged or of another ganpipe version ({field}: {first['msg']})."
        ) from None


def read_json(path: Path) -> Any:
    """The JSON value in `path`.

    Raises:
        GanpipeError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise GanpipeError(f"{path} does not exist.") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise GanpipeError(f"{path} is damaged: it is not valid JSON ({error}).") from None
