"""Evaluates a set of generated images against the held-out images: metrics, verdict, evidence."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ganpipe.compute.device import Compute
from ganpipe.data.shards import PreparedData
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.extractors import DEFAULT, EXTRACTORS, Extracted, Features, extract
from ganpipe.evaluation.metrics import METRICS
from ganpipe.evaluation.mode_coverage import count_modes
from ganpipe.evaluation.sampling import random_subset
from ganpipe.evaluation.verdict import Evaluation, Metric, decide_verdict
from ganpipe.progress import Report, ignore
from ganpipe.settings.schema import EvaluationSettings

LEAST_IMAGES = 8  # generated, and held out


def evaluate(
    fake: Tensor,
    data: PreparedData,
    settings: EvaluationSettings,
    compute: Compute,
    report: Report = ignore,
) -> Evaluation:
    """Evaluates uint8 images `fake: [N, H, W, C]` against the held-out images of `data`.

    Raises:
        GanpipeError: too few held-out or generated images.
    """
    if len(fake) < LEAST_IMAGES:
        raise GanpipeError(
            f"There are {len(fake)} generated images; evaluation needs at least {LEAST_IMAGES}. Generate more."
        )
    if len(data.holdout) < LEAST_IMAGES:
        raise GanpipeError(
            f"{data.name} has {len(data.holdout)} held-out images; evaluation needs at least {LEAST_IMAGES}. "
            "Add images, or raise data.holdout_fraction."
        )
    extractor = EXTRACTORS[DEFAULT]
    network = extractor.load(compute)
    train = random_subset(data.train, settings.images, settings.seed)
    holdout = random_subset(data.holdout, settings.images, settings.seed)
    seen = extract(
        network,
        torch.cat([fake, train.pixels, holdout.pixels]),
        settings.size_px,
        compute,
        "evaluate",
        report,
    )
    f, t, h = _split(seen, [len(fake), len(train), len(holdout)])
    result = Evaluation(metrics=measure_all(f.deep, t.deep, h.deep, settings.neighbors, extractor.describe()))
    if data.label_names:
        modes = count_modes(
            t.wide, train.labels.numpy(), h.wide, holdout.labels.numpy(), f.wide, data.label_names
        )
        if modes:
            classifier = (
                f"linear classifier on {extractor.describe()}, {modes.accuracy:.1%} right on held-out images"
            )
            result.metrics["modes_covered"] = Metric(
                modes.covered, classifier, len(fake), float(modes.total), f"of {modes.total}"
            )
            result.metrics["modes_kl"] = Metric(modes.kl, classifier, len(fake), 0.0)
            if modes.missing:
                result.evidence.append(
                    f"{len(modes.missing)} of {modes.total} modes are missing: {_some(modes.missing)}."
                )
        else:
            result.evidence.append(
                "Modes were not counted: a classifier cannot tell this dataset's labels apart."
            )
    result.verdict = decide_verdict(result)
    return result


def _some(names: tuple[str, ...], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _split(seen: Extracted, sizes: list[int]) -> list[Extracted]:
    ends = np.cumsum(sizes)[:-1]
    return [
        Extracted(d, w) for d, w in zip(np.split(seen.deep, ends), np.split(seen.wide, ends), strict=True)
    ]


def measure_all(fake: Features, train: Features, real: Features, k: int, extractor: str) -> dict[str, Metric]:
    """Every metric of METRICS, with the score of real training images at the same sample size."""
    reference = train[: min(len(fake), len(train))]
    measured: dict[str, Metric] = {}
    for row in METRICS:
        values = row.measure(fake, train, real, k)
        floors = row.real_values or row.measure(reference, train, real, k)
        note = f"± {row.error(fake, real):.2g}" if row.error else ""
        for name, value, floor in zip(row.names, values, floors, strict=True):
            measured[name] = Metric(value, extractor, len(fake), floor, note)
    return measured
