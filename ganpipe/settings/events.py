"""Names of the event that a changed dataset sends to Prefect, for those who send it and those who wait for it."""

from __future__ import annotations

UPDATED = "ganpipe.dataset.updated"


def resource_id(dataset: str) -> str:
    """The resource of a dataset's events."""
    return f"ganpipe.dataset.{dataset}"
