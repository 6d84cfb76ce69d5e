"""Validation of the average during training: it keeps the best checkpoint and warns of repeats and copies.

What is drawn depends on the settings alone, so that validations can be compared, and no weight depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganpipe.compute.device import Compute
from ganpipe.data.shards import PreparedData
from ganpipe.evaluation.extractors import Features, Network, choose_extractor, extract
from ganpipe.evaluation.gate import BETTER_Z, compare_features
from ganpipe.evaluation.gate_result import Change
from ganpipe.evaluation.memorization import (
    CopyTest,
    compare_copies,
    nearest_other_thumbnail,
    nearest_training_images,
)
from ganpipe.evaluation.metrics import near_duplicate_share, relative_energy, standardize
from ganpipe.evaluation.sampling import generate_pixels, random_rows
from ganpipe.settings.schema import EvaluationSettings, Settings
from ganpipe.training.summary import Validation

LEAST_HELD_OUT = 16  # for the energy distance and for copies
SAMPLES = 256  # whose thumbnails are compared
SEARCHED = 5_000  # training images that are searched for copies, so that the time is bounded
MANY_REPEATS, MANY_COPIES = 0.5, 0.25


@dataclass(frozen=True)
class Validated:
    """A validation with the features it was made from (`[images, d]`, float32), for comparisons with later ones."""

    validation: Validation
    features: Tensor

    def as_dict(self) -> dict[str, Any]:
        """Tensors and plain values only."""
        return {"validation": vars(self.validation), "features": self.features}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Validated:
        """The inverse of `as_dict`."""
        return cls(Validation(**saved["validation"]), saved["features"].cpu())


class Validator:
    """Validates averages; what depends on the real images alone is computed once.

    With the default extractor, whatever `evaluation.extractor` is: the best checkpoint does not depend on that setting.
    """

    def __init__(self, data: PreparedData, settings: Settings, compute: Compute) -> None:
        self.data, self.settings, self.compute = data, settings, compute
        self.images = settings.training.validation_images
        self.seed = settings.evaluation.seed

    @property
    def holds_out_enough(self) -> bool:
        """Whether there are enough held-out images to compare with."""
        return len(self.data.holdout) >= LEAST_HELD_OUT

    def validate(self, ema: nn.Module, label_counts: Sequence[int], nimg: int) -> Validated:
        """Measures the average, always with the same latents."""
        count, z_dim = max(self.images, SAMPLES), self.settings.model.z_dim
        pixels = generate_pixels(ema, z_dim, label_counts, count, self.seed, self.compute)
        repeats = self._near_duplicates(pixels[:SAMPLES])
        if not self.holds_out_enough:
            return Validated(Validation(nimg, self.images, repeats), torch.empty(0))
        features = self._features(pixels[: self.images])
        energy = relative_energy(*(standardize(x, self._train) for x in (features, self._holdout)))
        copied = self._copies(pixels[:SAMPLES]).share
        found = Validation(nimg, self.images, repeats, energy, copied)
        return Validated(found, torch.from_numpy(features).float())

    def gain(self, before: Validated, after: Validated) -> Change:
        """How much nearer to the held-out images the later average is, in the units of their features."""
        a, b = (validated.features.double().numpy() for validated in (before, after))
        return compare_features(a, b, self._train, self._holdout, self.settings.evaluation.neighbors).energy

    def is_better(self, after: Validated, before: Validated) -> bool:
        """Whether one average is better than another by more than chance explains (the gate's test)."""
        return self.gain(before, after).z > BETTER_Z

    @cached_property
    def _network(self) -> Network:
        return choose_extractor(EvaluationSettings()).load(self.compute)

    @cached_property
    def _train(self) -> Features:
        return self._features(self._train_pixels[: self.images])

    @cached_property
    def _holdout(self) -> Features:
        return self._features(self._holdout_pixels[: self.images])

    def _features(self, pixels: Tensor) -> Features:
        """Features at the images' own size if that is less than the evaluation's: four times as fast at half of it."""
        size_px = min(self.settings.evaluation.size_px, max(pixels.shape[1:3]))
        return extract(self._network, pixels, size_px, self.compute).deep

    def _near_duplicates(self, pixels: Tensor) -> float:
        real = self._train_nearest
        parts = [part for part in pixels.split(len(real)) if len(part) == len(real)]
        shares = [near_duplicate_share(nearest_other_thumbnail(part), real) for part in parts]
        return float(np.mean(shares))

    @cached_property
    def _train_nearest(self) -> Features:
        return nearest_other_thumbnail(self._train_pixels[:SAMPLES])

    def _copies(self, pixels: Tensor) -> CopyTest:
        return compare_copies(self._nearest_training(pixels), self._holdout_nearest)

    @cached_property
    def _holdout_nearest(self) -> Features:
        return self._nearest_training(self._holdout_pixels)

    def _nearest_training(self, pixels: Tensor) -> Features:
        return nearest_training_images(pixels, [self._train_pixels], self.compute).distances[:, 0]

    @cached_property
    def _train_pixels(self) -> Tensor:
        return self.data.train.rows(random_rows(self.data.train, SEARCHED, self.seed))[0]

    @cached_property
    def _holdout_pixels(self) -> Tensor:
        count = max(self.images, SAMPLES)
        return self.data.holdout.rows(random_rows(self.data.holdout, count, self.seed))[0]


def find_warnings(found: Validation) -> dict[str, str]:
    """Sentences on what more steps will not mend, by kind: samples that repeat each other or copy training images."""
    warnings = {}
    if found.near_duplicates > MANY_REPEATS:
        warnings["repeats"] = (
            f"At {found.nimg:,} images {found.near_duplicates:.0%} of the samples nearly repeat another one (real images: "
            "5%). Raise loss.gamma, lower training.g_lr and training.d_lr, or add images."
        )
    if found.copied is not None and found.copied > MANY_COPIES:
        warnings["copies"] = (
            f"At {found.nimg:,} images {found.copied:.0%} of the samples are as near to a training image as 5% of the "
            "held-out images are. Train for fewer images, add images, or use augment.mode=adaptive."
        )
    return warnings
