"""Addresses of pages; a name in them is quoted, whatever it holds."""

from __future__ import annotations

from urllib.parse import quote, urlencode


def run_url(run: str) -> str:
    """The page of a run."""
    return f"/runs/{_quoted(run)}"


def report_url(run: str) -> str:
    """The page of a run's report card."""
    return f"/report/{_quoted(run)}"


def dataset_url(name: str) -> str:
    """The page of a dataset."""
    return f"/datasets/{_quoted(name)}"


def stylized_url(folder: str, name: str) -> str:
    """The page of a stylized image."""
    return f"/gallery/{_quoted(folder)}/{_quoted(name)}"


def gallery_url(**filters: str) -> str:
    """The gallery; filters that are empty are left out."""
    query = urlencode({name: value for name, value in filters.items() if value}, errors="surrogateescape")
    return f"/gallery?{query}" if query else "/gallery"


def _quoted(name: str) -> str:
    """A name as one part of an address, also if it is the name of a folder with bytes that are not UTF-8."""
    return quote(name, safe="", errors="surrogateescape")
