"""Schedules of `ganpipe up`, from `params.yaml` and from `--schedule`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import ValidationError

from ganpipe.errors import GanpipeError, nearest
from ganpipe.settings.schema import ScheduleSettings, Work, validated
from ganpipe.settings.validation import seconds_in, sentence, shown
from ganpipe.settings.yaml_files import parse_document

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))  # of an interval
KEYS = (*ScheduleSettings.model_fields, "settings")
BY_HAND = "scheduled"  # the deployment for runs that are started by hand
ON_NEW_DATA = "on new data"  # for runs that an event starts; no schedule can be called so
FLOW_NAMES: dict[Work, str] = {  # in Prefect
    "retrain": "ganpipe",
    "stylize": "ganpipe-stylize-settings",
    "evaluate-champion": "ganpipe-evaluate-champion",
    "verify-data": "ganpipe-verify-data",
    "gc": "ganpipe-gc",
}
FROM_GALLERY = "from the gallery"  # for photos and styles of the dashboard's gallery; nor so


@dataclass(frozen=True)
class Schedule:
    """When what runs. Exactly one of `cron` and `interval_s` is set; `timezone` None: the local one.

    `overrides`: settings, as `--set` takes them.
    """

    name: str
    cron: str | None = None
    interval_s: int | None = None
    timezone: str | None = None
    work: Work = "retrain"
    dataset: str | None = None
    overrides: tuple[str, ...] = ()

    def describe(self, local_zone: str) -> str:
        """Such as "nightly: retrain cats, at 02:00 every day (0 2 * * *, Europe/Berlin)". `local_zone`: if it names none."""
        when = describe_timing(self.cron, self.interval_s, self.timezone or local_zone)
        return f"{self.name}: {self.work} {self.dataset or ''}".rstrip() + f", {when}"


def describe_timing(cron: str | None, interval_s: float | None, zone: str | None) -> str:
    """When a schedule starts runs, in words, and the cron line itself and the time zone in brackets."""
    words = (_cron_in_words(cron) or cron) if cron else f"every {_in_largest_unit(interval_s or 0)}"
    beside = ", ".join(part for part in (cron if words != cron else None, zone) if part)
    return f"{words} ({beside})" if beside else words


def _cron_in_words(cron: str) -> str | None:
    """Such as "at 02:00 every day"; None if two readings of the line differ.

    Prefect starts a run if the day of the month or the day of the week fits when both are given, and reads a sixth field as
    seconds at the end.
    """
    from cronsim import CronSim, CronSimError

    fields = cron.split()
    if len(fields) != 5 or "*" not in (fields[2], fields[4]):
        return None
    try:
        words = CronSim(cron, datetime(2026, 1, 1)).explain()
    except CronSimError:
        return None
    return words[0].lower() + words[1:]


def _in_largest_unit(seconds: float) -> str:
    length, unit = next((row for row in UNITS if seconds % row[0] == 0), (1, "s"))
    return f"{seconds / length:g} {unit}"


def parse_schedules(entries: Any) -> tuple[Schedule, ...]:
    """The list `schedules` of `params.yaml`.

    Raises:
        GanpipeError: an unknown key, a value that is not allowed, or a name that stands twice.
    """
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise GanpipeError(f"schedules is {shown(entries)}; it must be a list of schedules.")
    return require_distinct(map(_parse_entry, entries))


def parse_schedule(text: str) -> Schedule:
    """One schedule of the command line: `{name: nightly, cron: "0 2 * * *", work: retrain}`, braces may be left out."""
    try:
        entry = parse_document(text if text.lstrip().startswith("{") else f"{{{text}}}")
    except (yaml.YAMLError, GanpipeError):
        entry = text
    return _parse_entry(entry)


def require_distinct(schedules: Iterable[Schedule]) -> tuple[Schedule, ...]:
    """The schedules; raises GanpipeError if a name stands twice."""
    found = tuple(schedules)
    names = [schedule.name for schedule in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise GanpipeError(f"Two schedules are named {twice}; give each a name of its own.")
    return found


def _parse_entry(entry: Any) -> Schedule:
    if not isinstance(entry, dict):
        raise GanpipeError(
            f"A schedule is {shown(entry)}; it must be like {{name: nightly, cron: 0 2 * * *, work: retrain}}."
        )
    if unknown := next((str(key) for key in entry if key not in KEYS), None):
        raise GanpipeError(f"Unknown key {unknown} of a schedule: {nearest(unknown, KEYS)}")
    given = {key: value for key, value in entry.items() if key != "settings" and value is not None}
    try:
        found = ScheduleSettings.model_validate(given)
    except ValidationError as invalid:
        fields = ScheduleSettings.model_fields
        keys = [(str(error["loc"][0]), error) for error in invalid.errors()]
        raise GanpipeError(
            " ".join(sentence(f"schedules.{key}", fields[key], error) for key, error in keys)
        ) from None
    return replace(_checked(found), overrides=_overrides(found, entry.get("settings")))


def _checked(given: ScheduleSettings) -> Schedule:
    if not NAME.fullmatch(given.name):
        raise GanpipeError(
            f"A schedule is named {given.name!r}; it needs a name of up to 64 letters, digits, '-' and '_'."
        )
    if bool(given.cron) == bool(given.interval):
        raise GanpipeError(f"Schedule {given.name} needs either cron or interval, not both.")
    if given.dataset and not NAME.fullmatch(given.dataset):
        raise GanpipeError(f"Schedule {given.name}: {given.dataset!r} cannot name a dataset.")
    if given.minutes and given.work != "retrain":
        raise GanpipeError(f"Schedule {given.name}: minutes are of work: retrain, not of {given.work}.")
    return Schedule(
        given.name,
        given.cron or None,
        _interval_s(given) if given.interval else None,
        _zone(given) if given.timezone else None,
        given.work,
        given.dataset or None,
    )


def _interval_s(given: ScheduleSettings) -> int:
    seconds = seconds_in(given.interval)
    if seconds is None:
        raise GanpipeError(
            f"Schedule {given.name}: interval is {given.interval!r}; expected a number and m, h or d, such as 30m or 6h."
        )
    return seconds


def _zone(given: ScheduleSettings) -> str:
    try:
        return ZoneInfo(given.timezone).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise GanpipeError(
            f"Schedule {given.name}: there is no time zone {given.timezone!r}; expected a name such as Europe/Berlin."
        ) from None


def _overrides(given: ScheduleSettings, settings: Any) -> tuple[str, ...]:
    """The entry's settings and minutes as `--set` takes them; sections may be nested or dotted."""
    if settings is not None and not isinstance(settings, dict):
        raise GanpipeError(f"Schedule {given.name}: settings is {shown(settings)}; it must hold settings.")
    flat: dict[str, Any] = {}
    for key, value in (settings or {}).items():
        flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {key: value}
    try:
        values = validated(flat)
    except GanpipeError as error:
        raise GanpipeError(f"Schedule {given.name}: {error}") from None
    if given.minutes:
        values["training.minutes"] = given.minutes
    return tuple(f"{key}={_text(value)}" for key, value in values.items())


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
