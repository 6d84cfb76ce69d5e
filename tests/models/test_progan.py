"""ProGAN: its layers, how it grows, and that growing changes nothing else."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from ganpipe.imaging.image import ImageShape
from ganpipe.models.equalized import EqualizedConv, EqualizedLinear, pixel_norm, widths
from ganpipe.models.io import load_generator, save_generator
from ganpipe.models.progan import GAIN, ProganDiscriminator, ProganGenerator
from ganpipe.models.registry import build_gan, count_parameters, first_layers, sample
from ganpipe.settings.schema import ModelSettings

SHAPE = ImageShape(3, 32, 32)  # levels 0 to 3: 4, 8, 16 and 32 pixels
SMALL = ModelSettings(name="progan", width=0.02, z_dim=8)


def networks(seed: int = 0) -> tuple[ProganGenerator, ProganDiscriminator]:
    gan = build_gan(SMALL, SHAPE, seed)
    assert isinstance(gan.G, ProganGenerator)
    assert isinstance(gan.D, ProganDiscriminator)
    return gan.G, gan.D


def latents(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(3))


def test_it_has_the_published_widths_and_numbers_of_weights() -> None:
    """Table 2: 512 channels up to 32 pixels, 16 at 1024; 23.1 million weights in each network."""
    published, shape = ModelSettings(name="progan", z_dim=512), ImageShape(3, 1024, 1024)
    assert widths(published, shape) == [512, 512, 512, 512, 256, 128, 64, 32, 16]
    with torch.device("meta"):
        G, D = ProganGenerator(published, shape), ProganDiscriminator(published, shape)
        images = G(torch.empty(8, 512))
        assert images.shape == (8, 3, 1024, 1024)
        assert D(images).shape == (8,)
    assert round(count_parameters(G) / 1e6, 1) == 23.1
    assert round(count_parameters(D) / 1e6, 1) == 23.1


def test_weights_are_standard_normal_and_scaled_when_they_are_used() -> None:
    """The variance of what a layer returns is 2 for inputs of variance 1: He's constant."""
    torch.manual_seed(0)
    conv, linear = EqualizedConv(256, 64, (3, 3), gain=GAIN), EqualizedLinear(512, 256)
    for layer in (conv, linear):
        assert layer.weight.std().item() == pytest.approx(1, rel=0.02)
        assert not layer.bias.any()
    assert conv(torch.randn(64, 256, 3, 3)).var().item() == pytest.approx(2, rel=0.1)
    assert linear(torch.randn(256, 512)).var().item() == pytest.approx(1, rel=0.05)
    x = torch.randn(2, 256, 5, 5)
    torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight * math.sqrt(2 / (256 * 9)), conv.bias))


def test_pixel_norm_gives_each_pixel_a_mean_square_of_1() -> None:
    normed = pixel_norm(torch.randn(2, 5, 3, 4) * 7)
    torch.testing.assert_close(normed.square().mean(1), torch.ones(2, 3, 4))


def test_a_network_that_is_not_told_to_grow_has_full_size() -> None:
    G, D = networks()
    assert G(latents()).shape == (4, 3, 32, 32)
    assert (G.level, G.alpha) == (3, 1)
    assert G.unused() == {f"images.{k}.{name}" for k in range(3) for name in ("weight", "bias")}
    assert D(torch.zeros(2, 3, 32, 32)).shape == (2,)


@pytest.mark.parametrize(
    ("nimg", "level", "alpha"),
    [
        (0, 0, 1),
        (10, 0, 1),
        (15, 1, 0.5),
        (20, 1, 1),
        (29, 1, 1),
        (33, 2, 0.3),
        (55, 3, 0.5),
        (60, 3, 1),
        (99, 3, 1),
    ],
)
def test_sizes_and_fades_take_turns_for_equally_many_images(nimg: int, level: int, alpha: float) -> None:
    """Six phases of 10 images: 4, to 8, 8, to 16, 16, to 32; then full size."""
    G, _ = networks()
    G.begin_growth(60)
    G.set_progress(nimg)
    assert (G.level, G.alpha) == (level, pytest.approx(alpha))
    assert G.phase_starts() == [0, 10, 20, 30, 40, 50, 60]


def test_networks_that_do_not_grow_begin_at_full_size() -> None:
    G, _ = networks()
    G.begin_growth(0)
    assert (G.progress, G.phase_starts()) == (3, [0])


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_fade_begins_with_the_smaller_network_enlarged_and_ends_with_the_grown_one(level: int) -> None:
    """Bit for bit, of G and of D."""
    G, D = networks()
    w = G.mapping(latents())
    smaller, grown = G.draw(w, level - 1, 1), G.draw(w, level, 1)
    assert torch.equal(G.draw(w, level, 0.0), F.interpolate(smaller, scale_factor=2.0, mode="nearest"))
    almost = math.nextafter(1.0, 0.0)
    torch.testing.assert_close(G.draw(w, level, almost), grown)
    side = 4 * 2**level
    images = torch.randn(4, 3, side, side)
    assert torch.equal(D.judge(images, level, 0.0), D.judge(F.avg_pool2d(images, 2), level - 1, 1))
    torch.testing.assert_close(D.judge(images, level, almost), D.judge(images, level, 1))


def test_the_grown_network_is_the_one_that_was_never_told_to_grow() -> None:
    (G, D), (plain_G, plain_D) = networks(), networks()
    for network in (G, D):
        network.begin_growth(60)
        network.set_progress(60)
    images = G(latents())
    assert torch.equal(images, plain_G(latents()))
    assert torch.equal(D(images), plain_D(images))


def test_real_images_lose_their_details_as_generated_ones_do() -> None:
    _, D = networks()
    D.begin_growth(60)
    images = torch.randn(2, 3, 32, 32)
    D.set_progress(35)  # half of the way from 8 to 16 pixels
    sixteen, eight = F.avg_pool2d(images, 2), F.avg_pool2d(images, 4)
    expected = (sixteen + F.interpolate(eight, scale_factor=2.0, mode="nearest")) / 2
    torch.testing.assert_close(D.present(images), expected)
    D.set_progress(40)
    assert torch.equal(D.present(images), sixteen)


def test_samples_have_full_size_from_the_start_and_d_takes_them() -> None:
    G, D = networks()
    for network in (G, D):
        network.begin_growth(60)
        network.set_progress(15)
    small = G(latents())
    assert small.shape == (4, 3, 8, 8)
    images = sample(G, latents())
    assert torch.equal(images, F.interpolate(small, size=(32, 32), mode="nearest"))
    with torch.no_grad():
        torch.testing.assert_close(D.eval()(images), D.train()(D.present(images)))


def test_a_saved_generator_draws_the_same_images_in_the_middle_of_a_fade(tmp_path: Path) -> None:
    G, _ = networks()
    G.begin_growth(60)
    G.set_progress(37)
    save_generator(tmp_path, G, SMALL, SHAPE, {})
    loaded, _ = load_generator(tmp_path)
    assert torch.equal(sample(loaded, latents()), sample(G, latents()))


def test_a_loaded_network_never_shrinks() -> None:
    """A warm start from a grown network, and a run that is continued to more images."""
    (G, _), (grown, _) = networks(), networks(1)
    G.begin_growth(60)
    G.load_state_dict(grown.state_dict())
    G.set_progress(0)
    assert G.progress == 3


def test_layers_of_d_are_counted_at_full_size() -> None:
    _, D = networks()
    names = first_layers(D, 2, SHAPE)
    assert names == {"images.3.weight", "images.3.bias", "blocks.3.first.weight", "blocks.3.first.bias"}


def test_parameters_that_are_not_in_use_are_named() -> None:
    G, _ = networks()
    G.begin_growth(60)
    G.set_progress(15)
    assert not any(name.startswith(("blocks.0", "blocks.1", "images.0", "images.1")) for name in G.unused())
    assert {"blocks.2.first.weight", "images.2.weight", "images.3.bias"} <= G.unused()
    G.set_progress(20)
    assert "images.0.weight" in G.unused()
