"""The report of a batch: the outcome of each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ganpipe.style.batch.plan import BatchPlan, StyledItem
from ganpipe.style.batch.runner import BatchOutcome


@dataclass
class StyleReport:
    """The outcome of a whole batch."""

    items: list[StyledItem] = field(default_factory=list)
    done: int = 0
    skipped: int = 0
    failed: int = 0
    steps_per_second: float = 0.0
    network: str = ""
    sheets: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # hidden, a thumbnailer's, or made by ganpipe

    @property
    def sheet(self) -> str | None:
        """The first contact sheet."""
        return self.sheets[0] if self.sheets else None


def summarize_batch(plan: BatchPlan, parts: Sequence[BatchOutcome], network: str) -> StyleReport:
    """The report of the whole batch, from the outcomes of its parts. `network`: the id of the VGG19 weights."""
    items = list(plan.items)
    for done in parts:
        for place, item in done.items.items():
            items[place] = item
    result = StyleReport(items, network=network, left_out=plan.left_out)
    for item in items:
        setattr(result, item.state, getattr(result, item.state) + 1)
    steps, seconds = sum(d.steps for d in parts), sum(d.seconds for d in parts)
    result.steps_per_second = round(steps / seconds, 3) if seconds else 0.0
    return result


def mean_quality(report: StyleReport) -> dict[str, float]:
    """The mean of each quality over the images that have it, stylized now or before."""
    names = dict.fromkeys(name for item in report.items for name in item.quality)
    values = {name: [i.quality[name] for i in report.items if name in i.quality] for name in names}
    return {name: sum(found) / len(found) for name, found in values.items()}
