"""Activities: what each process of the workspace does now, in a file of its own, for `ganpipe status` and the dashboard."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ganpipe.compute.process_identity import is_gone, this_process
from ganpipe.errors import GanpipeError
from ganpipe.files import read_dataclass, write_json
from ganpipe.progress import Progress, Report
from ganpipe.stores.workspace import Workspace

log = logging.getLogger(__name__)

WRITE_EVERY_S = 1.0

_numbers = itertools.count()  # shards of a batch may be stylized by several threads of one process


@dataclass(frozen=True)
class Activity:
    """One piece of work of a process.

    `subject`: the run, or the folder of a batch. `waits_for`: a sentence that names who keeps it waiting; None if it works.
    """

    process: str  # process_identity
    subject: str
    began_at: float  # seconds since 1970
    told_at: float
    progress: Progress | None = None
    waits_for: str | None = None

    @property
    def pid(self) -> int:
        """The number of the process on its machine."""
        return int(self.process.split("/")[2])


class ActivityReport:
    """A report that keeps the file of an activity up to date, at most once in WRITE_EVERY_S, and passes each report on."""

    def __init__(self, path: Path, subject: str, report: Report) -> None:
        self.path, self.subject, self.report = path, subject, report
        self.began_at, self._stage, self._written = time.time(), "", 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.stage != self._stage or now - self._written >= WRITE_EVERY_S:
            self._stage, self._written = progress.stage, now
            self._write(progress)
        self.report(progress)

    def waits_for(self, sentence: str) -> None:
        """Says who keeps this process waiting, until the next report of progress."""
        log.warning(sentence)
        self._stage = ""
        self._write(None, sentence)

    def _write(self, progress: Progress | None, waits_for: str | None = None) -> None:
        told = Activity(this_process(), self.subject, self.began_at, time.time(), progress, waits_for)
        if not self.path.parent.parent.is_dir():
            return  # a shard of a batch on another machine, which has no workspace
        with suppress(GanpipeError):  # a full disk: the work itself will say so, if it needs room
            write_json(self.path, told)


@contextmanager
def record_activity(workspace: Workspace, subject: str, report: Report) -> Iterator[ActivityReport]:
    """A report whose latest is found by `read_activities` while the block lasts."""
    path = activities_folder(workspace) / f"activity-{os.getpid()}-{next(_numbers)}.json"
    try:
        yield ActivityReport(path, subject, report)
    finally:
        path.unlink(missing_ok=True)


def read_activities(workspace: Workspace) -> list[Activity]:
    """The activities of living processes, the oldest first; what a killed one has left is passed over."""
    found = []
    for path in activities_folder(workspace).glob("activity-*.json"):
        with suppress(GanpipeError):  # it has just ended
            activity = read_dataclass(path, Activity)
            if not is_gone(activity.process):
                found.append(activity)
    return sorted(found, key=lambda activity: activity.began_at)


def activities_folder(workspace: Workspace) -> Path:
    """The folder of the files; `leftovers` deletes those of killed processes."""
    return workspace.state / "activities"
