"""Generators and discriminators. `MODELS` is the table from which `model.name` chooses.

Every generator maps latents `z: [N, z_dim]` to images `[N, C, H, W]` in `[-1, 1]`; every discriminator maps
images to logits `[N]`, larger for what it takes to be real.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganpipe.config import ModelSettings
from ganpipe.errors import GanpipeError
from ganpipe.images import ImageShape
from ganpipe.models import dcgan, fc

Build = Callable[[ModelSettings, ImageShape], nn.Module]


@dataclass(frozen=True)
class Architecture:
    """How to build the pair, and which images it can make (None, or what is wrong with the shape)."""

    generator: Build
    discriminator: Build
    objection: Callable[[ImageShape], str | None]


MODELS: dict[str, Architecture] = {
    "fc": Architecture(fc.FcGenerator, fc.FcDiscriminator, lambda shape: None),
    "dcgan": Architecture(dcgan.DcganGenerator, dcgan.DcganDiscriminator, dcgan.objection),
}


@dataclass(frozen=True)
class Gan:
    """The two players."""

    G: nn.Module
    D: nn.Module


def check_shape(settings: ModelSettings, shape: ImageShape) -> None:
    """Raises GanpipeError, before any work, where this model cannot make images of this shape."""
    if reason := MODELS[settings.name].objection(shape):
        raise GanpipeError(f"model.name={settings.name} {reason}")


def build_generator(settings: ModelSettings, shape: ImageShape) -> nn.Module:
    """A generator with fresh weights, drawn from torch's global generator."""
    check_shape(settings, shape)
    return MODELS[settings.name].generator(settings, shape)


def build_gan(settings: ModelSettings, shape: ImageShape, seed: int) -> Gan:
    """Both players with fresh weights that depend on `seed` alone; torch's global state is left as it was."""
    check_shape(settings, shape)
    architecture = MODELS[settings.name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Gan(architecture.generator(settings, shape), architecture.discriminator(settings, shape))


@torch.no_grad()
def sample(G: nn.Module, z: Tensor, batch_images: int = 256) -> Tensor:
    """Images `[N, C, H, W]` in `[-1, 1]` (float32) for latents `z: [N, z_dim]`, in evaluation mode.

    The same latents give the same images whatever else is in the batch.
    """
    was_training = G.training
    G.eval()
    images = torch.cat([G(part).float() for part in z.split(batch_images)])
    G.train(was_training)
    return images


def parameters_of(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(p.numel() for p in module.parameters())
