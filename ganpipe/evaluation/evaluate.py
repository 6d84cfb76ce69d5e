"""Evaluates a set of generated images against the held-out images: metrics, verdict, evidence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ganpipe.compute.device import Compute
from ganpipe.data.shards import PreparedData
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.extractors import EXTRACTOR_LAYER, Extracted, extract
from ganpipe.evaluation.memorization import copied_share
from ganpipe.evaluation.metrics import chunked_error, diversity, frechet_distance, kernel_distance, manifold
from ganpipe.evaluation.mode_coverage import count_modes
from ganpipe.evaluation.sampling import random_subset
from ganpipe.evaluation.verdict import Evaluation, Metric, decide_verdict
from ganpipe.progress import Report, ignore
from ganpipe.settings.schema import EvaluationSettings
from ganpipe.vgg19.network import Vgg19
from ganpipe.vgg19.weights import weights_id

LEAST_HELD_OUT = 8


def evaluate(
    fake: Tensor,
    data: PreparedData,
    settings: EvaluationSettings,
    compute: Compute,
    report: Report = ignore,
) -> Evaluation:
    """Judges uint8 pictures `fake: [N, H, W, C]` against the held-out images of `data`.

    Raises:
        GanpipeError: too few held-out or generated pictures to say anything.
    """
    for what, count in (("held-out", len(data.holdout)), ("generated", len(fake))):
        if count < LEAST_HELD_OUT:
            raise GanpipeError(
                f"{data.name} has {count} {what} images; evaluation needs at least {LEAST_HELD_OUT}. "
                "Add images, or raise data.holdout_fraction."
            )
    network = Vgg19("relu5_4").to(compute.device)
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
    result = Evaluation(metrics=_distances(f, t, h, settings.neighbors))
    if data.label_names:
        modes = count_modes(
            t.wide, train.labels.numpy(), h.wide, holdout.labels.numpy(), f.wide, data.label_names
        )
        if modes:
            extractor = f"linear classifier on {weights_id()}, {modes.accuracy:.1%} right on held-out images"
            result.metrics["modes_covered"] = Metric(
                modes.covered, extractor, len(fake), float(modes.total), f"of {modes.total}"
            )
            result.metrics["modes_kl"] = Metric(modes.kl, extractor, len(fake), 0.0)
            if modes.missing:
                result.evidence.append(
                    f"{len(modes.missing)} of {modes.total} modes are missing: {_some(modes.missing)}."
                )
        else:
            result.evidence.append(
                "Modes were not counted: a classifier cannot tell this data set's labels apart."
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


def _distances(fake: Extracted, train: Extracted, holdout: Extracted, k: int) -> dict[str, Metric]:
    """Every distance of the fakes, beside what real training images score at the same size."""
    name = f"{weights_id()} {EXTRACTOR_LAYER}"
    n = min(len(fake), len(train))
    f, r, h = fake.deep, train.deep[:n], holdout.deep
    found, best = manifold(h, f, k), manifold(h, r, k)

    def metric(measure: Callable[[np.ndarray, np.ndarray], float], note: str = "") -> Metric:
        return Metric(measure(f, h), name, len(f), measure(r, h), note)

    return {
        "fd_vgg19": metric(frechet_distance),
        "kd_vgg19": metric(kernel_distance, f"± {chunked_error(f, h):.2g}"),
        "precision": Metric(found.precision, name, len(f), best.precision),
        "recall": Metric(found.recall, name, len(f), best.recall),
        "coverage": Metric(found.coverage, name, len(f), best.coverage),
        "diversity": Metric(diversity(f, h), name, len(f), diversity(r, h)),
        "copied": Metric(copied_share(f, train.deep, h), name, len(f), 0.01),
    }
