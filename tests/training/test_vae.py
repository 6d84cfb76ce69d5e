"""The variational autoencoder: its closed forms, what β = 0 is, exact resume, and what is said of a collapse."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.distributions import Normal
from torch.distributions import kl_divergence as known_kl

from ganpipe.compute.checkpoints import load_checkpoint
from ganpipe.compute.device import Compute
from ganpipe.data.anchor import reference_rows
from ganpipe.data.shards import PreparedData, Split
from ganpipe.errors import GanpipeError
from ganpipe.imaging.image import ImageShape
from ganpipe.imaging.tensors import to_float, to_uint8
from ganpipe.models.registry import build_gan, build_networks, count_parameters, sample
from ganpipe.settings.schema import ModelSettings, Settings
from ganpipe.training import divergence
from ganpipe.training.algorithm import TrainingContext
from ganpipe.training.callbacks import Callbacks, Point
from ganpipe.training.divergence import Remedies
from ganpipe.training.gan_batch import Batch
from ganpipe.training.trainer import train
from ganpipe.training.vae import (
    COLLAPSED_POINTS,
    PosteriorHealth,
    VaeAlgorithm,
    gaussian_nll,
    kl_divergence,
)
from tests.conftest import Killed, noise_data, with_

CPU = torch.device("cpu")


@pytest.fixture
def vae(settings: Settings) -> Settings:
    """Settings of a small VAE."""
    return with_(settings, model__name="vae", training__g_lr=1e-3)


def algorithm_of(settings: Settings, data: PreparedData | None = None) -> VaeAlgorithm:
    return VaeAlgorithm(TrainingContext(data or noise_data(), settings, Compute(CPU, "fp32")))


def test_the_kl_divergence_is_that_of_two_normal_distributions() -> None:
    mean, log_variance = torch.randn(5, 7), torch.randn(5, 7)
    q, prior = Normal(mean, (0.5 * log_variance).exp()), Normal(torch.zeros(5, 7), torch.ones(5, 7))
    torch.testing.assert_close(kl_divergence(mean, log_variance), known_kl(q, prior).sum(1))
    assert kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [0.0, 0.0]


def test_the_reconstruction_term_is_a_normal_likelihood_and_no_other_s_is_likelier() -> None:
    images, means = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)
    nll, s = gaussian_nll(images, means)

    def known(scale: Tensor) -> Tensor:
        return -Normal(means, scale).log_prob(images).flatten(1).sum(1).mean()

    torch.testing.assert_close(nll, known(s))
    assert known(0.99 * s) > nll
    assert known(1.01 * s) > nll


def test_the_gradient_is_that_of_the_likelihood_whose_s_follows_the_error() -> None:
    """With s² = MSE the term is D/2·log MSE and a constant, for D values per image."""
    images, means = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8, requires_grad=True)
    (found,) = torch.autograd.grad(gaussian_nll(images, means)[0], means)
    (known,) = torch.autograd.grad(0.5 * 3 * 8 * 8 * (means - images).square().mean().log(), means)
    torch.testing.assert_close(found, known)


def test_perfect_reconstructions_have_a_finite_likelihood() -> None:
    images = torch.zeros(2, 3, 8, 8)
    assert torch.isfinite(gaussian_nll(images, images)[0])


@pytest.mark.parametrize(
    "shape", [ImageShape(3, 16, 16), ImageShape(1, 32, 64), ImageShape(3, 64, 64)], ids=str
)
def test_the_decoder_is_dcgans_generator_and_the_encoder_ends_in_its_latents(shape: ImageShape) -> None:
    settings = ModelSettings(name="vae", g_channels=4, z_dim=8)
    decoder, encoder = build_networks(settings, shape, 0)
    G = build_gan(ModelSettings(g_channels=4, z_dim=8), shape, 0).G
    assert count_parameters(decoder) == count_parameters(G)
    images = torch.randn(2, shape.channels, shape.height_px, shape.width_px)
    mean, log_variance = encoder(images)
    assert mean.shape == log_variance.shape == (2, 8)
    assert decoder(mean).shape == images.shape


def test_with_a_beta_of_0_the_noise_changes_no_bit_and_the_variances_never_learn(vae: Settings) -> None:
    """An autoencoder of the means; with a β the noise counts, and the variances learn."""

    def variances(algorithm: VaeAlgorithm) -> Tensor:
        return algorithm.networks["encoder"].layers[-1].weight[vae.model.z_dim :].detach().clone()

    for beta, is_autoencoder in ((0.0, True), (1.0, False)):
        losses, ends = [], []
        for noise in (0.0, 1.0):
            algorithm = algorithm_of(with_(vae, loss__beta=beta))
            fresh, values = variances(algorithm), algorithm.values_at(0, Remedies())
            for number in range(2):
                batch = algorithm.batch(8 * number, 8, number)
                scalars = algorithm.step(Batch(batch.real, noise * batch.z), values, number)
            losses.append(scalars["loss"])
            ends.append(variances(algorithm))
        assert torch.equal(losses[0], losses[1]) == is_autoencoder
        assert torch.equal(ends[1], fresh) == is_autoencoder
        assert torch.equal(scalars["loss"], scalars["recon"]) == is_autoencoder


def test_the_loss_is_reconstruction_plus_beta_times_kl_over_the_parts_of_a_batch(vae: Settings) -> None:
    algorithm = algorithm_of(with_(vae, loss__beta=3.0))
    scalars = algorithm.step(algorithm.batch(0, 8, 0), algorithm.values_at(0, Remedies()), 0, 3)
    torch.testing.assert_close(scalars["loss"], scalars["recon"] + 3 * scalars["kl"])


def test_gradients_of_the_parts_of_a_batch_count_by_their_images(vae: Settings) -> None:
    algorithm = algorithm_of(vae)
    batch, alone = algorithm.batch(0, 8, 0), algorithm.probe_copy()
    algorithm.step(batch, algorithm.values_at(0, Remedies()), 0, 3)
    weights = [w for network in alone.networks.values() for w in network.parameters()]
    parts = [torch.autograd.grad(alone.losses(part)["loss"], weights) for part in batch.split(3)]
    found = [w.grad for network in algorithm.networks.values() for w in network.parameters()]
    for gradient, pieces in zip(found, zip(*parts, strict=True), strict=True):
        assert gradient is not None
        torch.testing.assert_close(gradient, (3 * pieces[0] + 3 * pieces[1] + 2 * pieces[2]) / 8)


def test_an_autoencoder_redraws_what_it_has_seen(vae: Settings) -> None:
    """On eight images of one color each, the error falls to less than half of what their mean has."""
    colors = torch.randint(0, 256, (8, 1, 1, 3), generator=torch.Generator().manual_seed(0))
    pixels = colors.to(torch.uint8).expand(8, 16, 16, 3).contiguous()
    split = Split.of(pixels, torch.full((8,), -1))
    data = PreparedData("colors", "v", ImageShape(3, 16, 16), (), split, split)
    algorithm = algorithm_of(with_(vae, loss__beta=0.0, training__g_lr=1e-2), data)
    values = algorithm.values_at(0, Remedies())
    sigmas = [float(algorithm.step(algorithm.batch(8 * k, 8, k), values, k)["sigma"]) for k in range(80)]
    assert sigmas[-1] < 0.5 * to_float(pixels).std(0).mean()


@pytest.mark.parametrize("microbatch_images", [0, 3])
def test_four_steps_are_two_steps_a_kill_and_two_steps_bit_for_bit(
    prepared: PreparedData, vae: Settings, tmp_path: Path, microbatch_images: int
) -> None:
    settings = with_(
        vae,
        training__total_images=32,
        training__save_every_images=16,
        training__log_every_images=8,
        training__grid_every_images=8,
        training__lr_end=0.1,
        training__horizontal_flip=True,
        training__microbatch_images=microbatch_images,
    )
    whole: list[Point] = []
    expected = train(prepared, settings, tmp_path / "whole", Callbacks(points=whole.extend))
    assert {"loss", "recon", "kl", "sigma", "lr_g"} == set(whole[0].values)
    parts: list[Point] = []

    def kill(progress: object) -> None:
        if getattr(progress, "done", 0) >= 24:
            raise Killed

    with pytest.raises(Killed):
        train(prepared, settings, tmp_path / "parts", Callbacks(points=parts.extend, report=kill))
    result = train(prepared, settings, tmp_path / "parts", Callbacks(points=parts.extend))
    assert result.summary.weights_sha256 == expected.summary.weights_sha256
    assert parts == whole
    saved = load_checkpoint(tmp_path / "parts" / "checkpoints", CPU)
    assert saved is not None
    assert {"encoder", "decoder", "decoder_ema", "encoder_optimizer", "decoder_optimizer"} <= set(saved)


def test_the_picture_has_each_held_out_image_left_of_what_the_average_makes_of_it(
    prepared: PreparedData, vae: Settings, tmp_path: Path
) -> None:
    drawn: list[tuple[Path, int]] = []
    callbacks = Callbacks(picture=lambda path, nimg: drawn.append((path, nimg)))
    result = train(prepared, vae, tmp_path, callbacks)
    folder = tmp_path / "reconstructions"
    assert [(p, n) for p, n in drawn if p.parent == folder] == [
        (folder / f"{nimg:012d}.png", nimg) for nimg in (32, 64)
    ]
    assert [path.parent.name for path in result.grids] == ["grids", "grids"]
    with Image.open(folder / f"{64:012d}.png") as picture:
        shown = torch.from_numpy(np.array(picture.convert("RGB")))
    first = prepared.holdout.rows(reference_rows(prepared, 1))[0]
    saved = load_checkpoint(tmp_path / "checkpoints", CPU)
    assert saved is not None
    algorithm = algorithm_of(vae, prepared)
    algorithm.networks["encoder"].load_state_dict(saved["encoder"])
    with torch.no_grad():
        mean, _ = algorithm.networks["encoder"].eval()(to_float(first))
    again = to_uint8(sample(result.model, mean))
    size, gap = 64, 2
    for column, pixels in enumerate((first, again)):
        left = gap + column * (size + gap)
        assert torch.equal(shown[gap : gap + size : 4, left : left + size : 4], pixels[0])


def test_without_held_out_images_there_is_no_picture_of_reconstructions(
    prepared: PreparedData, vae: Settings, tmp_path: Path
) -> None:
    none = Split.of(torch.zeros((0, 16, 16, 3), dtype=torch.uint8), torch.zeros(0, dtype=torch.long))
    train(replace(prepared, holdout=none), vae, tmp_path)
    assert not (tmp_path / "reconstructions").exists()
    assert len(list((tmp_path / "grids").iterdir())) == 2


def test_a_posterior_is_collapsed_after_points_in_a_row_that_are_not_early() -> None:
    health = PosteriorHealth()
    for kl, early in ((0.1, True), *[(0.1, False)] * (COLLAPSED_POINTS - 1)):
        health.observe(kl, early)
        assert not health.is_collapsed
    health.observe(0.1, False)
    assert health.is_collapsed
    assert "0.1 nats per image" in health.sentence(4.0)
    assert "loss.beta (4)" in health.sentence(4.0)
    health.observe(20.0, False)
    assert not health.is_collapsed


def test_a_checkpoint_keeps_the_points_that_were_low(vae: Settings) -> None:
    algorithm, resumed = algorithm_of(vae), algorithm_of(vae)
    algorithm.health.observe(0.1, False)
    resumed.load_state_dict(algorithm.state_dict())
    assert resumed.health == PosteriorHealth(1, 0.1)


def test_a_large_beta_collapses_the_posterior_and_is_told_once(
    prepared: PreparedData,
    vae: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(divergence, "EARLY_STEPS", 0)
    long = with_(vae, training__total_images=640, training__g_lr=5e-3)
    collapsed = train(prepared, with_(long, loss__beta=1e5), tmp_path / "collapsed").summary
    assert "Posterior collapse" in collapsed.notes[-1]
    assert caplog.text.count("Posterior collapse") == 1
    assert not train(prepared, with_(long, loss__beta=0.01), tmp_path / "healthy").summary.notes


def test_an_autoencoder_says_that_its_samples_mean_nothing(
    prepared: PreparedData, vae: Settings, tmp_path: Path
) -> None:
    (note,) = train(prepared, with_(vae, loss__beta=0.0), tmp_path).summary.notes
    assert "an autoencoder" in note


def test_a_loss_that_is_not_finite_rolls_back_and_halves_the_learning_rate(
    prepared: PreparedData, vae: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, broken = VaeAlgorithm.losses, []

    def losses(self: VaeAlgorithm, part: Batch) -> dict[str, Tensor]:
        found = good(self, part)
        if len(part) == 8 and len(broken) < 9:
            broken.append(part)
            if len(broken) == 9:
                return {name: value * float("nan") for name, value in found.items()}
        return found

    monkeypatch.setattr(VaeAlgorithm, "losses", losses)
    points: list[Point] = []
    result = train(prepared, with_(vae, training__total_images=160), tmp_path, Callbacks(points.extend))
    (note,) = result.summary.notes
    assert "halved the learning rate (now 0.5 of the settings')" in note
    assert points[-1].values["lr_g"] == pytest.approx(vae.training.g_lr / 2)
    saved = load_checkpoint(tmp_path / "checkpoints", CPU)
    assert saved is not None
    assert all(torch.isfinite(weight).all() for weight in saved["decoder"].values())


def test_layers_of_a_discriminator_that_is_not_there_cannot_be_frozen(vae: Settings) -> None:
    with pytest.raises(
        GanpipeError, match=r"freeze_d_layers is 2, and model\.name=vae has no D; set it to 0"
    ):
        algorithm_of(with_(vae, training__freeze_d_layers=2))


def test_trial_steps_leave_the_networks_and_the_statistics_alone(vae: Settings) -> None:
    algorithm = algorithm_of(vae)
    before = {name: copy.deepcopy(net.state_dict()) for name, net in algorithm.networks.items()}
    trial = algorithm.probe_copy()
    trial.step(trial.batch(0, 8, 0), trial.values_at(0, Remedies()), 0)
    for name, network in algorithm.networks.items():
        assert all(torch.equal(before[name][key], value) for key, value in network.state_dict().items())
