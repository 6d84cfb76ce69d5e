"""The table of algorithms: which one trains a model."""

from __future__ import annotations

from ganpipe.models.registry import MODELS
from ganpipe.training.algorithm import Algorithm, TrainingContext
from ganpipe.training.gan import GanAlgorithm
from ganpipe.training.vae import VaeAlgorithm

ALGORITHMS: dict[str, type[Algorithm]] = {"gan": GanAlgorithm, "vae": VaeAlgorithm}


def build_algorithm(context: TrainingContext) -> Algorithm:
    """The algorithm of `model.name`, with fresh weights."""
    return ALGORITHMS[MODELS[context.settings.model.name].algorithm](context)
