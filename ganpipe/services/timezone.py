"""The time zone in which a cron line is read: the machine's, as people mean it."""

from __future__ import annotations

import logging
import warnings
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

log = logging.getLogger(__name__)


def local_timezone() -> str:
    """The IANA name of the local time zone (TZ, or the machine's setting), with its summer time; else UTC."""
    import tzlocal

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TZ differs from the machine's setting is meant
            name = str(tzlocal.reload_localzone())
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        log.warning(
            "The local time zone has no name such as Europe/Berlin, so schedules are in UTC; set the variable TZ to one."
        )
        return "UTC"


def describe_timezone() -> str:
    """The local time zone for people: its name, and how far it is from UTC today."""
    name = local_timezone()
    if name == "UTC":
        return name
    offset = datetime.now(ZoneInfo(name)).strftime("%z")
    return f"{name}, now UTC{offset[:3]}:{offset[3:]}"
