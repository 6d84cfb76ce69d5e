"""A generator as two files that run no code when they are read: safetensors and JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from ganpipe.config import ModelSettings
from ganpipe.errors import GanpipeError
from ganpipe.files import read_json, sha256_of, write_bytes, write_json
from ganpipe.images import ImageShape
from ganpipe.models import build_generator

WEIGHTS, CONFIG = "generator.safetensors", "generator.json"


def save_generator(
    folder: Path,
    G: nn.Module,
    settings: ModelSettings,
    shape: ImageShape,
    origin: dict[str, Any],
    labels: dict[str, int] | None = None,
) -> None:
    """Writes the generator's weights, and the JSON that says how to build it and where it comes from.

    `labels`: of a conditional model, each with the number of its training images.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in G.state_dict().items()}
    write_bytes(folder / WEIGHTS, save(tensors))
    config = {
        "format": 2,
        "model": asdict(settings),
        "shape": asdict(shape),
        "labels": labels or {},
        "weights_sha256": sha256_of(folder / WEIGHTS),
        "origin": origin,
    }
    write_json(folder / CONFIG, config)


def load_generator(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The generator in `folder`, on the CPU in evaluation mode, and its JSON.

    Raises:
        GanpipeError: a file is missing or damaged.
    """
    config = read_json(folder / CONFIG)
    path = folder / WEIGHTS
    if not path.exists() or sha256_of(path) != config.get("weights_sha256"):
        raise GanpipeError(f"{path} is missing or damaged: its bytes are not those that {CONFIG} names.")
    G = build_generator(
        ModelSettings(**config["model"]), ImageShape(**config["shape"]), len(config["labels"])
    )
    try:
        G.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise GanpipeError(f"{path} does not fit its model ({str(error).splitlines()[0]}).") from None
    return G.eval(), config
