"""Deployments: what runs when, with which parameters, and in which time zone."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import get_args
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from prefect.events import DeploymentEventTrigger
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.server.schemas import schedules as server_schedules

from flows import new_data
from flows.deployments import FLOWS, deployments_of, prefect_schedule
from flows.new_data import DEPLOYMENT
from flows.notices import tell_crash
from flows.turns import DOING, Skipped
from ganpipe.services.timezone import describe_timezone
from ganpipe.settings.events import UPDATED, resource_id
from ganpipe.settings.schedules import BY_HAND, FLOW_NAMES, FROM_GALLERY, Schedule, parse_schedule
from ganpipe.settings.schema import Work
from ganpipe.stages import retraining
from ganpipe.stages.last_day import SUBJECTS
from ganpipe.stages.requests import RunRequest
from ganpipe.stages.retraining import Decision
from ganpipe.stores.workspace import Workspace

REQUEST = RunRequest("/w", "cats", "demo", ["training.seed=3", "training.total_images=9"])
NIGHTLY = Schedule("nightly", cron="0 2 * * *", work="stylize", dataset="dogs")


def test_every_work_has_a_flow_and_a_word() -> None:
    assert set(FLOWS) == set(DOING) == set(SUBJECTS) == set(get_args(Work))
    assert {work: flow.name for work, flow in FLOWS.items()} == FLOW_NAMES


def test_every_deployment_gives_its_flow_parameters_that_it_takes() -> None:
    rows = deployments_of(REQUEST, [Schedule(work, interval_s=60, work=work) for work in FLOWS])
    assert len(rows) == len(FLOWS) + 2
    for row in rows:
        assert set(row.parameters) <= set(inspect.signature(row.flow.fn).parameters), row.name
        assert row.parameters["workspace"] == "/w"
        assert row.parameters["if_busy"] == ("wait" if row.name == FROM_GALLERY else "skip")


def test_a_schedule_has_its_own_dataset_and_settings() -> None:
    short = parse_schedule("name: short, interval: 1h, minutes: 5, settings: {training.seed: 4}")
    by_hand, nightly, hourly, _gallery = deployments_of(REQUEST, [NIGHTLY, short])
    assert (by_hand.parameters["dataset"], nightly.parameters["dataset"]) == ("cats", "dogs")
    assert by_hand.parameters["overrides"] == REQUEST.overrides
    assert hourly.parameters["overrides"] == ["training.seed=4", "training.minutes=5.0"]
    RunRequest("/nowhere", None, "demo", hourly.parameters["overrides"]).check_settings()


def test_there_is_always_one_deployment_for_runs_by_hand() -> None:
    for schedules in ([], [NIGHTLY], [Schedule(BY_HAND, cron="0 2 * * *")]):
        names = [row.full_name for row in deployments_of(REQUEST, schedules)]
        assert names.count(f"ganpipe/{BY_HAND}") == 1


def test_what_the_gallery_asks_for_waits_for_its_turn_and_needs_no_schedule() -> None:
    [row] = [row for row in deployments_of(REQUEST, []) if row.name == FROM_GALLERY]
    assert row.flow is FLOWS["stylize"]
    assert (row.schedule, row.triggers(), row.parameters["overrides"]) == (None, [], REQUEST.overrides)


def event_of(dataset: str) -> ReceivedEvent:
    """The event that a changed dataset sends, as the server receives it."""
    resource = {"prefect.resource.id": resource_id(dataset)}
    return ReceivedEvent(occurred=datetime.now(UTC), event=UPDATED, resource=resource, payload={}, id=uuid4())


def test_an_update_of_the_dataset_starts_the_deployment_for_new_data() -> None:
    assert not any(row.triggers() for row in deployments_of(REQUEST, [NIGHTLY]))
    [row] = [row for row in deployments_of(REQUEST, [NIGHTLY], on_new_data=True) if row.triggers()]
    assert row.full_name == DEPLOYMENT
    assert (row.parameters["if_busy"], row.parameters["by_rule"]) == ("next", True)
    assert set(row.parameters) <= set(inspect.signature(row.flow.fn).parameters)
    [trigger] = row.triggers()
    assert isinstance(trigger, DeploymentEventTrigger)
    trigger.set_deployment_id(uuid4())
    wanted = EventTrigger.model_validate(trigger.as_automation().trigger.model_dump())
    assert wanted.covers(event_of("cats"))
    assert not wanted.covers(event_of("dogs"))


def test_a_run_that_is_not_worth_it_is_skipped_and_one_that_is_too_early_is_planned_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[tuple[object, str]] = []
    monkeypatch.setattr(new_data, "plan_run", lambda at, key: planned.append((at, key)))
    answers = {
        "worth": Decision("cats", "v", True, "9 new images"),
        "few": Decision("cats", "v", False, "not worth retraining yet: 3 of 50 new images"),
        "early": Decision(
            "cats", "v", False, "at most", not_before="2026-11-29T13:00:00+00:00", started="noon"
        ),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(retraining, "decide", lambda *_, answer=answer: answer)
        request = RunRequest(str(workspace.root), "cats")
        if name == "worth":
            new_data.require_worth(workspace, request)
        else:
            with pytest.raises(Skipped, match=f"^{answer.reason}$"):
                new_data.require_worth(workspace, request)
    assert planned == [(datetime(2026, 11, 29, 13, tzinfo=UTC), "cats after noon")]


def times(schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    """The next times of a schedule, as Prefect's server computes them."""
    ours = prefect_schedule(schedule)
    if ours.cron:
        known = server_schedules.CronSchedule(cron=ours.cron, timezone=ours.timezone)
        return list(asyncio.run(known.get_dates(count, start=after)))
    every = server_schedules.IntervalSchedule(
        interval=ours.interval, anchor_date=ours.anchor_date, timezone=ours.timezone
    )
    return list(asyncio.run(every.get_dates(count, start=after)))


CHANGES = [
    ("Europe/Berlin", datetime(2027, 3, 26, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 23, tzinfo=UTC)),
    ("America/New_York", datetime(2027, 3, 12, 12, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 10, 30, 12, tzinfo=UTC)),
]


@pytest.mark.parametrize(("zone", "before"), CHANGES)
def test_a_daily_cron_line_keeps_its_hour_when_the_clock_changes(zone: str, before: datetime) -> None:
    found = times(Schedule("daily", cron="30 4 * * *", timezone=zone), before, 4)
    local = [moment.astimezone(ZoneInfo(zone)) for moment in found]
    assert len({moment.utcoffset() for moment in local}) == 2, "the clock changes between them"
    assert {(moment.hour, moment.minute) for moment in local} == {(4, 30)}
    assert len({moment.date() for moment in local}) == 4


@pytest.mark.parametrize(("zone", "before"), CHANGES)
@pytest.mark.parametrize("words", [{"cron": "30 1 * * *"}, {"cron": "30 2 * * *"}, {"interval_s": 86400}])
def test_an_hour_that_is_there_twice_or_never_has_one_run_a_day(
    zone: str, before: datetime, words: dict[str, object]
) -> None:
    found = times(Schedule("daily", timezone=zone, **words), before, 4)  # type: ignore[arg-type]
    gaps: Sequence[timedelta] = [b - a for a, b in pairwise(found)]
    assert all(timedelta(hours=22) <= gap <= timedelta(hours=26) for gap in gaps), found
    assert len({moment.astimezone(ZoneInfo(zone)).date() for moment in found}) == 4


def test_a_restart_shifts_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    every = Schedule("n", interval_s=6 * 3600)
    first, again = prefect_schedule(every), prefect_schedule(every)
    assert first.anchor_date == again.anchor_date
    found = times(every, datetime(2026, 11, 29, 1, tzinfo=UTC), 4)
    assert [moment.astimezone(ZoneInfo("Europe/Berlin")).hour for moment in found] == [6, 12, 18, 0]


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("America/Los_Angeles", "America/Los_Angeles"),
        (":Europe/Berlin", "Europe/Berlin"),
        ("UTC", "UTC"),
        ("<+03>-3", "UTC"),  # a zone without a name
        ("No/Where", "UTC"),
    ],
)
def test_a_schedule_without_a_zone_is_in_local_time(
    monkeypatch: pytest.MonkeyPatch, variable: str, expected: str
) -> None:
    monkeypatch.setenv("TZ", variable)
    assert prefect_schedule(NIGHTLY).timezone == expected
    assert prefect_schedule(Schedule("n", interval_s=60)).timezone == expected


def test_the_local_zone_is_told_with_its_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    assert describe_timezone() in {f"America/Los_Angeles, now UTC-{hours}:00" for hours in ("07", "08")}


def test_every_deployed_flow_tells_of_its_crash() -> None:
    for name, flow in FLOWS.items():
        assert flow.on_crashed_hooks == [tell_crash], name
