"""The model card of an exported model, in Markdown (Mitchell et al. 2019, arXiv 1810.03993, section 4, shortened).

Names and labels come from files and are escaped: nothing in them becomes markup.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ganpipe.evaluation.verdict import Evaluation
from ganpipe.files import escape_control
from ganpipe.settings.params import as_yaml
from ganpipe.settings.schema import Settings
from ganpipe.stores.run_records import RunRecord

TRAINED_BY = ("data", "model", "loss", "augment", "training")
START = "training.start_from"  # may hold a path of this machine; the row "started from" says it without


@dataclass(frozen=True)
class ModelCard:
    """The contents of a model card. `config`: the JSON of the generator's files.

    `record`: of its run; None if it is not here. `license`: None if nobody has stated one.
    `example`: lines of Python that draw an image from the file.
    """

    model: str
    config: dict[str, Any]
    record: RunRecord | None
    license: str | None
    picture: str
    command: str
    example: Sequence[str]

    def markdown(self) -> str:
        """The card as Markdown."""
        sections = [
            f"# {escape_markdown(self.model)}",
            f"![Generated images]({self.picture})",
            self._about(),
            _table(("", ""), self._facts()),
            "## Use",
            self._interface(),
            "```python\n" + "\n".join(self.example) + "\n```",
            *self._verdict(),
            "## Settings",
            "As in `params.yaml`; what is not listed has its default.",
            "```yaml\n" + "\n".join(self._settings()) + "\n```",
            "## Made with",
            f"```\n{escape_control(self.command)}\n```",
        ]
        return "\n\n".join(section for section in sections if section) + "\n"

    def _about(self) -> str:
        shape, name = self.config["shape"], self.config["model"]["name"]
        conditional = "class-conditional " if self.config["labels"] else ""
        size = f"{shape['width_px']}×{shape['height_px']} pixels and {shape['channels']} channels"
        return f"A {conditional}generator (`{name}`) of images of {size}, trained with ganpipe."

    def _facts(self) -> list[tuple[str, str]]:
        origin, record = self.config["origin"], self.record
        data = origin.get("dataset") or {}
        start = record.starts_from if record else None
        rows = [
            ("dataset", f"{data.get('name', 'unknown')}, version {data.get('version', 'unknown')}"),
            ("license", self.license or "not stated"),
            ("run", origin.get("run")),
            ("continues", origin.get("continues")),
            ("started from", start.reference if start else None),
            ("fingerprint", origin.get("fingerprint")),
            ("MLflow run", origin.get("mlflow_run_id")),
            ("images seen", f"{record.train.nimg:,}" if record and record.train else None),
            ("ganpipe", f"{origin.get('ganpipe')}, source {origin.get('source_sha256')}"),
        ]
        return [(name, escape_markdown(str(value))) for name, value in rows if value]

    def _interface(self) -> str:
        z = f"`z`: float32 `[N, {self.config['model']['z_dim']}]`, from the standard normal distribution"
        labels = ", ".join(f"{k} {escape_markdown(name)}" for k, name in enumerate(self.config["labels"]))
        also = f"; `labels`: int64 `[N]`, which mean {labels}" if labels else ""
        return (
            f"Input: {z}{also}. Output: `images`, float32 `[N, C, H, W]` from −1 to 1. N is any batch size."
        )

    def _verdict(self) -> list[str]:
        evaluation = self.record.evaluation if self.record else None
        if evaluation is None:
            return ["## Evaluation", "It was not evaluated here."]
        told = escape_markdown(" ".join(evaluation.evidence))
        return [
            "## Evaluation",
            f"Verdict: **{evaluation.verdict}**. {told}",
            _metrics(evaluation),
            f"Measured with: {escape_markdown(str(evaluation.conditions))}." if evaluation.conditions else "",
        ]

    def _settings(self) -> list[str]:
        if self.record:
            changed, default = self.record.resolved().flat(), Settings().flat()
        else:
            changed = {f"model.{key}": value for key, value in self.config["model"].items()}
            default = {}
        lines = []
        for section in TRAINED_BY:
            own = {key: value for key, value in changed.items() if key.startswith(f"{section}.")}
            rows = [(k, v) for k, v in own.items() if k != START and v != default.get(k)]
            lines += [f"{section}:"] if rows else []
            lines += [f"  {key.partition('.')[2]}: {as_yaml(value)}" for key, value in rows]
        return [escape_control(line) for line in lines]


def _metrics(evaluation: Evaluation) -> str:
    """The metrics that are finite, each beside the score of as many real images."""
    rows = [
        (
            name.replace("_", " "),
            m.text,
            f"{m.floor:.4g}" if m.floor is not None else "",
            m.extractor,
            f"{m.samples:,}",
        )
        for name, m in evaluation.metrics.items()
        if math.isfinite(m.value)
    ]
    header = ("metric", "value", "real images", "features", "samples")
    return _table(header, [tuple(map(escape_markdown, row)) for row in rows])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def escape_markdown(text: str) -> str:
    """The text as Markdown shows it: no character of it is markup, and none is obeyed by a terminal."""
    return re.sub(r"([\\`*_\[\]<>|&#~])", r"\\\1", escape_control(text))
