"""Measures generated images against one dataset; what depends on the real images alone is measured once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ganpipe.compute.device import Compute
from ganpipe.data.anchor import anchor_rows
from ganpipe.data.shards import PreparedData
from ganpipe.evaluation.conditions import Conditions
from ganpipe.evaluation.distances import nearest
from ganpipe.evaluation.extractors import Extracted, Features
from ganpipe.evaluation.feature_cache import FeatureExtractor
from ganpipe.evaluation.memorization import (
    THUMBNAIL,
    CopyTest,
    Neighbors,
    compare_copies,
    find_suspects,
    nearest_other_thumbnail,
    nearest_training_images,
)
from ganpipe.evaluation.metrics import (
    inside_manifold,
    measure_features,
    near_duplicate_share,
    real_scores,
    relative_energy,
    relative_energy_error,
    standard_errors,
    standardize,
    vendi,
)
from ganpipe.evaluation.mode_coverage import ModeCount, ModeCounter
from ganpipe.evaluation.spectrum import Spectra, peak_db, sharpness, spectra
from ganpipe.evaluation.verdict import LEAST_INSIDE, Evaluation, Facts, Metric, Suspect, decide

ALIKE = 0.8  # of the real images' precision
LEAST_ANCHOR = 8  # images; fewer give no score
CONFIRMED = 500  # images of each side whose nearest training images by thumbnail are compared by features


@dataclass(frozen=True)
class ImageSet:
    """Uint8 images `[N, H, W, C]` with their features; `labels`: -1 for none."""

    pixels: Tensor
    features: Extracted
    labels: np.ndarray = field(default_factory=lambda: np.empty(0, int))

    def __len__(self) -> int:
        return len(self.pixels)


class Judge:
    """Judges generated images against the training and held-out images of one dataset."""

    def __init__(
        self,
        train: ImageSet,
        holdout: ImageSet,
        data: PreparedData,
        train_rows: np.ndarray,
        neighbors: int,
        compute: Compute,
        extract: FeatureExtractor,
        extractor: str,
        conditions: Conditions | None = None,
    ) -> None:
        """`train`: the training images `train_rows` of `data`; all of them are searched for copies."""
        self.train, self.holdout, self.data, self.train_rows = train, holdout, data, train_rows
        self.k, self.compute, self.extract, self.extractor = neighbors, compute, extract, extractor
        self._conditions = conditions
        self._scores: dict[int, dict[str, float]] = {}
        self._repeat_distances: dict[int, Features] = {}

    def image_set(self, pixels: Tensor) -> ImageSet:
        """Generated images with their features."""
        return ImageSet(pixels, self.extract(pixels))

    def _extract_real(self, pixels: Tensor) -> Features:
        return self.extract(pixels, folder=self.data.features).deep

    def evaluate(self, fake: ImageSet, errors: bool = True) -> Evaluation:
        """All metrics and the verdict; without `errors`, neither standard errors nor suspects, in a tenth of the time."""
        near = nearest_training_images(fake.pixels, self.data.train.shards, self.compute)
        thumbs, deep = self._copies(fake, near)
        features = self._features(fake, errors)
        metrics = (
            features
            | self._anchor_energy(fake)
            | {"near_duplicates_thumbnails": self._repeats(fake)}
            | _copy_metrics("", thumbs, THUMBNAIL)
            | _copy_metrics("_features", deep, self.extractor)
            | self._modes(fake, features["precision"])
            | self._spectrum(fake)
        )
        found = decide(Facts(metrics, (thumbs, deep), len(self.holdout)))
        suspects = self._suspects(fake, near) if errors else []
        return replace(found, suspects=suspects, conditions=self.conditions(len(fake)))

    def conditions(self, generated: int) -> Conditions | None:
        """The conditions under which so many images are measured; None if they are not recorded."""
        return replace(self._conditions, generated=generated) if self._conditions else None

    def _features(self, fake: ImageSet, errors: bool) -> dict[str, Metric]:
        f, t, h = fake.features.deep, self.train.features.deep, self.holdout.features.deep
        values, floors = measure_features(f, t, h, self.k), self._real_scores(len(fake))
        found = standard_errors(f, t, h, self.k) if errors else {}
        return {
            name: Metric(value, self.extractor, len(fake), floors[name], error=found.get(name))
            for name, value in values.items()
        }

    def _anchor_energy(self, fake: ImageSet) -> dict[str, Metric]:
        """The energy distance to the anchor: comparable over all versions of a dataset. None in the first one."""
        if self._anchor is None:
            return {}
        train = self.train.features.deep
        anchor, deep = standardize(self._anchor, train), standardize(fake.features.deep, train)
        value, error = relative_energy(deep, anchor), relative_energy_error(deep, anchor)
        floor = relative_energy(standardize(train[: len(fake)], train), anchor)
        note = f"to {len(anchor):,} held-out images of the first version"
        return {"energy_anchor": Metric(value, self.extractor, len(fake), floor, note, error)}

    @cached_property
    def _anchor(self) -> Features | None:
        """Features of the anchor, at most as many as are measured of the newest held-out images; None if it is all of them."""
        rows = anchor_rows(self.data)
        if len(rows) == len(self.data.holdout) or len(rows) < LEAST_ANCHOR:
            return None
        return self._extract_real(self.data.holdout.rows(rows[: len(self.holdout)])[0])

    def _real_scores(self, count: int) -> dict[str, float]:
        if count not in self._scores:
            deep = self.train.features.deep, self.holdout.features.deep
            self._scores[count] = real_scores(count, *deep, self.k)
        return self._scores[count]

    def _spectrum(self, fake: ImageSet) -> dict[str, Metric]:
        found, extractor = spectra(fake.pixels), "spectrum of the pixels"
        sharp = sharpness(found, self._spectra)
        return {
            "spectrum_peak": Metric(peak_db(found, self._spectra), extractor, len(fake), 0.0, "dB"),
            "sharpness": Metric(sharp.db, extractor, len(fake), 0.0, "dB", sharp.error),
        }

    @cached_property
    def _spectra(self) -> Spectra:
        return spectra(self.holdout.pixels)

    def _suspects(self, fake: ImageSet, near: Neighbors) -> list[Suspect]:
        def feature_distance(images: np.ndarray, rows: np.ndarray) -> Features:
            found = self._extract_real(self.data.train.rows(torch.from_numpy(rows))[0])
            return np.linalg.norm(fake.features.deep[images] - found, axis=1)

        return find_suspects(
            near, feature_distance, self._holdout_near.distances[:, 0], self._holdout_deep_distance
        )

    def _copies(self, fake: ImageSet, near: Neighbors) -> tuple[CopyTest, CopyTest]:
        """By thumbnails, and by features."""
        thumbs = compare_copies(near.distances[:, 0], self._holdout_near.distances[:, 0])
        return thumbs, compare_copies(self._deep_distance(fake, near), self._holdout_deep_distance)

    @cached_property
    def _holdout_near(self) -> Neighbors:
        return nearest_training_images(self.holdout.pixels, self.data.train.shards, self.compute)

    @cached_property
    def _holdout_deep_distance(self) -> Features:
        return self._deep_distance(self.holdout, self._holdout_near)

    def _deep_distance(self, images: ImageSet, near: Neighbors) -> Features:
        """Distance of features to the nearest training image: of those measured, and of the nearest by thumbnail."""
        deep = images.features.deep[:CONFIRMED]
        best = nearest(deep, self.train.features.deep)
        rows = np.unique(near.rows[: len(deep)])
        unseen = rows[~np.isin(rows, self.train_rows)]
        if len(unseen) == 0:
            return best
        found = self._extract_real(self.data.train.rows(torch.from_numpy(unseen))[0])
        return np.minimum(best, nearest(deep, found))

    def _repeats(self, fake: ImageSet) -> Metric:
        size = min(len(fake), len(self.train))
        parts = [part for part in fake.pixels.split(size) if len(part) == size]
        real = self._train_repeats(size)
        shares = [near_duplicate_share(nearest_other_thumbnail(part), real) for part in parts]
        return Metric(float(np.mean(shares)), THUMBNAIL, len(fake), 0.05)

    def _train_repeats(self, size: int) -> Features:
        if size not in self._repeat_distances:
            self._repeat_distances[size] = nearest_other_thumbnail(self.train.pixels[:size])
        return self._repeat_distances[size]

    def _modes(self, fake: ImageSet, precision: Metric) -> dict[str, Metric]:
        """Modes and Vendi score of the images inside the real manifold: what lies outside shows no mode.

        If most are outside, a mode needs its share of all images, and there is no Vendi score. Clusters are not counted
        among images that look unlike the real ones: blur moves them all into a few (LOG.md).
        """
        deep, train = fake.features.deep, self.train.features.deep
        inside = inside_manifold(deep, train, self.k)
        metrics = {"inside": Metric(float(inside.mean()), self.extractor, len(fake), self._holdout_inside)}
        enough = inside.mean() >= LEAST_INSIDE
        if enough:
            size = min(int(inside.sum()), len(train))
            scores = self._vendi(deep[inside][:size]), self._vendi(train[:size])
            metrics["vendi_inside"] = Metric(scores[0], self.extractor, size, scores[1])
        alike = precision.value >= ALIKE * (precision.floor or 0.0)
        if self.mode_counter.labeled or (self.mode_counter.trusted and alike):
            count = int(inside.sum()) if enough else len(fake)
            metrics |= self._mode_metrics(self.mode_counter.count(fake.features.wide[inside], count))
        return metrics

    @cached_property
    def _holdout_inside(self) -> float:
        return float(inside_manifold(self.holdout.features.deep, self.train.features.deep, self.k).mean())

    def _vendi(self, deep: Features) -> float:
        return vendi(standardize(deep, self.train.features.deep))

    @cached_property
    def mode_counter(self) -> ModeCounter:
        """Tells the modes of generated images apart."""
        wide = self.train.features.wide, self.holdout.features.wide
        return ModeCounter(wide[0], self.train.labels, wide[1], self.holdout.labels, self.data.label_names)

    def _mode_metrics(self, found: ModeCount) -> dict[str, Metric]:
        classifier = f"{self.extractor}; {self.mode_counter.how}"
        return {
            "modes_covered": Metric(
                found.covered, classifier, found.images, found.expected, f"of {found.total}"
            ),
            "modes_missing": Metric(
                len(found.missing), classifier, found.images, 0.0, ", ".join(found.missing)
            ),
            "smallest_mode": Metric(found.smallest_share, classifier, found.images, 1.0),
            "modes_kl": Metric(found.kl, classifier, found.images, 0.0),
        }


def _copy_metrics(suffix: str, found: CopyTest, extractor: str) -> dict[str, Metric]:
    return {
        f"copied{suffix}": Metric(found.share, extractor, found.samples, 0.05),
        f"identical{suffix}": Metric(found.identical, extractor, found.samples, 0.0),
        f"ct{suffix}": Metric(found.farther, extractor, found.samples, 0.5),
    }
