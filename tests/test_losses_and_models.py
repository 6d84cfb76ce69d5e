"""Closed forms of the losses, shapes and limits of the models."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ganpipe.config import ModelSettings
from ganpipe.errors import GanpipeError
from ganpipe.images import ImageShape
from ganpipe.losses import LOSSES, r1_penalty
from ganpipe.models import MODELS, build_gan, build_generator, sample


def test_r1_of_a_linear_discriminator_is_half_its_squared_norm() -> None:
    weight = torch.randn(3 * 4 * 5)
    real = torch.randn(7, 3, 4, 5)
    penalty = r1_penalty(lambda x: x.flatten(1) @ weight, real)
    assert penalty.item() == pytest.approx(0.5 * weight.square().sum().item(), rel=1e-5)


def test_r1_can_be_minimised() -> None:
    """Its gradient with respect to D's weights is w itself for a linear D."""
    D = nn.Linear(6, 1, bias=False)
    r1_penalty(lambda x: D(x.flatten(1)).squeeze(1), torch.randn(4, 1, 2, 3)).backward()
    torch.testing.assert_close(D.weight.grad, D.weight.detach())


@pytest.mark.parametrize("name", LOSSES)
def test_an_undecided_discriminator_costs_two_log_two(name: str) -> None:
    zero = torch.zeros(5)
    assert LOSSES[name].d_loss(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert LOSSES[name].g_loss(zero).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("name", LOSSES)
def test_each_side_is_rewarded_for_what_it_should_do(name: str) -> None:
    high, low = torch.full((5,), 3.0), torch.full((5,), -3.0)
    assert LOSSES[name].d_loss(high, low) < LOSSES[name].d_loss(low, high)
    assert LOSSES[name].g_loss(high) < LOSSES[name].g_loss(low)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "shape", [ImageShape(1, 16, 16), ImageShape(3, 32, 32), ImageShape(3, 16, 64), ImageShape(3, 64, 16)]
)
def test_every_model_makes_and_judges_images_of_the_shape(name: str, shape: ImageShape) -> None:
    settings = ModelSettings(name=name, g_channels=4, d_channels=4, z_dim=8, fc_width=8)
    gan = build_gan(settings, shape, seed=0)
    images = gan.G(torch.randn(3, 8))
    assert images.shape == (3, shape.channels, shape.height_px, shape.width_px)
    assert images.abs().max() <= 1
    assert gan.D(images).shape == (3,)


def test_dcgan_reaches_256_pixels() -> None:
    G = build_generator(ModelSettings(g_channels=4, z_dim=8), ImageShape(3, 256, 256))
    assert G(torch.randn(2, 8)).shape == (2, 3, 256, 256)


@pytest.mark.parametrize("side", [8, 48, 512])
def test_dcgan_names_the_nearest_size_that_it_can_make(side: int) -> None:
    with pytest.raises(GanpipeError, match=r"data\.height_px is .*: set it to \d+"):
        build_gan(ModelSettings(), ImageShape(3, side, 64), seed=0)


def test_dcgan_64_has_the_published_layers() -> None:
    """The architecture of the paper's figure 1, as in the well-known implementations: 3.6 and 2.8 million weights."""
    gan = build_gan(ModelSettings(), ImageShape(3, 64, 64), seed=0)
    convolutions = [m for m in gan.G.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [c.in_channels for c in convolutions] == [100, 512, 256, 128, 64]
    assert [m.out_channels for m in gan.D.modules() if isinstance(m, nn.Conv2d)] == [64, 128, 256, 512, 1]


def test_weights_depend_on_the_seed_alone() -> None:
    settings, shape = ModelSettings(g_channels=4, d_channels=4), ImageShape(3, 16, 16)
    torch.manual_seed(1)
    first = build_gan(settings, shape, seed=5)
    torch.manual_seed(2)
    again, other = build_gan(settings, shape, seed=5), build_gan(settings, shape, seed=6)
    key = "layers.0.weight"
    assert torch.equal(first.G.state_dict()[key], again.G.state_dict()[key])
    assert not torch.equal(first.G.state_dict()[key], other.G.state_dict()[key])


def test_a_sample_does_not_depend_on_its_companions() -> None:
    G = build_generator(ModelSettings(g_channels=4, z_dim=8), ImageShape(3, 16, 16))
    z = torch.randn(6, 8)
    torch.testing.assert_close(sample(G, z)[2:3], sample(G, z[2:3]))
    assert G.training
