"""Evaluates a set of generated images against the held-out images: metrics, verdict, evidence, advice."""

from __future__ import annotations

import torch
from torch import Tensor

from ganpipe.compute.device import Compute
from ganpipe.data.shards import PreparedData
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.extractors import DEFAULT, EXTRACTORS, extract
from ganpipe.evaluation.judge import ImageSet, Judge
from ganpipe.evaluation.sampling import random_rows
from ganpipe.evaluation.verdict import Evaluation
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
    _check_counts(len(fake), data)
    extractor = EXTRACTORS[DEFAULT]
    network = extractor.load(compute)
    train_rows = random_rows(data.train, settings.images, settings.seed)
    train, train_labels = data.train.rows(train_rows)
    holdout, holdout_labels = data.holdout.rows(random_rows(data.holdout, settings.images, settings.seed))
    pixels, sizes = torch.cat([fake, train, holdout]), [len(fake), len(train), len(holdout)]
    parts = extract(network, pixels, settings.size_px, compute, "evaluate", report).split(sizes)
    judge = Judge(
        ImageSet(train, parts[1], train_labels.numpy()),
        ImageSet(holdout, parts[2], holdout_labels.numpy()),
        data,
        train_rows.numpy(),
        settings.neighbors,
        compute,
        lambda few: extract(network, few, settings.size_px, compute),
        extractor.describe(),
    )
    return judge.evaluate(ImageSet(fake, parts[0]))


def _check_counts(generated: int, data: PreparedData) -> None:
    if generated < LEAST_IMAGES:
        raise GanpipeError(
            f"There are {generated} generated images; evaluation needs at least {LEAST_IMAGES}. Generate more."
        )
    if len(data.train) < 2:
        raise GanpipeError(
            f"{data.name} has {len(data.train)} training images; evaluation needs 2. Add images."
        )
    if len(data.holdout) < LEAST_IMAGES:
        raise GanpipeError(
            f"{data.name} has {len(data.holdout)} held-out images; evaluation needs at least {LEAST_IMAGES}. "
            "Add images, or raise data.holdout_fraction."
        )
