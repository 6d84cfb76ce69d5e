"""The two ways in which ganpipe stops on purpose, what is wrong with a disk or database, and the hint for a misspelled
name."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

# What stands between :// and @ in a URI: a name, and mostly a password.
CREDENTIALS = re.compile(r"(?<=://)[^\s/?#'\"<>]*@")
SECRET_NAME = re.compile(
    r"PASSWORD|PASSWD|SECRET|TOKEN|AUTH_STRING|NOTIFY_URLS|API_KEY|ACCOUNT_KEY", re.IGNORECASE
)
SHORTEST_SECRET = 6  # a shorter value would black out words that mean nothing
HIDDEN = "***"
_hidden: set[str] = set()  # secrets that do not come from the environment


def hide(secret: str) -> None:
    """From now on `redact` takes this secret out, too."""
    _hidden.add(secret)


def redact(text: str) -> str:
    """The text without credentials in URIs, and without the values of environment variables that hold secrets."""
    for secret in _known_secrets():
        text = text.replace(secret, HIDDEN)
    return CREDENTIALS.sub(f"{HIDDEN}@", text)


def _known_secrets() -> list[str]:
    """Secrets, the longest first: whole variables of the environment, passwords in URIs, and what `hide` was told."""
    named = {value for name, value in os.environ.items() if SECRET_NAME.search(name)}
    in_uris = {
        match.group().rstrip("@").partition(":")[2]
        for value in os.environ.values()
        for match in CREDENTIALS.finditer(value)
    }
    found = _hidden | named | in_uris | {unquote(password) for password in in_uris}
    return sorted((secret for secret in found if len(secret) >= SHORTEST_SECRET), key=len, reverse=True)


class GanpipeError(Exception):
    """Something the user can fix. The message is one sentence: what, found, expected, what to do.

    It is printed, logged and kept by Prefect and MLflow: secrets are taken out here, once for all of them.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(redact(message))


class Interrupted(GanpipeError):
    """SIGINT or SIGTERM arrived; the step was finished and the checkpoint written."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """The shell's convention: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signum


def describe_error(error: BaseException, workspace: Path | None = None) -> str:
    """One sentence for people. `workspace`: whose disk is looked at if the trouble may come from it."""
    if isinstance(error, GanpipeError):
        return str(error)
    if isinstance(error, Exception) and (why := explain_storage_error(error, workspace)):
        return redact(why)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}."
    return redact(f"Unexpected {type(error).__name__}: {' '.join(str(error).split())[:500]}")


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def nearest(word: str, valid: Iterable[str]) -> str:
    """Half a sentence that names the valid word most like `word`, or all of them."""
    words = list(valid)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    if not close and "." in word:  # the right name in the wrong section
        close = [w for w in words if w.split(".")[-1] == word.split(".")[-1]][:1]
    return f"did you mean {close[0]}?" if close else f"valid are {', '.join(words)}."


StorageFault = Literal["full", "locked", "read_only", "damaged"]

STORAGE_SENTENCES: dict[StorageFault, str] = {
    "full": "the disk is full; free some room and run again",
    "locked": "another program holds the database; wait for it or stop it, and run again",
    "read_only": "the disk or folder is read-only; make it writable, or work in a copy with --workspace",
    "damaged": (
        "a database is damaged (of .ganpipe/mlflow.db and .ganpipe/prefect/prefect.db, the one that does not open); bring it "
        "back from a backup, or move it away and run again"
    ),
}
FAULT_BY_ERRNO: dict[int, StorageFault] = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EROFS: "read_only",
}
FAULT_BY_SQLITE_CODE: dict[int, StorageFault] = {  # https://sqlite.org/rescode.html: primary codes
    5: "locked",  # BUSY
    6: "locked",
    8: "read_only",
    11: "damaged",  # CORRUPT
    13: "full",
    26: "damaged",  # NOTADB
}
# As the system, SQLite, DVC, torch, numpy and safetensors say it; MLflow and DVC pass on text alone.
FAULT_BY_WORDS: dict[str, StorageFault] = {
    "no space left": "full",
    "database or disk is full": "full",
    "disk quota exceeded": "full",
    "not enough free space": "full",
    "file write failed": "full",
    "unexpected pos": "full",
    "storagefull": "full",
    "database is locked": "locked",
    "table is locked": "locked",
    "unable to acquire lock": "locked",
    "read-only file system": "read_only",
    "readonly database": "read_only",
    "disk image is malformed": "damaged",
    "malformed database": "damaged",
    "file is not a database": "damaged",
}
DOUBTFUL_WORDS = (
    "disk i/o error",
    "unable to open database file",
    "internal server error",
)  # of any disk trouble
LEAST_FREE_BYTES = 64 * 2**10


def classify_storage_error(error: BaseException) -> StorageFault | None:
    """Whether a disk or database is full, locked, read-only or damaged; None for any other error.

    Looks through what an error was raised from: libraries wrap each other's.
    """
    return next((fault for e in _chain(error) if (fault := _classify_one(e)) is not None), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it stands for."""
    waiting, seen = [error], set[int]()
    while waiting:
        now = waiting.pop(0)
        if id(now) in seen:
            continue
        seen.add(id(now))
        yield now
        inner = [
            now.__cause__,
            None if now.__suppress_context__ else now.__context__,
            getattr(now, "orig", None),
        ]
        waiting += [e for e in (*inner, *getattr(now, "exceptions", ())) if isinstance(e, BaseException)]


def _classify_one(error: BaseException) -> StorageFault | None:
    if isinstance(error, OSError) and error.errno is not None:
        return FAULT_BY_ERRNO.get(error.errno)
    code = getattr(error, "sqlite_errorcode", None)
    known = FAULT_BY_SQLITE_CODE.get(code & 0xFF) if isinstance(code, int) else None
    return known or classify_storage_text(str(error))


def classify_storage_text(text: str, folder: Path | None = None) -> StorageFault | None:
    """The same for what another program printed.

    `folder`: whose disk is looked at if the trouble may come from it, but the text does not say so.
    """
    lower = text.lower()
    fault = next((fault for words, fault in FAULT_BY_WORDS.items() if words in lower), None)
    if fault is None and folder and any(words in lower for words in DOUBTFUL_WORDS):
        return classify_disk(folder)
    return fault


def classify_disk(folder: Path) -> StorageFault | None:
    """Whether the disk of `folder` is full or read-only now."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    if disk.f_flag & os.ST_RDONLY:
        return "read_only"
    return "full" if disk.f_bavail * disk.f_frsize < LEAST_FREE_BYTES else None


def explain_storage_error(error: BaseException, folder: Path | None = None) -> str | None:
    """One sentence for an error of storage; None for any other. `folder`: as in `classify_storage_text`."""
    fault = classify_storage_error(error) or classify_storage_text(str(error), folder)
    if fault is None:
        return None
    place = next((e.filename for e in _chain(error) if isinstance(e, OSError) and e.filename), None)
    sentence = STORAGE_SENTENCES[fault]
    return f"{os.fsdecode(place)}: {sentence}." if place else f"{sentence[0].upper()}{sentence[1:]}."
