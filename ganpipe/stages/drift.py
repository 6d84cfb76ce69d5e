"""The drift stage: how much a dataset changed since it was last trained on."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor

from ganpipe.data.manifest import Record
from ganpipe.data.resize import resize_image
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.drift import LEAST_IMAGES, Drift, measure_drift, split_by_hash
from ganpipe.evaluation.extractors import choose_extractor
from ganpipe.evaluation.feature_cache import FeatureExtractor
from ganpipe.imaging.image import ImageShape
from ganpipe.settings.schema import EvaluationSettings, Settings
from ganpipe.stages.evaluate import evaluation_compute
from ganpipe.stages.retraining import last_trained
from ganpipe.stores.dataset_summaries import pictures_at, records_at
from ganpipe.stores.dataset_versions import DatasetVersion
from ganpipe.stores.workspace import Workspace

log = logging.getLogger(__name__)

IMAGES = 128  # of each version: decoding large photographs takes longest


def find_drift(workspace: Workspace, version: DatasetVersion, settings: Settings) -> Drift | None:
    """The drift of a version since the one that was trained on last.

    None if there is none, if one of them has too few images, or if its images are no longer in DVC's cache.
    """
    before = last_trained(workspace, version.name, besides=version.version)
    if before is None:
        return None
    try:
        halves = [
            _draw(workspace, f"{version.name}@{number}", side)
            for number, side in ((before, False), (version.version, True))
        ]
    except GanpipeError as error:
        log.warning(f"The data are not compared with those of the training before: {error}")
        return None
    if min(map(len, halves)) < LEAST_IMAGES:
        return None
    options = EvaluationSettings()  # the same features whatever the settings: results can be compared
    compute = evaluation_compute(settings)
    extract = FeatureExtractor(choose_extractor(options), options.size_px, compute, workspace.features)
    earlier, now = (extract(pixels).deep for pixels in halves)
    return measure_drift(before, earlier, now)


def _draw(workspace: Workspace, reference: str, side: bool) -> Tensor:
    """At most IMAGES images of one half of a version, uint8 `[N, H, W, 3]`."""
    records = [r for r in records_at(workspace, reference) if split_by_hash(r.sha256) == side]
    chosen = sorted(records, key=_order)[:IMAGES]
    edge_px = EvaluationSettings().size_px
    shape = ImageShape(3, edge_px, edge_px)
    pictures = pictures_at(workspace, reference, chosen)
    pixels = [resize_image(picture, shape, "crop") for picture in pictures]
    return torch.from_numpy(np.stack(pixels)) if pixels else torch.empty(0)


def _order(record: Record) -> str:
    """A random order that new images do not change; the first digits decide on the split, the last one on the half."""
    return record.sha256[32:]
