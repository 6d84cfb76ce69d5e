"""How outcomes are shown to people."""

from __future__ import annotations

from pathlib import Path

from ganpipe.console import table
from ganpipe.evaluation.verdict import Metric
from ganpipe.stores.workspace import Workspace


def relative_path(workspace: Workspace, path: str | None) -> str:
    """A path as short as it can be said from the workspace; the whole one outside of it."""
    if not path:
        return "none"
    inside = Path(path).is_relative_to(workspace.root)
    return str(Path(path).relative_to(workspace.root)) if inside else path


def show_metrics(metrics: dict[str, Metric]) -> None:
    rows = []
    for name, m in metrics.items():
        floor = "" if m.floor is None else f"{m.floor:.4g}"
        rows.append((name, m.text, floor, f"{m.samples:,}"))
    table(
        "Metrics against held-out images", ("metric", "value", "real images score", "generated images"), rows
    )


def count_or_blank(count: int | None) -> str:
    """A number for a table; empty if it is not known."""
    return "" if count is None else f"{count:,}"


def count_and_names(names: list[str]) -> str:
    """Such as "12: a.png, b.png …"."""
    if not names:
        return "0"
    return f"{len(names):,}: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"


def count_left_out(names: list[str]) -> str:
    """What a folder holds and is not meant; empty if there is none."""
    return f"{count_and_names(names)} (hidden, thumbnails, or made by ganpipe)" if names else ""
