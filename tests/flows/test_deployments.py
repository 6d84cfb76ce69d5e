"""The table of deployments, as Prefect and `ganpipe up` see it."""

from __future__ import annotations

import inspect
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from flows.deployments import DEPLOYMENTS, RETRAIN, local_schedule
from ganpipe.commands.operations import WATCHED
from ganpipe.services.timezone import describe_timezone
from ganpipe.stages.requests import RunRequest


def test_every_row_gives_its_flow_parameters_that_it_takes() -> None:
    request = RunRequest("/w", "cats", "demo", ["training.seed=3"])
    for row in DEPLOYMENTS:
        parameters = row.parameters(request)
        assert set(parameters) <= set(inspect.signature(row.flow.fn).parameters), row.name
        assert parameters["workspace"] == "/w"
    assert RETRAIN.parameters(request)["overrides"] == ["training.seed=3"]


def test_new_images_run_a_row_of_the_table() -> None:
    """`ganpipe up` names it without importing Prefect."""
    assert WATCHED in {row.full_name for row in DEPLOYMENTS}
    assert len({row.full_name for row in DEPLOYMENTS}) == len(DEPLOYMENTS)


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
def test_a_cron_line_is_in_local_time(monkeypatch: pytest.MonkeyPatch, variable: str, expected: str) -> None:
    monkeypatch.setenv("TZ", variable)
    assert local_schedule("0 2 * * *").timezone == expected


def test_a_schedule_follows_summer_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    zone = ZoneInfo(str(local_schedule("0 2 * * *").timezone))
    offsets = {datetime(2026, month, 1, tzinfo=zone).utcoffset() for month in (1, 7)}
    assert len(offsets) == 2
    assert describe_timezone() in {f"America/Los_Angeles, now UTC-{hours}:00" for hours in ("07", "08")}
