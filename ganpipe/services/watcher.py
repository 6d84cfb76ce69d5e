"""The watched folder of `ganpipe up`: what is in it, and what arrives, is imported into a dataset.

The folder is looked at again and again, by names, sizes and times. This works on network drives, too, which tell no
changes, and it is all that is needed when a folder was away and is back.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ganpipe.console import say
from ganpipe.data.sources.labels import is_annotation, is_shard_name
from ganpipe.errors import redact
from ganpipe.imaging.paths import is_image_name, is_meant
from ganpipe.imaging.provenance import origin_kind
from ganpipe.settings.schema import WatchSettings

POLL_S, LONGEST_POLL_S = 2.0, 60.0
LISTING_SHARE = 0.02  # of the time is spent on listing a large folder
RETRY_S, LONGEST_RETRY_S = 60.0, 3600.0  # after an import that failed; twice as long each time

Stamp = tuple[int, int]  # size, time of change in nanoseconds
Files = dict[str, Stamp]


def list_files(folder: Path) -> Files | None:
    """Every file below `folder` that `data add` would read, by its name in it; None if there is no such folder.

    A folder below it that cannot be read is left out: `data add` reports it.
    """
    found, waiting, seen = Files(), [""], set[tuple[int, int]]()
    while waiting:
        inside = waiting.pop()
        try:
            info = os.stat(os.path.join(folder, inside))
            if (info.st_dev, info.st_ino) in seen:  # a link that leads back
                continue
            seen.add((info.st_dev, info.st_ino))
            entries = list(os.scandir(os.path.join(folder, inside)))
        except OSError:
            if not inside:
                return None
            continue
        for entry in entries:
            name = os.path.join(inside, entry.name)
            try:
                info = entry.stat()
            except OSError:  # it has gone, or is a broken link
                continue
            if stat.S_ISDIR(info.st_mode):
                waiting += [name] if is_meant(folder, os.path.join(name, "x")) else []
            elif is_read(name) and is_meant(folder, name):
                found[name] = (info.st_size, info.st_mtime_ns)
    return found


def is_read(name: str) -> bool:
    """Whether `data add` reads a file of this name: an image, a shard or a file of labels. `a.jpg.part` is none."""
    return is_image_name(name) or is_shard_name(name) or is_annotation(name)


@dataclass
class FolderWatch:
    """Decides when a folder is imported: when nothing in it has changed for `watch.quiet_s`, or, if it is never quiet, when
    `watch.at_most_every` has passed.

    `import_folder` takes the names of files that still change; False: it has failed, and is tried again. `tell` hears when
    the folder goes away and comes back. `now` gives seconds.
    """

    folder: Path
    settings: WatchSettings
    import_folder: Callable[[frozenset[str]], bool]
    tell: Callable[[str], None] = say
    now: Callable[[], float] = time.monotonic
    away: bool = False
    seen: Files = field(default_factory=dict)
    imported: Files = field(default_factory=dict)
    changed_at: dict[str, float] = field(default_factory=dict)
    quiet_since: float = 0.0
    pending_since: float | None = None
    retry_at: float = 0.0
    retry_s: float = RETRY_S
    poll_s: float = POLL_S  # until the next look

    def look(self) -> None:
        """Looks at the folder once, and imports it if that is due."""
        started = time.monotonic()
        found = list_files(self.folder)
        self.poll_s = min(LONGEST_POLL_S, max(POLL_S, (time.monotonic() - started) / LISTING_SHARE))
        if found is None or (self.imported and not found):
            self._note_away(found is None)
            return
        if self.away:
            self.away = False
            self.tell(f"{self.folder} is back and is watched again.")
        now = self.now()
        self._compare(found, now)
        pending = self._find_pending()
        if not pending:
            self.pending_since = None
            return
        if self.pending_since is None:
            self.pending_since = now
        arriving = {name for name, at in self.changed_at.items() if now - at < self.settings.quiet_s}
        quiet = now - self.quiet_since >= self.settings.quiet_s
        overdue = now - self.pending_since >= self.settings.at_most_every_s() and not pending <= arriving
        if now >= self.retry_at and (quiet or overdue):
            self._import(pending, arriving)

    def _note_away(self, gone: bool) -> None:
        if not self.away:
            how = "is gone" if gone else "is empty now, as if its disk were not mounted"
            self.tell(f"{self.folder} {how}: no image is removed, and it is watched again when it is back.")
        self.away = True

    def _compare(self, found: Files, now: float) -> None:
        changed = {name for name, stamp in found.items() if self.seen.get(name) != stamp}
        gone = self.seen.keys() - found.keys()
        if changed or gone:
            self.quiet_since = now
        self.changed_at |= dict.fromkeys(changed, now)
        for name in gone:
            del self.changed_at[name]
        self.seen = found

    def _find_pending(self) -> set[str]:
        """The files that the dataset does not have as they are, and, of a mirror, those that it has and the folder has not."""
        found = {name for name, stamp in self.seen.items() if self.imported.get(name) != stamp}
        return found | (self.imported.keys() - self.seen.keys() if self.settings.mode == "mirror" else set())

    def _import(self, pending: set[str], arriving: set[str]) -> None:
        own = {name for name in pending if origin_kind(self.folder / name) is not None}
        is_news = not own or pending > own  # what ganpipe itself writes is none
        if is_news and not self.import_folder(frozenset(arriving)):
            self.retry_at = self.now() + self.retry_s
            self.retry_s = min(2 * self.retry_s, LONGEST_RETRY_S)
            return
        self.retry_s = RETRY_S
        self.imported = {name: stamp for name, stamp in self.seen.items() if name not in arriving}
        self.pending_since = None


def watch_folder(watch: FolderWatch, stop_now: threading.Event) -> None:
    """Looks at a folder until `stop_now` is set; at a large one less often, so that it costs little."""
    pause_s = 0.0
    while not stop_now.wait(pause_s):
        try:
            watch.look()
            pause_s = watch.poll_s
        except Exception as error:  # the watcher must outlive whatever a folder and a disk can do
            say(f"{watch.folder} could not be looked at ({redact(str(error))}); it is tried again.")
            pause_s = RETRY_S
