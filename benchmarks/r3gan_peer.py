"""R3GAN's own code (brownvc/R3GAN), from a checkout that you name, as a step to be timed beside ours.

The networks, the losses, both penalties and the order of a step are theirs; the widths, the batch and the precision are
those of our settings. As in their presets, bf16 means bf16 stages from the largest maps down, all but the smallest ones,
with float32 weights. Their fused operators need a CUDA compiler; without one their reference operators are used.
"""

from __future__ import annotations

import copy
import importlib
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from packaging.version import parse
from torch import Tensor

from benchmarks.peer_modules import peer_modules
from ganpipe.compute.device import Compute
from ganpipe.imaging.image import ImageShape
from ganpipe.models import r3gan
from ganpipe.settings.schema import Settings

# setuptools no longer has pkg_resources, of which they need parse_version alone.
PACKAGES = ("R3GAN", "torch_utils", "dnnlib", "pkg_resources")
BF16_STAGES = 4  # at most, in all of their presets; the smallest maps stay in float32
BETA2 = 0.99  # the end of their schedule


def check_checkout(checkout: Path) -> None:
    """Raises FileNotFoundError if the folder is no checkout of R3GAN."""
    wanted = checkout / "R3GAN" / "Networks.py"
    if not wanted.is_file():
        raise FileNotFoundError(
            f"{wanted} does not exist: name the top folder of a checkout of brownvc/R3GAN."
        )


@contextmanager
def import_checkout(checkout: Path) -> Iterator[tuple[Any, Any]]:
    """The checkout's modules of networks and of training; they leave sys.modules with the context."""
    with peer_modules(*PACKAGES), mock.patch.object(sys, "path", [str(checkout), *sys.path]):
        sys.modules["pkg_resources"] = types.SimpleNamespace(parse_version=parse)  # type: ignore[assignment]
        networks: Any = importlib.import_module("R3GAN.Networks")
        if shutil.which("nvcc") is None:
            operators, resamplers = (
                importlib.import_module(f"R3GAN.{name}") for name in ("FusedOperators", "Resamplers")
            )
            networks.BiasedActivation = operators.BiasedActivationReference
            networks.InterpolativeUpsampler = resamplers.InterpolativeUpsamplerReference
            networks.InterpolativeDownsampler = resamplers.InterpolativeDownsamplerReference
        yield networks, importlib.import_module("R3GAN.Trainer")


def peer_step(checkout: Path, settings: Settings, compute: Compute, batch: int) -> Callable[[int], None]:
    """A function that computes a step of their loop on noise: D, then G, each with Adam, then G_ema.

    Their loop keeps tensors contiguous and sums the gradients of all weights in one flat tensor; so does this one.
    """
    shape = ImageShape(3, settings.data.height_px, settings.data.width_px)
    widths = r3gan.widths(settings.model, shape)
    groups = [width * r3gan.EXPANSION // r3gan.GROUP_CHANNELS for width in widths]
    blocks = [settings.model.blocks] * len(widths)
    device = compute.device
    with import_checkout(checkout) as (networks, training):
        G = networks.Generator(settings.model.z_dim, widths, groups, blocks, r3gan.EXPANSION)
        D = networks.Discriminator(widths[::-1], groups[::-1], blocks, r3gan.EXPANSION)
        trainer = training.AdversarialTraining(G, D)
    if compute.precision == "bf16":
        stages = min(BF16_STAGES, len(widths) - 1)
        for stage in [*G.MainLayers[-stages:], *D.MainLayers[:stages]]:
            stage.DataType = torch.bfloat16
    for network in (G, D):
        network.to(device).requires_grad_(False)
    G_ema = copy.deepcopy(G)
    optimizers = {
        network: torch.optim.Adam(network.parameters(), 2e-4, (0.0, BETA2), eps=1e-8) for network in (D, G)
    }
    size = (batch, shape.channels, shape.height_px, shape.width_px)
    pixels = torch.randint(0, 256, size, dtype=torch.uint8, device=device)

    def real() -> Tensor:
        return pixels.to(torch.float32) / 127.5 - 1

    def z() -> Tensor:
        return torch.randn(batch, settings.model.z_dim, device=device)

    def update(network: Any, accumulate: Callable[[], object]) -> None:
        optimizers[network].zero_grad(set_to_none=True)
        network.requires_grad_(True)
        accumulate()
        network.requires_grad_(False)
        weights = [p for p in network.parameters() if p.grad is not None]
        flat = torch.cat([p.grad.flatten() for p in weights])
        for p, grad in zip(weights, flat.split([p.numel() for p in weights]), strict=True):
            p.grad = grad.reshape(p.shape)
        optimizers[network].step()

    def step(_: int) -> None:
        update(D, lambda: trainer.AccumulateDiscriminatorGradients(z(), real(), None, settings.loss.gamma))
        update(G, lambda: trainer.AccumulateGeneratorGradients(z(), real(), None))
        with torch.no_grad():
            for averaged, p in zip(G_ema.parameters(), G.parameters(), strict=True):
                averaged.copy_(p.lerp(averaged, 0.999))

    return step
