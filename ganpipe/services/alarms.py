"""Alarms of `ganpipe up`, beside its services: schedules without success for long, and a disk that is nearly full."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from ganpipe.console import say
from ganpipe.errors import GanpipeError
from ganpipe.services.notifications import Notification, notify
from ganpipe.settings.schedules import Schedule
from ganpipe.stores.successes import last_success
from ganpipe.stores.workspace import Workspace

CHECK_EVERY_S = 600.0


class Alarms:
    """Says what is wrong once, and again after it was well in between. `dataset`: of schedules that name none."""

    def __init__(self, workspace: Workspace, schedules: Sequence[Schedule], dataset: str) -> None:
        self.workspace, self.schedules, self.dataset = workspace, schedules, dataset
        self._told: set[str] = set()
        self._began, self._check_at = datetime.now(UTC), 0.0

    def watch(self) -> None:
        """Called again and again; looks once in CHECK_EVERY_S."""
        if time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + CHECK_EVERY_S
            try:
                self.check(datetime.now(UTC))
            except GanpipeError as error:  # such as a params.yaml that somebody is editing
                say(str(error))

    def check(self, now: datetime) -> None:
        """Looks at every schedule and at the disk."""
        settings = self.workspace.params().notify
        for schedule in self.schedules:
            dataset = schedule.dataset or self.dataset
            # A schedule that has never succeeded is not overdue at its first start.
            days = (now - (last_success(self.workspace, schedule.work, schedule.name) or self._began)).days
            is_overdue = 0 < settings.overdue_days <= days
            sentence = f"Schedule {schedule.name} ({schedule.work}) has had no success for {days} days."
            notification = Notification(("overdue",), dataset, sentence)
            self._tell(f"schedule {schedule.name}", notification, is_overdue)
        free_gib = shutil.disk_usage(self.workspace.root).free / 2**30
        hint = "`ganpipe gc --dry-run` shows what can be freed."
        sentence = f"The disk of {self.workspace.root} has {free_gib:.1f} GiB free. {hint}"
        self._tell("disk", Notification(("disk",), "disk", sentence), free_gib < settings.disk_free_gib)

    def _tell(self, what: str, notification: Notification, is_wrong: bool) -> None:
        if is_wrong and what not in self._told:
            self._told.add(what)
            say(notification.sentence)
            notify(self.workspace, notification, wait_s=0.0)
        elif not is_wrong:
            self._told.discard(what)
