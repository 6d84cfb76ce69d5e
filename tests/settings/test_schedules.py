"""Schedules as people write them."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from ganpipe.commands.up import schedules_of
from ganpipe.errors import GanpipeError
from ganpipe.settings.params import read_params
from ganpipe.settings.schedules import BY_HAND, Schedule, describe_timing, parse_schedule
from ganpipe.stores.workspace import Workspace

PARAMS = """
schedules:
  - {name: nightly, cron: 0 2 * * *, timezone: Europe/Berlin, minutes: 30, dataset: cats}
  - name: hourly
    interval: 1h
    work: stylize
    settings:
      style: {steps: 4}
      training.horizontal_flip: true
"""


def test_params_yaml_holds_several(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS)
    assert read_params(tmp_path / "params.yaml").schedules == (
        Schedule(
            "nightly",
            cron="0 2 * * *",
            timezone="Europe/Berlin",
            dataset="cats",
            overrides=("training.minutes=30.0",),
        ),
        Schedule(
            "hourly",
            interval_s=3600,
            work="stylize",
            overrides=("style.steps=4", "training.horizontal_flip=true"),
        ),
    )


def test_the_command_line_adds_schedules_and_replaces_those_of_the_same_name(workspace: Workspace) -> None:
    workspace.params_file.write_text(PARAMS)
    given = Namespace(schedules=["name: hourly, interval: 2h"], cron="0 3 * * *")
    found = schedules_of(given, workspace)
    assert [(s.name, s.cron or s.interval_s) for s in found] == [
        ("nightly", "0 2 * * *"),
        (BY_HAND, "0 3 * * *"),
        ("hourly", 7200),
    ]
    assert found[2].work == "retrain"
    with pytest.raises(GanpipeError, match="Two schedules are named a"):
        schedules_of(Namespace(schedules=["name: a, interval: 2h"] * 2, cron=None), workspace)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello", "Unknown key hello of a schedule"),
        ("[1]", "it must be like"),
        ("name: x, cron: */5 * * * *", "it must be like"),  # an alias in YAML: it needs quotes
        ("nme: x", "did you mean name"),
        ("interval: 1h", "it needs a name"),
        ("name: ../x, interval: 1h", "it needs a name"),
        ("name: x", "needs either cron or interval"),
        ("name: x, cron: 0 2 * * *, interval: 1h", "needs either cron or interval"),
        ("name: x, interval: 1w", "expected a number and m, h or d"),
        ("name: x, interval: 0h", "expected a number and m, h or d"),
        ("name: x, interval: 1h, timezone: Mars/Olympus", "no time zone 'Mars/Olympus'"),
        ("name: x, interval: 1h, timezone: ../../etc/passwd", "no time zone"),
        ("name: x, interval: 1h, work: dream", "must be one of retrain, stylize"),
        ("name: x, interval: 1h, dataset: a/b", "cannot name a dataset"),
        ("name: x, interval: 1h, minutes: -1", "schedules.minutes is -1"),
        ("name: x, interval: 1h, work: stylize, minutes: 3", "minutes are of work: retrain"),
        ("name: x, interval: 1h, settings: 3", "it must hold settings"),
        ("name: x, interval: 1h, settings: {training.sed: 3}", "did you mean training.seed"),
        ("name: x, interval: 1h, settings: {style: {step: 3}}", "did you mean style.steps"),
    ],
)
def test_a_wrong_schedule_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(GanpipeError) as failure:
        parse_schedule(text)
    assert said in str(failure.value)


def test_a_wrong_list_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("schedules: nightly\n")
    with pytest.raises(GanpipeError, match=r"params.yaml: schedules is 'nightly'; it must be a list"):
        read_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("cron", "interval_s", "zone", "words"),
    [
        ("0 2 * * *", None, "Europe/Berlin", "at 02:00 every day (0 2 * * *, Europe/Berlin)"),
        ("0 4 * * 6", None, None, "at 04:00 on Saturday (0 4 * * 6)"),
        ("30 1 1 * *", None, None, "at 01:30 on the first day of every month (30 1 1 * *)"),
        ("0 2 1 * 1", None, "UTC", "0 2 1 * 1 (UTC)"),  # the first day of a month, or any Monday
        ("0 2 * * * 30", None, None, "0 2 * * * 30"),  # the last field: seconds
        ("@daily", None, None, "@daily"),
        ("0 2 * * MON-XYZ", None, None, "0 2 * * MON-XYZ"),
        (None, 21_600, "UTC", "every 6 h (UTC)"),
        (None, 172_800.0, None, "every 2 d"),
        (None, 90, None, "every 90 s"),
    ],
)
def test_a_schedule_says_in_words_when_it_starts_runs(
    cron: str | None, interval_s: float | None, zone: str | None, words: str
) -> None:
    assert describe_timing(cron, interval_s, zone) == words


def test_a_schedule_names_its_own_time_zone_or_the_local_one() -> None:
    nightly = Schedule("nightly", cron="0 2 * * *", dataset="cats")
    assert nightly.describe("UTC") == "nightly: retrain cats, at 02:00 every day (0 2 * * *, UTC)"
    berlin = Schedule("judge", interval_s=3600, timezone="Europe/Berlin", work="evaluate-champion")
    assert berlin.describe("UTC") == "judge: evaluate-champion, every 1 h (Europe/Berlin)"
