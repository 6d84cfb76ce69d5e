"""Files that are either whole or absent: write beside, flush, rename, flush the folder."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote, unquote_to_bytes

from ganpipe.errors import LEAST_FREE_BYTES, STORAGE_SENTENCES, GanpipeError, classify_storage_error

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


def escape_control(text: str) -> str:
    """A stranger's text with nothing in it that a terminal obeys: control and format characters, line breaks and lone surrogates.

    A byte that is not UTF-8, as in some file names, becomes \\xNN.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # how Python holds such a byte
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


UNPRINTABLE = "bytes:"  # before the percent-encoded bytes of a path that is not UTF-8


def to_utf8(path: str) -> str:
    """A path as text that any JSON reader and database takes; `from_utf8` turns it back."""
    return path if is_utf8(path) else UNPRINTABLE + quote(os.fsencode(path))


def from_utf8(text: str) -> str:
    """The path of `to_utf8`."""
    encoded = text.startswith(UNPRINTABLE)
    return os.fsdecode(unquote_to_bytes(text.removeprefix(UNPRINTABLE))) if encoded else text


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold a text: a file name with other bytes has lone surrogates."""
    return not re.search(r"[\ud800-\udfff]", text)


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


def require_absent(path: Path) -> None:
    """Raises GanpipeError if the file, or a link of that name, is there: nothing of the user's is overwritten."""
    if os.path.lexists(path):
        raise GanpipeError(f"{path} exists already; choose another --out, or delete it first.")


def require_room(folder: Path, needed_bytes: int = 0) -> None:
    """Makes `folder`, and checks that files of `needed_bytes` in all can be written into it.

    Raises:
        GanpipeError: before any work, they cannot: the sentence says why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
        free = shutil.disk_usage(folder).free
    except (FileExistsError, NotADirectoryError):
        raise GanpipeError(
            f"{folder} is a file, or below one; a folder is expected. Choose another."
        ) from None
    except OSError as error:
        fault = classify_storage_error(error)
        why = STORAGE_SENTENCES[fault] if fault else f"{error.strerror}; choose another folder"
        raise GanpipeError(f"{folder} cannot be written: {why}.") from None
    if free < max(needed_bytes, LEAST_FREE_BYTES):
        raise GanpipeError(
            f"The disk of {folder} has {free / 2**20:,.1f} MiB free; about {needed_bytes / 2**20:,.1f} MiB are needed. "
            "Free some room, or choose a folder on another disk."
        )


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of `path` when the block ends well, and leaves no trace otherwise.

    Raises:
        GanpipeError: the file cannot be written (a full disk, no permission); `path` is as it was.
    """
    with plain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(
            prefix=f".{path.name[:40]}.{os.getpid()}.", suffix=".tmp", dir=path.parent
        )
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
    """Writes UTF-8 `text` to `path`, whole or not at all; a lone surrogate of a file name as \\udcNN."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def json_text(value: Any, indent: int | None = None) -> str:
    """`value` as JSON that UTF-8 can hold: a file name's byte that is not UTF-8, to Python a lone surrogate, is escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return re.sub(r"[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    write_text(path, json_text(plain(value), indent=2) + "\n")


def plain(value: Any) -> Any:
    """Dictionaries, lists and scalars; numbers that are not finite become None, because JSON has no NaN."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_json_lines(path: Path, values: Iterable[Any]) -> None:
    """Adds values to a file of JSON lines, on the disk before this returns; a line that a kill has cut is dropped first."""
    with plain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():  # the cut line would spoil the next one
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        with path.open("a") as file:
            file.write(json_lines(values))
            file.flush()
            os.fsync(file.fileno())


def json_lines(values: Iterable[Any]) -> str:
    """One JSON value a line."""
    return "".join(json.dumps(plain(value)) + "\n" for value in values)


def read_json_lines(path: Path, kind: Callable[..., T]) -> list[T]:
    """`kind(**line)` for each line; a line that a kill or a damage has cut is left out. Empty if there is no file."""
    found = []
    for line in path.read_text(errors="replace").split("\n")[:-1] if path.exists() else []:
        try:
            found.append(kind(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


@lru_cache(maxsize=32)
def _adapter(kind: type) -> TypeAdapter[Any]:
    """The validator of a dataclass; making one costs 14 ms, and a workspace may have a thousand records."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def read_dataclass(path: Path, kind: type[T]) -> T:
    """The dataclass of type `kind` in a JSON file; unknown fields are left out.

    Raises:
        GanpipeError: the file is missing, is not JSON, or lacks a field.
    """
    from pydantic import ValidationError

    try:
        return cast(T, _adapter(cast(Any, kind)).validate_python(read_json(path)))
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
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GanpipeError(f"{path} does not exist.") from None
    except OSError as error:
        raise GanpipeError(f"{path} cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        raise GanpipeError(f"{path} is damaged: it is not valid JSON ({error}).") from None
