"""Addresses of pages; a name in them is quoted, whatever it holds."""

from __future__ import annotations

from urllib.parse import quote


def run_url(run: str) -> str:
    """The page of a run."""
    return f"/runs/{quote(run, safe='')}"


def dataset_url(name: str) -> str:
    """The page of a dataset."""
    return f"/datasets/{quote(name, safe='')}"
