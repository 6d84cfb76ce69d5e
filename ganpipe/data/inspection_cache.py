"""A cache of inspected files (SQLite, may be deleted), so that no file is decoded twice.

One SQLite file in the workspace's state, shared by its datasets; it may be deleted at any time. A file is known by
its stamp (device, inode, size, times of change), an image by the SHA-256 of its bytes.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import PIL

from ganpipe.data.inspect import Facts, Inspected
from ganpipe.errors import classify_storage_error, explain_storage_error
from ganpipe.imaging.decode import FORMATS
from ganpipe.imaging.image import RejectedImage

log = logging.getLogger(__name__)

RULES = (
    f"2 {PIL.__version__} {FORMATS}"  # verdicts and facts depend on it; if it changes, the cache is cleared
)
# Rejections that may not repeat; the last one depends on a setting.
PASSING = ("time", "memory", "crash", "unreadable", "too_many_pixels")
COMMIT_EVERY_S = 1.0
LOCK_WAIT_S = 60.0
SCHEMA = """
create table if not exists rules (number text);
create table if not exists files (
    stamp text primary key, sha256 text, code text, sentence text) without rowid;
create table if not exists images (
    sha256 text primary key, bytes integer, suffix text, width_px integer, height_px integer, channels integer,
    gray integer, brightness real, sharpness real, phash blob) without rowid;
"""


def _open_database(path: Path | None) -> sqlite3.Connection:
    """The database in a file, or in memory; what older rules found is forgotten."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path or ":memory:", timeout=LOCK_WAIT_S, check_same_thread=False)
    try:
        database.execute("pragma journal_mode=wal")
        database.execute("pragma synchronous=normal")
        database.executescript(SCHEMA)
        if database.execute("select number from rules").fetchone() != (RULES,):
            for table in ("rules", "files", "images"):
                database.execute(f"delete from {table}")  # noqa: S608
            database.execute("insert into rules values (?)", (RULES,))
            database.commit()
    except BaseException:
        database.close()
        raise
    return database


class InspectionCache:
    """Verdicts on files by stamp, and facts of images by hash.

    A damaged file is deleted: what it knew can be found out again. If the file is locked, or its disk is full or
    read-only, the file stays as it is, and what is found out is known until this process ends.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        try:
            self._database = _open_database(path)
        except (sqlite3.Error, OSError) as error:
            self._replace_database(error)
        self._committed = time.monotonic()

    def _replace_database(self, error: Exception) -> None:
        """Goes on with an empty database after an error of the file's."""
        if self.path is None:
            raise error
        if classify_storage_error(error) == "damaged":
            log.warning("The cache %s is damaged (%s); it is made again.", self.path, error)
            with suppress(sqlite3.Error, OSError):
                for end in ("", "-wal", "-shm"):
                    self.path.with_name(self.path.name + end).unlink(missing_ok=True)
                self._database = _open_database(self.path)
                return
        why = (explain_storage_error(error, self.path.parent) or str(error)).rstrip(".")
        log.warning("The cache %s is not used this time: %s.", self.path, why)
        self.path, self._database = None, _open_database(None)

    def _run(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of a statement; after an error of the file's, of an empty database."""
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            self._recover(error)
            return self._database.execute(statement, values).fetchall()

    def _commit(self) -> None:
        try:
            self._database.commit()
        except sqlite3.Error as error:
            self._recover(error)

    def _recover(self, error: sqlite3.Error) -> None:
        if type(error) not in (sqlite3.DatabaseError, sqlite3.OperationalError):  # a mistake of ours
            raise error
        with suppress(sqlite3.Error):
            self._database.close()
        self._replace_database(error)

    def __enter__(self) -> InspectionCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._commit()
        self._database.close()

    def verdict(self, stamp: str | None) -> Inspected | RejectedImage | None:
        """The result for the file with this stamp; None if it was never inspected."""
        if stamp is None:
            return None
        rows = self._run("select sha256, code, sentence from files where stamp = ?", (stamp,))
        if not rows:
            return None
        sha256, code, sentence = rows[0]
        if code in PASSING:  # as an earlier version remembered it
            return None
        return self.image(sha256) if sha256 else RejectedImage(code, sentence)

    def image(self, sha256: str) -> Inspected | None:
        """The image with this hash; None if unknown."""
        rows = self._run("select * from images where sha256 = ?", (sha256,))
        if not rows:
            return None
        row = rows[0]
        return Inspected(row[0], row[1], row[2], Facts(row[3], row[4], row[5], bool(row[6]), *row[7:]))

    def facts(self, hashes: Iterable[str]) -> dict[str, Facts]:
        """Facts by hash of the known images."""
        found = ((sha256, self.image(sha256)) for sha256 in hashes)
        return {sha256: image.facts for sha256, image in found if image is not None}

    def remember(self, stamp: str | None, result: Inspected | RejectedImage) -> None:
        """Stores a verdict; commits about once per second."""
        if isinstance(result, RejectedImage):
            if result.code in PASSING:
                return
            row = ("", result.code, result.sentence)
        else:
            row = (result.sha256, "", "")
            f = result.facts
            self._run(
                "insert or replace into images values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    result.sha256,
                    result.bytes,
                    result.suffix,
                    f.width_px,
                    f.height_px,
                    f.channels,
                    int(f.gray),
                    f.brightness,
                    f.sharpness,
                    f.phash,
                ),
            )
        if stamp is not None:
            self._run("insert or replace into files values (?, ?, ?, ?)", (stamp, *row))
        if time.monotonic() - self._committed > COMMIT_EVERY_S:
            self._commit()
            self._committed = time.monotonic()
