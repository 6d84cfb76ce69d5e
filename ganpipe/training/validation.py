"""A quick score of the EMA during training, so that the best checkpoint can be kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn

from ganpipe.compute.device import Compute
from ganpipe.data.shards import PreparedData
from ganpipe.evaluation.extractors import Network, choose_extractor, extract
from ganpipe.evaluation.metrics import chunked_error, kernel_distance
from ganpipe.evaluation.sampling import generate_pixels
from ganpipe.settings.schema import EvaluationSettings, Settings

LEAST_HELD_OUT = 16


@dataclass(frozen=True)
class ValidationScore:
    """Kernel distance (lower is better) with its standard error, and when it was measured."""

    value: float
    error: float
    nimg: int


class Validator:
    """Kernel distance of a few generated images to a few held-out ones; the extractor is loaded when first used.

    It is the default one, whatever `evaluation.extractor` is: the best checkpoint does not depend on that setting.
    """

    def __init__(self, data: PreparedData, settings: Settings, compute: Compute) -> None:
        self.data, self.settings, self.compute = data, settings, compute

    def score(self, ema: nn.Module, label_counts: Sequence[int], nimg: int) -> ValidationScore:
        """The score of the average; with the latents of the final evaluation, so that scores can be compared."""
        count, seed = self.settings.training.validation_images, self.settings.evaluation.seed
        z_dim = self.settings.model.z_dim
        fake = self._features(generate_pixels(ema, z_dim, label_counts, count, seed, self.compute))
        value, error = kernel_distance(fake, self._real), chunked_error(fake, self._real, chunks=4)
        return ValidationScore(value, error if math.isfinite(error) else abs(value), nimg)

    @property
    def possible(self) -> bool:
        """Whether enough images are held out."""
        return len(self.data.holdout) >= LEAST_HELD_OUT

    @cached_property
    def _network(self) -> Network:
        return choose_extractor(EvaluationSettings()).load(self.compute)

    @cached_property
    def _real(self) -> np.ndarray:
        rows = torch.arange(min(self.settings.training.validation_images, len(self.data.holdout)))
        return self._features(self.data.holdout.rows(rows)[0])

    def _features(self, pixels: torch.Tensor) -> np.ndarray:
        return extract(self._network, pixels, self.settings.evaluation.size_px, self.compute).deep
