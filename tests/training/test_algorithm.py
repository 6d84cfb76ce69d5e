"""The trainer knows names only: something without a discriminator trains, resumes and is exported like a GAN."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganpipe.compute.checkpoints import load_checkpoint
from ganpipe.data.shards import PreparedData
from ganpipe.models.registry import MODELS, build_gan, sample
from ganpipe.settings.schema import Settings
from ganpipe.training.algorithm import Algorithm, Scalars, TrainingContext
from ganpipe.training.algorithms import ALGORITHMS
from ganpipe.training.batches import ImageBatches
from ganpipe.training.callbacks import Callbacks, Point
from ganpipe.training.divergence import Divergence, Remedies, Remedy
from ganpipe.training.trainer import train
from tests.conftest import Killed, with_


class GrowingDecoder(nn.Module):
    """A decoder that is told how many images have been seen."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder, self.seen = decoder, -1

    def set_progress(self, nimg: int) -> None:
        self.seen = nimg

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.decoder(z)


@dataclass(frozen=True)
class AutoencoderValues:
    ema_halflife_images: float


class Autoencoder(Algorithm):
    """An encoder and a decoder, trained to reconstruct."""

    exported = "decoder"
    progress_scalars: ClassVar = {"loss": "loss"}

    def __init__(self, context: TrainingContext) -> None:
        self.context, settings = context, context.settings
        decoder = GrowingDecoder(build_gan(settings.model, context.data.shape, settings.training.seed).G)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(context.data.shape.numel, settings.model.z_dim))
        nn.init.zeros_(encoder[1].bias)
        nn.init.constant_(encoder[1].weight, 0.01)
        self.networks = {"encoder": encoder, "decoder": decoder}
        parameters = [p for network in self.networks.values() for p in network.parameters()]
        self.optimizers = {"both": torch.optim.Adam(parameters, 1e-3)}
        self.images = ImageBatches(context.data.train, settings.training.seed, False, context.compute.device)

    def probe_copy(self) -> Autoencoder:
        return copy.deepcopy(self)

    def batch(self, position: int, count: int, step: int) -> Tensor:
        return self.images.batch(position, count)[0]

    def values_at(self, nimg: int, remedies: Remedies) -> AutoencoderValues:
        return AutoencoderValues(100.0)

    def step(self, batch: Tensor, values: Any, number: int, microbatch_images: int = 0) -> Scalars:
        for network in self.networks.values():
            network.train()
        loss = F.mse_loss(self.networks["decoder"](self.networks["encoder"](batch)), batch)
        self.optimizers["both"].zero_grad()
        loss.backward()
        self.optimizers["both"].step()
        return {"loss": loss.detach()}

    def remedy(self, divergence: Divergence) -> Remedy:
        return Remedy("lr", 0.5, "halved the learning rate (now {:g} of the settings')")

    def advice(self) -> str:
        return "Lower the learning rate."


@pytest.fixture
def autoencoder(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings whose model is trained by `Autoencoder`."""
    monkeypatch.setitem(ALGORITHMS, "autoencoder", Autoencoder)
    monkeypatch.setitem(MODELS, "mlp", replace(MODELS["mlp"], algorithm="autoencoder"))
    return with_(settings, model__name="mlp", model__mlp_width=8)


def test_something_without_a_discriminator_trains_and_resumes_to_the_same_bits(
    prepared: PreparedData, autoencoder: Settings, tmp_path: Path
) -> None:
    points: list[Point] = []
    expected = train(prepared, autoencoder, tmp_path / "whole", Callbacks(points=points.extend))
    assert points[-1].values["loss"] < points[0].values["loss"]

    def kill(progress: object) -> None:
        if getattr(progress, "done", 0) >= 40:
            raise Killed

    with pytest.raises(Killed):
        train(prepared, autoencoder, tmp_path / "parts", Callbacks(report=kill))
    result = train(prepared, autoencoder, tmp_path / "parts")
    assert result.summary.weights_sha256 == expected.summary.weights_sha256
    saved = load_checkpoint(tmp_path / "parts" / "checkpoints", torch.device("cpu"))
    assert saved is not None
    assert {"encoder", "decoder", "decoder_ema", "both_optimizer"} <= set(saved)
    assert sample(result.model, torch.randn(2, 8)).shape == (2, 3, 16, 16)


def test_networks_that_change_are_told_how_many_images_were_seen(
    prepared: PreparedData, autoencoder: Settings, tmp_path: Path
) -> None:
    result = train(prepared, autoencoder, tmp_path)
    assert isinstance(result.model, GrowingDecoder)
    assert result.model.seen == 64 - 8
