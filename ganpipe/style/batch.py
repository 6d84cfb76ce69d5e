"""A batch of stylisations when it is done: what became of it, in one report.

`plan.plan_batch` looks at every file and finds what is left to do; `painter.paint` does it, or a shard of it in another
process; `finished` puts the parts together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ganpipe.perceptual import style_weights
from ganpipe.settings.schema import StyleSettings
from ganpipe.style.painter import Done
from ganpipe.style.plan import Plan, StyledItem
from ganpipe.style.sheets import contact_sheets


@dataclass
class StyleReport:
    """What became of the whole batch."""

    items: list[StyledItem] = field(default_factory=list)
    done: int = 0
    skipped: int = 0
    failed: int = 0
    steps_per_second: float = 0.0
    network: str = ""
    sheets: list[str] = field(default_factory=list)
    chart: str | None = None

    @property
    def sheet(self) -> str | None:
        """The first contact sheet."""
        return self.sheets[0] if self.sheets else None


def finished(
    plan: Plan,
    parts: Sequence[Done],
    out: Path,
    settings: StyleSettings,
    origin: dict[str, Any] | None = None,
) -> StyleReport:
    """The report of the whole batch from what became of its parts, and contact sheets if anything was painted."""
    items = list(plan.items)
    for done in parts:
        for place, item in done.items.items():
            items[place] = item
    result = StyleReport(items, network=style_weights(settings.weights).id)
    for item in items:
        setattr(result, item.state, getattr(result, item.state) + 1)
    steps, seconds = sum(d.steps for d in parts), sum(d.seconds for d in parts)
    result.steps_per_second = round(steps / seconds, 3) if seconds else 0.0
    shown = [item for item in items if item.state != "failed"]
    if shown:
        sheets = contact_sheets(
            [(i.content, i.style, i.output) for i in shown], out, origin or {}, bool(plan.works)
        )
        result.sheets = [str(sheet) for sheet in sheets]
    return result


def means(report: StyleReport) -> dict[str, float]:
    """The mean of each quality over the pictures that have it, painted now or before."""
    names = dict.fromkeys(name for item in report.items for name in item.quality)
    values = {name: [i.quality[name] for i in report.items if name in i.quality] for name in names}
    return {name: sum(found) / len(found) for name, found in values.items()}
