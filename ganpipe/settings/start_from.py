"""The value of `training.start_from`: scratch, champion, a run, or a file of weights that its SHA-256 pins."""

from __future__ import annotations

import re

SCRATCH, CHAMPION = "scratch", "champion"
PINNED = re.compile(r"(.+)@sha256:([0-9a-f]{64})")


def split_pin(start_from: str) -> tuple[str, str]:
    """`PATH@sha256:HEX` → path and hash; any other value with an empty hash."""
    found = PINNED.fullmatch(start_from)
    return (found[1], found[2]) if found else (start_from, "")


def identify_start(start_from: str) -> str:
    """The value as it enters a fingerprint: of a pinned file the hash alone, wherever the file is."""
    return split_pin(start_from)[1] or start_from
