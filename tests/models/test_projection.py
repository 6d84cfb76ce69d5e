"""Projection: it comes back to a generated image, its noise stays noise, and latents are interpolated as they should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ganpipe.imaging.image import ImageShape
from ganpipe.models.latents import Latent, between, draw, latent_shape, mean_and_deviation
from ganpipe.models.projection import (
    PerceptualDistance,
    ProjectionStep,
    correlation,
    learning_rate,
    project,
)
from ganpipe.models.registry import build_generator
from ganpipe.settings.schema import ModelSettings
from ganpipe.vgg19.network import Vgg19

CPU = torch.device("cpu")
Distance = Callable[[Tensor], Tensor]
SHAPE = ImageShape(3, 16, 16)


def generator(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    settings = ModelSettings(
        name=name, z_dim=8, width=0.1, mapping_layers=2, g_channels=8, mlp_width=16, blocks=1
    )
    G = build_generator(settings, SHAPE).eval()
    for weight in G.parameters():  # dcgan's images hardly differ at N(0, 0.02)
        if name == "dcgan" and weight.dim() == 4:
            torch.nn.init.normal_(weight, 0, 0.2)
    return G


def come_back(name: str, space: str, steps: int, distance_from: Callable[[Tensor], Distance]) -> None:
    """Projects a generated image; the distance falls below a tenth of that of the mean image."""
    G = generator(name)
    mean, deviation = mean_and_deviation(G, 8, None, CPU)
    with torch.no_grad():
        image = G(torch.randn(1, 8, generator=torch.Generator().manual_seed(5)))
    value = mean if space != "w+" else mean[:, None].repeat(1, G.layers, 1)
    told: list[ProjectionStep] = []
    distance = distance_from(image)
    found = project(G, Latent(space, value), deviation, distance, steps, 0, told.append, every=steps // 3)
    assert [step.number for step in told] == [0, steps // 3, 2 * (steps // 3), steps]
    assert told[-1].distance < 0.1 * told[0].distance
    with torch.no_grad():
        assert float(distance(draw(G, found))) == pytest.approx(told[-1].distance, rel=1e-4)
    if found.noise is not None:
        squares = [m.square().mean().item() for m in G.noise_maps(found.noise)]
        assert squares == pytest.approx([1.0] * len(squares), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "space"), [("stylegan2", "w"), ("stylegan2", "w+"), ("dcgan", "w"), ("mlp", "z")]
)
def test_the_projection_of_a_generated_image_comes_back_to_it_by_pixels(name: str, space: str) -> None:
    come_back(name, space, 60, lambda image: lambda x: (x - image).square().mean())


@pytest.mark.slow
def test_the_projection_of_a_generated_image_comes_back_to_it_by_vgg19() -> None:
    come_back("stylegan2", "w", 60, lambda image: PerceptualDistance(image, Vgg19("relu5_4")))


def test_the_distance_of_an_image_from_itself_is_0_whatever_its_channels() -> None:
    network = Vgg19("relu5_4")
    for channels in (1, 3, 4):
        image = torch.rand(1, channels, 20, 16) * 2 - 1
        distance = PerceptualDistance(image, network)
        assert distance(image).item() == pytest.approx(0.0, abs=1e-6)
        assert distance(-image).item() > 0.1


def test_white_noise_is_uncorrelated_and_a_constant_is_not() -> None:
    """A constant 1 has a correlation of 1 in both directions at 8 pixels, and at 16 that of the level above: 2·(1 + 4²)."""
    noise = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    assert correlation(noise).item() < 0.1
    assert correlation(torch.ones(1, 1, 8, 8)).item() == pytest.approx(2)
    assert correlation(torch.ones(1, 1, 16, 16)).item() == pytest.approx(2 * (1 + 4**2))


def test_the_learning_rate_rises_stays_and_falls_to_0() -> None:
    assert [learning_rate(t) for t in (0.0, 0.025, 0.05, 0.5, 0.75, 0.875, 1.0)] == pytest.approx(
        [0, 0.05, 0.1, 0.1, 0.1, 0.05, 0]
    )


def test_the_way_is_straight_in_w_and_on_the_sphere_in_z_and_noise() -> None:
    a = Latent("w", torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]]))
    b = Latent("w", torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 2.0]]))
    middle = between(a, b, 0.5)
    torch.testing.assert_close(middle.value, torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(middle.noise, torch.full((1, 2), 2**0.5))
    in_z = between(replace(a, space="z"), replace(b, space="z"), 0.5)
    torch.testing.assert_close(in_z.value, torch.full((1, 2), 0.5**0.5))
    torch.testing.assert_close(between(a, a, 0.3).noise, a.noise)


def test_spaces_belong_to_models() -> None:
    style, plain = generator("stylegan2"), generator("mlp")
    assert latent_shape(style, 8, 0, "w") == (1, 8)
    assert latent_shape(style, 8, 0, "w+") == (1, style.layers, 8)
    assert latent_shape(plain, 8, 0, "z") == (1, 8)
    assert latent_shape(plain, 8, 0, "w") is None
    assert latent_shape(generator("dcgan"), 8, 0, "w+") is None
