"""Latents in files: safetensors that `ganpipe project` writes, and that `generate`, `interpolate` and `mix` read.

A file may be a stranger's: names, shapes and values are checked before any of it is used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ganpipe.errors import GanpipeError
from ganpipe.files import json_text, write_bytes
from ganpipe.imaging.provenance import ORIGIN_KEY
from ganpipe.models.latents import Latent, Space, latent_shape
from ganpipe.models.registry import Styled

if TYPE_CHECKING:
    from ganpipe.stages.generate import LoadedModel

log = logging.getLogger(__name__)

VALUE, NOISE = "latent", "noise"  # the tensors of a file
MOST_BYTES = 2**28  # of a file; one with the noise of 1,024 pixels has 11 MB


@dataclass(frozen=True)
class LatentFile:
    """A latent and the file that holds it: its name, and the SHA-256 of its bytes."""

    latent: Latent
    name: str
    sha256: str

    def as_origin(self) -> dict[str, str]:
        """As the origin of a picture names it."""
        return {"name": self.name, "sha256": self.sha256}


def write_latent(path: Path, latent: Latent, label: str | None, origin: Mapping[str, Any]) -> None:
    """Writes a latent with its origin, whole or not at all."""
    tensors = {VALUE: latent.value} | ({} if latent.noise is None else {NOISE: latent.noise})
    described = {**origin, "space": latent.space} | ({} if label is None else {"label": label})
    data = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        {ORIGIN_KEY: json_text(described)},
    )
    write_bytes(path, data)


def read_latent(path: Path, model: LoadedModel) -> LatentFile:
    """The latent in a file, on the model's device; warns if another model is meant.

    Raises:
        GanpipeError: it is not such a file, or does not fit the model.
    """
    data = _read_bytes(path)
    tensors, origin = _parse(path, data)
    space, value, noise = _space(origin), tensors.get(VALUE), tensors.get(NOISE)
    if space is None or value is None:
        raise GanpipeError(f"{path} is not a latent; expected a file that `ganpipe project` wrote.")
    expected = latent_shape(model.G, model.z_dim, len(model.label_names), space)
    if tuple(value.shape) != expected or not _fits_noise(model, noise):
        raise GanpipeError(
            f"{path} holds a latent in {space} of shape {tuple(value.shape)} of {origin.get('model')}, which "
            f"{model.reference} does not take; name the model that it was projected with by --model."
        )
    if not all(torch.isfinite(t).all() for t in tensors.values()):
        raise GanpipeError(f"{path} is damaged: it holds a number that is not finite.")
    if origin.get("model") != str(model.reference):
        log.warning(
            "%s was projected with %s; %s draws another image of it.",
            path,
            origin.get("model"),
            model.reference,
        )
    device = model.compute.device
    label = model.label_names.index(origin["label"]) if origin.get("label") in model.label_names else None
    if space == "z" and model.label_names and label is None:
        raise GanpipeError(f"{path} names no label that {model.reference} knows.")
    latent = Latent(space, value.to(device), None if noise is None else noise.to(device), label)
    return LatentFile(latent, path.name, hashlib.sha256(data).hexdigest())


def _space(origin: Mapping[str, Any]) -> Space | None:
    return next((space for space in get_args(Space) if space == origin.get("space")), None)


def _fits_noise(model: LoadedModel, noise: Tensor | None) -> bool:
    if noise is None:
        return True
    return isinstance(model.G, Styled) and noise.shape == model.G.fixed_noise.shape


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise GanpipeError(f"There is no file {path}.")
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise GanpipeError(f"{path} has {size:,} bytes; a latent has at most {MOST_BYTES:,}.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise GanpipeError(f"{path} cannot be read ({error.strerror}).") from None


def _parse(path: Path, data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The float tensors and the origin of a safetensors file; the library's own loader drops the latter."""
    try:
        tensors = load(data)
        (length,) = struct.unpack("<Q", data[:8])
        origin = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][ORIGIN_KEY])
    except (SafetensorError, struct.error, KeyError, ValueError, TypeError, RecursionError):
        origin = None
    if not isinstance(origin, dict) or not all(t.dtype == torch.float32 for t in tensors.values()):
        raise GanpipeError(f"{path} is not a latent; expected a file that `ganpipe project` wrote.")
    return tensors, origin
