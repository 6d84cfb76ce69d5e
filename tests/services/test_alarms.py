"""Notifications of `ganpipe up` when nothing happens any more."""

from __future__ import annotations

import shutil
from collections import namedtuple
from datetime import UTC, datetime, timedelta

import pytest

from ganpipe.services import alarms
from ganpipe.services.alarms import Alarms
from ganpipe.services.notifications import Notification
from ganpipe.settings.schedules import FROM_GALLERY, Schedule
from ganpipe.stores.successes import last_success, note_success
from ganpipe.stores.workspace import Workspace

NIGHTLY = Schedule("nightly", cron="0 2 * * *")
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Notification]:
    """The notifications instead of their delivery."""
    found: list[Notification] = []
    monkeypatch.setattr(alarms, "notify", lambda workspace, notification, wait_s: found.append(notification))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 100 * 2**30))
    return found


def test_a_schedule_without_success_is_told_once_and_again_after_a_success(
    workspace: Workspace, told: list[Notification]
) -> None:
    watched, now = Alarms(workspace, [NIGHTLY], "cats"), datetime.now(UTC)
    note_success(workspace, "retrain", "dogs")  # another schedule
    note_success(workspace, "stylize", "nightly")
    for days in (0, 2):
        watched.check(now + timedelta(days=days, hours=1))
    assert told == [], "it has only begun"
    for days in (3, 4):
        watched.check(now + timedelta(days=days, hours=1))
    assert [n.sentence for n in told] == ["Schedule nightly (retrain) has had no success for 3 days."]
    note_success(workspace, "retrain", "nightly")
    watched.check(now + timedelta(days=2))
    watched.check(now + timedelta(days=9))
    assert [n.events for n in told] == [("overdue",)] * 2


def test_a_success_long_ago_is_told_at_once_and_a_damaged_note_is_none(
    workspace: Workspace, told: list[Notification]
) -> None:
    note_success(workspace, "retrain", "nightly")
    at = last_success(workspace, "retrain", "nightly")
    assert at is not None
    assert abs(at - datetime.now(UTC)) < timedelta(seconds=10)
    Alarms(workspace, [NIGHTLY], "cats").check(at + timedelta(days=5))
    assert len(told) == 1
    (workspace.state / "successes.json").write_text("{")
    assert last_success(workspace, "retrain", "nightly") is None


def test_a_stylization_from_the_gallery_does_not_hide_that_the_scheduled_one_fails(
    workspace: Workspace, told: list[Notification]
) -> None:
    watched, now = (
        Alarms(workspace, [Schedule("photos", interval_s=3600, work="stylize")], "cats"),
        datetime.now(UTC),
    )
    note_success(workspace, "stylize", FROM_GALLERY)
    watched.check(now + timedelta(days=3, hours=1))
    assert [n.sentence for n in told] == ["Schedule photos (stylize) has had no success for 3 days."]


def test_a_full_disk_is_told_once_until_there_is_room_again(
    workspace: Workspace, told: list[Notification], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, now = Alarms(workspace, [], "cats"), datetime.now(UTC)
    for free_gib in (100, 4, 3, 6, 2):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free_gib: Usage(0, 0, free * 2**30))
        watched.check(now)
    assert [n.events for n in told] == [("disk",)] * 2
    assert "has 4.0 GiB free" in told[0].sentence


def test_a_params_file_that_is_being_edited_ends_nothing(
    workspace: Workspace, told: list[Notification], capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.params_file.write_text("notify: [")
    Alarms(workspace, [NIGHTLY], "cats").watch()
    assert "is not valid YAML" in capsys.readouterr().err
