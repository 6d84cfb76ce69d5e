"""How outcomes are shown to people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ganpipe.console import table
from ganpipe.evaluation.verdict import Metric
from ganpipe.stores.workspace import Workspace

if TYPE_CHECKING:
    from ganpipe.stages.compare import Compared


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


def show_compared(result: Compared) -> None:
    """The metrics of A and B, then how B differs from A, with 95% intervals."""
    a, b = result.a.evaluation.metrics, result.b.evaluation.metrics
    rows = [
        (name, a[name].text, b[name].text, "" if a[name].floor is None else f"{a[name].floor:.4g}")
        for name in a
        if name in b
    ]
    about = f"{result.dataset}, version {result.version[:8]}"
    table(f"Metrics on held-out images of {about}", ("metric", "A", "B", "real images score"), rows)
    if c := result.gate.comparison:
        table(
            f"B instead of A: {c.images:,} generated, {c.holdout:,} held-out images",
            ("", "change", "95% interval", "z"),
            [
                (name, f"{change.value:+.3g}", change.interval, f"{change.z:.1f}")
                for name, change in c.changes.items()
            ],
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
    """The entries of a folder that are not meant; empty if there are none."""
    return f"{count_and_names(names)} (hidden, thumbnails, or made by ganpipe)" if names else ""
