"""Files that are either whole or absent: write beside, flush, rename, flush the folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote_to_bytes

from ganpipe.errors import GanpipeError


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


# As the system, torch and numpy say it.
FULL_DISK = ("No space left", "file write failed", "Not enough free space")


@contextmanager
def plain_disk_errors(path: Path) -> Iterator[None]:
    """A full disk reaches us as OSError or, from torch, as RuntimeError: say it in one sentence."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        text = str(error)
        full = getattr(error, "errno", None) == 28 or any(words in text for words in FULL_DISK)
        if isinstance(error, RuntimeError) and not full:
            raise
        why = "the disk is full; free some room and run again" if full else text
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
    """Writes UTF-8 `text` to `path`, whole or not at all; a lone surrogate of a file name as \\udcNN."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def json_text(value: Any, indent: int | None = None) -> str:
    """`value` as JSON that UTF-8 can hold: a file name's byte that is not UTF-8, to Python a lone surrogate, is escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return re.sub(r"[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    write_text(path, json_text(value, indent=2) + "\n")


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
