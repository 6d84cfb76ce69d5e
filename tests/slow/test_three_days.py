"""Slow: three days of `ganpipe up`, with a clock that the test sets: what ran is what was expected, item by item."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ganpipe.files import read_json
from ganpipe.settings.schedules import BY_HAND, ON_NEW_DATA
from ganpipe.stores.workspace import Workspace
from tests.conftest import fill_folder, noise_image
from tests.slow.clock import Clock
from tests.slow.processes import LONG, Up, overrides_of, rows, soon

BERLIN = ZoneInfo("Europe/Berlin")
FRIDAY = datetime(2026, 3, 27, tzinfo=BERLIN)
DAYS = ("Fri", "Sat", "Sun", "Mon")
COMPILER = shutil.which("cc")
SCHEDULES = (
    "name: nightly, cron: 30 2 * * *",
    "name: photos, cron: 0 6 * * *, work: stylize",
    "name: verify, cron: 0 20 * * *, timezone: America/New_York, work: verify-data",
    "name: room, interval: 6h, work: gc",
)
WATCH = ("watch.quiet_s=2", "watch.min_new_images=3", "watch.min_changed_percent=0", "watch.at_most_every=6h")
ENDED = ("COMPLETED", "CANCELLED", "FAILED", "CRASHED")
Item = tuple[str, str, str]  # when it came due in Berlin, its deployment, the name of its last state

# On Sunday the clocks go forward: 02:30 is not there, and 20:00 in New York is 01:00 before it and 02:00 after it.
EXPECTED: list[Item] = [
    ("Fri 18:00", ON_NEW_DATA, "Skipped"),  # for what came while no `up` ran: there is no dataset yet
    ("Fri 20:00", ON_NEW_DATA, "Completed"),
    ("Sat 00:00", "room", "Completed"),
    ("Sat 01:00", "verify", "Completed"),
    ("Sat 02:30", "nightly", "Up to date"),
    ("Sat 06:00", "photos", "Up to date"),
    ("Sat 06:00", "room", "Completed"),
    ("Sat 10:00", ON_NEW_DATA, "Skipped"),  # two new images are too few
    ("Sat 11:00", ON_NEW_DATA, "Completed"),
    ("Sat 12:00", "room", "Completed"),
    ("Sat 13:00", ON_NEW_DATA, "Skipped"),  # too early, and planned for 17:00
    ("Sat 17:00", ON_NEW_DATA, "Completed"),
    ("Sat 18:00", "room", "Completed"),
    ("Sun 00:00", "room", "Completed"),
    ("Sun 01:00", "verify", "Completed"),
    ("Sun 01:30", "nightly", "Up to date"),  # what Prefect makes of 02:30
    # photos are paused from 05:00 to 15:00, and nightly from then on
    ("Sun 07:00", "room", "Completed"),
    ("Sun 10:00", BY_HAND, "Cancelled"),
    ("Sun 11:00", ON_NEW_DATA, "Skipped"),  # `up` starts again
    ("Sun 13:00", "room", "Completed"),
    ("Sun 19:00", "room", "Completed"),
    ("Sun 22:00", BY_HAND, "Completed"),  # interrupted by the end of `up`, and resumed on Monday
    # `up` does not run until Monday, 20:00
    ("Mon 01:00", "room", "Skipped"),
    ("Mon 02:00", "verify", "Completed"),
    ("Mon 06:00", "photos", "Up to date"),
    ("Mon 07:00", "room", "Skipped"),
    ("Mon 13:00", "room", "Completed"),
    ("Mon 20:00", ON_NEW_DATA, "Skipped"),
]


def moment(text: str) -> datetime:
    """The time that "Sat 10:00" means."""
    day, clock = text.split()
    hour, minute = map(int, clock.split(":"))
    return (FRIDAY + timedelta(days=DAYS.index(day))).replace(hour=hour, minute=minute)


@dataclass
class Days:
    """A workspace, its watched folder, and the clock of its processes. `now`: what the clock was last set to."""

    workspace: Workspace
    folder: Path
    scratch: Path
    clock: Clock
    now: datetime

    @contextmanager
    def up(self) -> Iterator[Up]:
        """`ganpipe up`, stopped as by Ctrl-C at the end of the block."""
        words = [word for entry in SCHEDULES for word in ("--schedule", entry)]
        words += [word for entry in WATCH for word in ("--set", entry)]
        words += ["--watch", str(self.folder)]
        variables = self.clock.environment() | {"TZ": BERLIN.key}
        running = Up(self.workspace, "noise", self.scratch, words=words, **variables)
        try:
            yield running
        finally:
            running.process.send_signal(signal.SIGINT)
            running.process.wait(120)

    def set_clock(self, text: str) -> None:
        """Goes to a time at once."""
        self.now = moment(text)
        self.clock.go_to(self.now + timedelta(seconds=1))

    def pass_until(self, text: str) -> None:
        """Goes from one expected run to the next, and waits each time until what ran is what was expected."""
        for when in dict.fromkeys(when for when, *_ in EXPECTED):
            if self.now < moment(when) < moment(text):
                self.set_clock(when)
                self.check()
        self.set_clock(text)

    def check(self) -> None:
        """Waits until everything that has come due has ended, and checks that it is what was expected."""
        expected = [item for item in EXPECTED if moment(item[0]) <= self.now]
        soon(lambda: len(self.ran()) >= len(expected) and not self.open_runs(), within_s=900)
        assert self.ran() == expected

    def ran(self) -> list[Item]:
        """Lists the runs that have come due until now, in half hours: what an event starts is some seconds later."""
        found = [
            (datetime.fromisoformat(due).replace(tzinfo=UTC).astimezone(BERLIN), deployment, state)
            for due, deployment, state in self._runs("f.state_name")
        ]
        past = [item for item in found if item[0] < self.now + timedelta(minutes=30)]
        half_hours = [
            (due.replace(minute=due.minute // 30 * 30, second=0, microsecond=0), *rest) for due, *rest in past
        ]
        return [(f"{due:%a %H:%M}", *rest) for due, *rest in sorted(half_hours)]

    def open_runs(self) -> list[tuple[str, ...]]:
        """The runs that are due and have not ended."""
        limit = f"{(self.now + timedelta(minutes=30)).astimezone(UTC):%Y-%m-%d %H:%M}"
        return [run for run in self._runs("f.state_type") if run[0] < limit and run[2] not in ENDED]

    def _runs(self, column: str) -> list[tuple[str, ...]]:
        query = f"SELECT f.expected_start_time, d.name, {column} FROM flow_run f JOIN deployment d ON d.id = f.deployment_id"  # noqa: S608
        return rows(self.workspace.state / "prefect" / "prefect.db", query)

    def trainings(self) -> list[str]:
        """The states of all trainings."""
        return [read_json(path)["state"] for path in self.workspace.runs.glob("*/run.json")]

    def add_images(self, count: int) -> None:
        """Copies new images into the watched folder."""
        present = len(list(self.folder.iterdir()))
        for seed in range(present, present + count):
            noise_image(10_000 + seed, (16, 16)).save(self.folder / f"{seed}-later.png")


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C compiler, which builds the test's clock")
def test_what_ran_in_three_days_is_what_was_expected(workspace: Workspace, tmp_path: Path) -> None:
    folder, start = tmp_path / "watched", moment("Fri 18:00")
    folder.mkdir()
    days = Days(workspace, folder, tmp_path, Clock(str(COMPILER), tmp_path, start), start)
    with days.up() as up:
        days.check()
        days.set_clock("Fri 20:00")
        fill_folder(folder, 150)
        days.check()
        for at, images in (("Sat 10:00", 2), ("Sat 11:00", 2), ("Sat 13:00", 4)):
            days.pass_until(at)
            days.add_images(images)
            days.check()
        days.pass_until("Sun 05:00")
        photos = f"/deployments/{up.deployment('ganpipe-stylize-settings/photos')}"
        assert up.ask(f"{photos}/pause_deployment", {})[0] == 200
        days.pass_until("Sun 10:00")
        cancelled = up.start_run(overrides=overrides_of(LONG))
        soon(lambda: "running" in days.trainings())
        assert up.ask(f"/flow_runs/{cancelled}/set_state", {"state": {"type": "CANCELLING"}})[0] == 201
        days.check()
    days.set_clock("Sun 11:00")
    with days.up() as up:
        days.check()
        days.pass_until("Sun 15:00")
        assert up.ask(f"{photos}/resume_deployment", {})[0] == 200
        nightly = f"/deployments/{up.deployment('ganpipe/nightly')}"
        assert up.ask(f"{nightly}/pause_deployment", {})[0] == 200
        days.pass_until("Sun 22:00")
        up.start_run(overrides=overrides_of(LONG | {"training.total_images": 40_000}))
        soon(lambda: "running" in days.trainings())
    assert "interrupted" in days.trainings()
    days.set_clock("Mon 20:00")
    with days.up():
        days.check()
