"""A cache of inspected files (SQLite, may be deleted), so that no file is decoded twice.

One SQLite file in the workspace's state, shared by its datasets; it may be deleted at any time. A file is known by
its stamp (device, inode, size, times of change), an image by the SHA-256 of its bytes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import PIL

from ganpipe.data.inspect import Facts, Inspected
from ganpipe.imaging.decode import FORMATS
from ganpipe.imaging.image import RejectedImage

RULES = (
    f"1 {PIL.__version__} {FORMATS}"  # verdicts and facts depend on it; if it changes, the cache is cleared
)
PASSING = ("time", "memory", "crash", "unreadable")  # rejections that may not repeat
COMMIT_EVERY_S = 1.0
SCHEMA = """
create table if not exists rules (number text);
create table if not exists files (
    stamp text primary key, sha256 text, code text, sentence text) without rowid;
create table if not exists images (
    sha256 text primary key, bytes integer, suffix text, width_px integer, height_px integer, channels integer,
    gray integer, brightness real, sharpness real, phash blob) without rowid;
"""


class InspectionCache:
    """Verdicts on files by stamp, and facts of images by hash."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = self._open_database()
        except sqlite3.DatabaseError:  # damaged: start again, all entries can be recomputed
            assert path is not None
            for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
                file.unlink(missing_ok=True)
            self._database = self._open_database()
        self._committed = time.monotonic()

    def _open_database(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path or ":memory:", timeout=60, check_same_thread=False)
        database.execute("pragma journal_mode=wal")
        database.execute("pragma synchronous=normal")
        database.executescript(SCHEMA)
        if database.execute("select number from rules").fetchone() != (RULES,):
            for table in ("rules", "files", "images"):
                database.execute(f"delete from {table}")  # noqa: S608
            database.execute("insert into rules values (?)", (RULES,))
            database.commit()
        return database

    def __enter__(self) -> InspectionCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(sqlite3.Error):
            self._database.commit()
        self._database.close()

    def verdict(self, stamp: str | None) -> Inspected | RejectedImage | None:
        """The result for the file with this stamp; None if it was never inspected."""
        if stamp is None:
            return None
        row = self._database.execute(
            "select sha256, code, sentence from files where stamp = ?", (stamp,)
        ).fetchone()
        if row is None:
            return None
        return self.image(row[0]) if row[0] else RejectedImage(row[1], row[2])

    def image(self, sha256: str) -> Inspected | None:
        """The image with this hash; None if unknown."""
        row = self._database.execute("select * from images where sha256 = ?", (sha256,)).fetchone()
        if row is None:
            return None
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
            self._database.execute(
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
            self._database.execute("insert or replace into files values (?, ?, ?, ?)", (stamp, *row))
        if time.monotonic() - self._committed > COMMIT_EVERY_S:
            self._database.commit()
            self._committed = time.monotonic()
