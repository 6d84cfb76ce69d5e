"""Evaluates a set of generated images against the held-out images: metrics, verdict, evidence, advice."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import Tensor

from ganpipe.compute.device import Compute
from ganpipe.data.shards import PreparedData
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.conditions import Conditions
from ganpipe.evaluation.extractors import ChosenExtractor, choose_extractor
from ganpipe.evaluation.feature_cache import FeatureExtractor
from ganpipe.evaluation.judge import ImageSet, Judge
from ganpipe.evaluation.sampling import random_rows
from ganpipe.evaluation.verdict import Evaluation
from ganpipe.progress import Report, ignore
from ganpipe.settings.schema import EvaluationSettings

LEAST_IMAGES = 8  # generated, and held out


def open_judge(
    data: PreparedData,
    settings: EvaluationSettings,
    compute: Compute,
    cache: Path | None = None,
    report: Report = ignore,
) -> Judge:
    """A judge on at most `evaluation.images` training and as many held-out images.

    Features of the dataset's images are kept in `data.features`, those of generated ones in `cache`.

    Raises:
        GanpipeError: too few training or held-out images, or no weights of the extractor.
    """
    _check_data(data)
    extractor = choose_extractor(settings)
    extract = FeatureExtractor(extractor, settings.size_px, compute, cache)
    train_rows = random_rows(data.train, settings.images, settings.seed)
    train, holdout = (
        _real_images(data, *split.rows(rows), extract, report)
        for split, rows in (
            (data.train, train_rows),
            (data.holdout, random_rows(data.holdout, settings.images, settings.seed)),
        )
    )
    rows, conditions = train_rows.numpy(), _conditions(extractor, holdout.pixels, data, settings)
    return Judge(
        train, holdout, data, rows, settings.neighbors, compute, extract, extractor.describe(), conditions
    )


def _conditions(
    extractor: ChosenExtractor, holdout: Tensor, data: PreparedData, settings: EvaluationSettings
) -> Conditions:
    """The conditions under which images are measured against these held-out images of `data`."""
    return Conditions(
        extractor=f"{extractor.name} {extractor.row.layer}",
        extractor_sha256=extractor.sha256,
        resize=extractor.row.resize.format(size_px=settings.size_px),
        neighbors=settings.neighbors,
        generated=0,
        held_out=len(holdout),
        held_out_sha256=hashlib.sha256(holdout.contiguous().numpy().data).hexdigest(),
        version=data.version,
    )


def _real_images(
    data: PreparedData, pixels: Tensor, labels: Tensor, extract: FeatureExtractor, report: Report
) -> ImageSet:
    return ImageSet(pixels, extract(pixels, "real images", report, data.features), labels.numpy())


def evaluate(
    fake: Tensor,
    data: PreparedData,
    settings: EvaluationSettings,
    compute: Compute,
    cache: Path | None = None,
    report: Report = ignore,
) -> Evaluation:
    """Evaluates uint8 images `fake: [N, H, W, C]` against the held-out images of `data`.

    Raises:
        GanpipeError: too few held-out or generated images, or no weights of the extractor.
    """
    check_generated_count(len(fake))
    judge = open_judge(data, settings, compute, cache, report)
    return judge.evaluate(judge.image_set(fake))


def check_generated_count(count: int) -> None:
    """Raises GanpipeError if so few generated images cannot be evaluated."""
    if count < LEAST_IMAGES:
        raise GanpipeError(
            f"There are {count} generated images; evaluation needs at least {LEAST_IMAGES}. Generate more."
        )


def _check_data(data: PreparedData) -> None:
    if len(data.train) < 2:
        raise GanpipeError(
            f"{data.name} has {len(data.train)} training images; evaluation needs 2. Add images."
        )
    if len(data.holdout) < LEAST_IMAGES:
        raise GanpipeError(
            f"{data.name} has {len(data.holdout)} held-out images; evaluation needs at least {LEAST_IMAGES}. "
            "Add images, or raise data.holdout_fraction."
        )
