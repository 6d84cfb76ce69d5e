"""Evaluates a set of generated images against the held-out images: metrics, verdict, evidence, advice."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from ganpipe.compute.device import Compute
from ganpipe.data.shards import PreparedData
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.conditions import Conditions
from ganpipe.evaluation.extractors import ChosenExtractor, choose_extractor, extract
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
        GanpipeError: too few held-out or generated images, or no weights of the extractor.
    """
    _check_counts(len(fake), data)
    extractor = choose_extractor(settings)
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
    found = judge.evaluate(ImageSet(fake, parts[0]))
    found.conditions = conditions_of(extractor, len(fake), holdout, data, settings)
    return found


def conditions_of(
    extractor: ChosenExtractor,
    generated: int,
    holdout: Tensor,
    data: PreparedData,
    settings: EvaluationSettings,
) -> Conditions:
    """The conditions under which so many generated images are measured against these held-out images of `data`."""
    return Conditions(
        extractor=f"{extractor.name} {extractor.row.layer}",
        extractor_sha256=extractor.sha256,
        resize=extractor.row.resize.format(size_px=settings.size_px),
        neighbors=settings.neighbors,
        generated=generated,
        held_out=len(holdout),
        held_out_sha256=hashlib.sha256(holdout.contiguous().numpy().data).hexdigest(),
        version=data.version,
    )


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
