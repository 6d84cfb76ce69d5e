"""Quality of a stylization: closed forms of its two numbers, and that they get worse as images do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.compute.device import choose_compute
from ganpipe.samples.styles import draw_glass, draw_swirl
from ganpipe.style.metrics import sliced_wasserstein, structure_similarity, style_distance, unit_directions
from ganpipe.vgg19.network import Vgg19

CPU = choose_compute("cpu", "fp32")


def seeded(k: int) -> torch.Generator:
    return torch.Generator().manual_seed(k)


def soft_image(k: int, height: int = 48, width: int = 40) -> Tensor:
    """`[1, 3, height, width]` of soft color blots."""
    coarse = torch.rand(1, 3, 6, 5, generator=seeded(k))
    return F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


def noisy(image: Tensor, spread: float) -> Tensor:
    return (image + spread * torch.randn(image.shape, generator=seeded(9))).clamp(0, 1)


@pytest.fixture(scope="module")
def network() -> Vgg19:
    return Vgg19("relu4_1", pooling="average")


def test_directions_are_of_length_one_and_fixed_by_the_seed() -> None:
    directions = unit_directions(10, 7, seeded(0))
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(10))
    assert torch.equal(directions, unit_directions(10, 7, seeded(0)))
    assert not torch.equal(directions, unit_directions(10, 7, seeded(1)))


def test_the_order_of_positions_does_not_matter() -> None:
    features, directions = torch.randn(5, 60, generator=seeded(0)), unit_directions(8, 5, seeded(1))
    shuffled = features[:, torch.randperm(60, generator=seeded(2))]
    assert sliced_wasserstein(features, features, directions).item() == 0
    assert sliced_wasserstein(features, shuffled, directions).item() == pytest.approx(0, abs=1e-12)


def test_shifted_features_are_as_far_as_the_shift() -> None:
    """Along a direction d the distance is (d·δ)², and along an orthonormal basis the mean of these is ‖δ‖² / C."""
    features, delta = torch.randn(4, 50, generator=seeded(0)), torch.tensor([1.0, -2.0, 0.5, 3.0])
    directions = unit_directions(6, 4, seeded(1))
    found = sliced_wasserstein(features + delta[:, None], features, directions)
    assert found.item() == pytest.approx((directions @ delta).square().mean().item(), rel=1e-5)
    found = sliced_wasserstein(features + delta[:, None], features, torch.eye(4))
    assert found.item() == pytest.approx(delta.square().sum().item() / 4, rel=1e-5)


def test_stretched_features_are_as_far_as_their_size_allows() -> None:
    """x against k·x: (k − 1)² times the second moment, since sorting keeps the order for k > 0."""
    features = torch.randn(1, 50, generator=seeded(0))
    found = sliced_wasserstein(3 * features, features, torch.eye(1))
    assert found.item() == pytest.approx(4 * features.square().mean().item(), rel=1e-5)


@pytest.mark.parametrize(("n", "m"), [(100, 200), (300, 70)])
def test_sets_of_different_sizes_from_one_distribution_are_close(n: int, m: int) -> None:
    """Places (i + ½) / N are the quantiles of the uniform distribution: what is left is cut off at the two ends."""
    a, b = (((torch.arange(float(k)) + 0.5) / k)[None] for k in (n, m))
    assert sliced_wasserstein(a, b, torch.eye(1)).item() < 1e-6
    assert sliced_wasserstein(a, b + 0.5, torch.eye(1)).item() == pytest.approx(0.25, rel=1e-3)


def test_an_image_is_at_no_distance_from_itself(network: Vgg19) -> None:
    assert style_distance(network, soft_image(0), soft_image(0), CPU) == pytest.approx(0, abs=1e-6)


class Scaled(torch.nn.Module):
    """A "network" whose features are the pixels, times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Tensor, wanted: tuple[str, ...]) -> dict[str, Tensor]:
        assert not torch.is_grad_enabled()
        return dict.fromkeys(wanted, self.factor * images)


def test_style_distance_has_no_unit() -> None:
    """An image of half the brightness is ½ of the style's root mean square away, whatever the features' scale."""
    style = soft_image(1)
    for factor in (0.01, 1.0, 100.0):
        found = style_distance(Scaled(factor), style / 2, style, CPU)  # type: ignore[arg-type]
        assert found == pytest.approx(0.5, rel=1e-4)


def test_a_style_without_any_features_is_no_division_by_zero() -> None:
    black = torch.zeros(1, 3, 32, 32)
    assert style_distance(Scaled(1.0), black, black, CPU) == 0  # type: ignore[arg-type]
    assert math.isfinite(style_distance(Scaled(1.0), soft_image(0), black, CPU))  # type: ignore[arg-type]


class Sizes(Scaled):
    """Notes the sizes that it sees."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.seen: list[tuple[int, int]] = []

    def forward(self, images: Tensor, wanted: tuple[str, ...]) -> dict[str, Tensor]:
        self.seen.append((images.shape[2], images.shape[3]))
        return super().forward(images, wanted)


def test_both_images_are_shown_with_one_longer_edge() -> None:
    network = Sizes()
    style_distance(network, soft_image(0, 48, 24), soft_image(1, 30, 60), CPU)  # type: ignore[arg-type]
    style_distance(network, soft_image(0, 300, 600), soft_image(1, 64, 64), CPU)  # type: ignore[arg-type]
    assert network.seen == [(48, 24), (24, 48), (128, 256), (256, 256)]


def test_style_distance_is_the_same_again_and_grows_with_noise(network: Vgg19) -> None:
    style = soft_image(1)
    found = [
        style_distance(network, noisy(style, spread), style, CPU) for spread in (0.0, 0.05, 0.1, 0.2, 0.4)
    ]
    assert found == sorted(found)
    assert found[1] < found[-1] / 2
    assert style_distance(network, noisy(style, 0.4), style, CPU) == found[-1]
    other = style_distance(network, noisy(style, 0.4), style, CPU, seed=1)
    assert other != found[-1]
    assert other == pytest.approx(found[-1], rel=0.2)


def test_style_distance_does_not_see_where_things_are(network: Vgg19) -> None:
    """Stained glass mirrored is nearly the stained glass that it was; a swirl of brush strokes is not."""
    glass, swirl = (
        torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
        for image in (draw_glass(96), draw_swirl(96))
    )
    mirrored = style_distance(network, glass.flip(3), glass, CPU)
    assert mirrored < 0.06 * style_distance(network, swirl, glass, CPU)


def test_an_image_is_wholly_similar_to_itself() -> None:
    assert structure_similarity(soft_image(0), soft_image(0)) == 1


@pytest.mark.parametrize(("a", "b"), [(0.2, 0.7), (0.0, 1.0), (0.5, 0.5)])
def test_similarity_of_two_grays_is_that_of_their_brightness(a: float, b: float) -> None:
    """Without variance the structure is 1, and brightness (2ab + C₁) / (a² + b² + C₁) is left."""
    grays = [torch.full((1, 3, 16, 20), value) for value in (a, b)]
    expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    assert structure_similarity(*grays) == pytest.approx(expected, rel=1e-5)


def test_similarity_of_a_negative_has_the_sign_of_its_structure() -> None:
    """1 − x has the variance of x and its negative covariance: one 11×11 window can be worked out by hand."""
    x = torch.rand(1, 1, 11, 11, generator=seeded(0)).double().expand(1, 3, -1, -1)
    offsets = torch.arange(-5.0, 6.0).double()
    window = torch.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / 4.5)
    window = window / window.sum()
    mean = (window * x[0, 0]).sum()
    variance = (window * (x[0, 0] - mean) ** 2).sum()
    brightness = (2 * mean * (1 - mean) + 1e-4) / (mean**2 + (1 - mean) ** 2 + 1e-4)
    structure = (-2 * variance + 9e-4) / (2 * variance + 9e-4)
    assert structure_similarity(1 - x, x) == pytest.approx((brightness * structure).item(), rel=1e-6)


def test_similarity_is_that_of_luminance() -> None:
    """Pure green is as bright as a gray of 0.587."""
    green = torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    assert structure_similarity(green, torch.full((1, 3, 16, 16), 0.587)) == pytest.approx(1, abs=1e-6)


def test_similarity_falls_with_noise() -> None:
    content = soft_image(0)
    found = [structure_similarity(noisy(content, spread), content) for spread in (0.0, 0.05, 0.1, 0.2, 0.4)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.5


@pytest.mark.parametrize("size", [(16, 20), (1, 1)])
def test_images_of_two_sizes_have_no_similarity(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="two images of one size, at least 11 px"):
        structure_similarity(torch.rand(1, 3, 16, 16), torch.rand(1, 3, *size))
    with pytest.raises(ValueError, match="at least 11 px"):
        structure_similarity(torch.rand(1, 3, 10, 16), torch.rand(1, 3, 10, 16))
