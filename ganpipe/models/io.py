"""Saves and loads generators as safetensors and JSON. Loading runs no code from the files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from ganpipe.compute.weights import NetworkFiles
from ganpipe.imaging.image import ImageShape
from ganpipe.models.generator_files import CONFIG, WEIGHTS
from ganpipe.models.registry import build_generator
from ganpipe.settings.schema import ModelSettings, from_dict

FILES = NetworkFiles(WEIGHTS, CONFIG)


def save_generator(
    folder: Path,
    G: nn.Module,
    settings: ModelSettings,
    shape: ImageShape,
    origin: dict[str, Any],
    labels: dict[str, int] | None = None,
) -> None:
    """Writes the generator's weights, and a JSON file with its architecture and origin.

    `labels`: the labels of a conditional model, each with its number of training images.
    """
    described = {"format": 2, "model": settings.model_dump(), "shape": asdict(shape), "labels": labels or {}}
    FILES.write(folder, G, described, origin)


def load_generator(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Loads the generator in `folder`, on the CPU in evaluation mode, and its JSON.

    Raises:
        GanpipeError: a file is missing or damaged, or the two do not match.
    """

    def build(config: dict[str, Any]) -> nn.Module:
        settings = from_dict({"model": config["model"]}).model
        shape = ImageShape(**config["shape"])
        return build_generator(settings, shape, len(config["labels"]))

    return FILES.read(folder, build)


def generator_damage(folder: Path) -> str | None:
    """Why the files of a generator cannot be used, told by their checksum; None if they are whole."""
    return FILES.damage(folder)
