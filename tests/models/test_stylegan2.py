"""StyleGAN2's truths: demodulation, equalized learning rate, mixing, noise, truncation, and the published sizes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.imaging.image import ImageShape
from ganpipe.models import layers, stylegan2
from ganpipe.models.equalized import EqualizedConv, EqualizedLinear, widths
from ganpipe.models.registry import (
    Mapped,
    Styled,
    build_gan,
    build_generator,
    build_partner,
    count_parameters,
    sample,
)
from ganpipe.settings.schema import ModelSettings

SMALL = ModelSettings(name="stylegan2", z_dim=8, width=0.05, mapping_layers=2)
FACES = ModelSettings(name="stylegan2", z_dim=512, taper_from_px=64)  # configuration F
SHAPE = ImageShape(3, 16, 16)


def generator(settings: ModelSettings = SMALL, classes: int = 0) -> stylegan2.StyleGan2Generator:
    """A small G whose noise and biases are not 0."""
    torch.manual_seed(0)
    G = build_generator(settings, SHAPE, classes)
    assert isinstance(G, stylegan2.StyleGan2Generator)
    for layer in G.styled:
        torch.nn.init.constant_(layer.noise_strength, 0.3)
        torch.nn.init.normal_(layer.bias, 0, 0.1)
    return G


def numbers(count: int, settings: ModelSettings = SMALL) -> Tensor:
    return torch.randn(count, stylegan2.random_numbers(settings, SHAPE))


def test_demodulated_weights_have_unit_norm() -> None:
    weight, style = torch.randn(6, 5, 3, 3), torch.randn(4, 5)
    scaled = weight[None] * style[:, None, :, None, None]
    norms = (scaled * stylegan2.demodulation(weight, style)[:, :, None, None, None]).flatten(2).norm(dim=2)
    torch.testing.assert_close(norms, torch.ones(4, 6))


@pytest.mark.parametrize(("kernel", "demodulate"), [(3, True), (1, False)])
def test_a_modulated_convolution_equals_one_convolution_per_image(kernel: int, demodulate: bool) -> None:
    conv = stylegan2.ModulatedConv(5, 6, kernel, 8, demodulate)
    x, w = torch.randn(3, 5, 4, 4), torch.randn(3, 8)
    weights = conv.weight * conv.gain * conv.affine(w)[:, None, :, None, None]
    if demodulate:
        weights = weights / weights.flatten(2).norm(dim=2)[..., None, None, None]
    alone = [F.conv2d(x[k : k + 1], weights[k], padding=kernel // 2) for k in range(3)]
    torch.testing.assert_close(conv(x, w), torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_a_doubling_convolution_is_a_convolution_of_the_doubled_map_away_from_the_edges() -> None:
    """Filters commute: zeros between the pixels, then the 3×3 weights, then [1, 3, 3, 1], or the other way round."""
    conv = stylegan2.ModulatedConv(5, 6, 3, 8, doubled=(16, 16))
    x, w = torch.randn(2, 5, 8, 8), torch.randn(2, 8)
    found = conv(x, w)
    style, weight = conv.affine(w), conv.weight * conv.gain
    large = layers.double(8, 8)(x * style[:, :, None, None])
    flipped = F.conv2d(large, weight.flip(2, 3), padding=1)
    expected = flipped * stylegan2.demodulation(weight, style)[:, :, None, None]
    torch.testing.assert_close(found[..., 3:-3, 3:-3], expected[..., 3:-3, 3:-3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [9, 80])
@pytest.mark.parametrize("pad_px", [1, 2])
def test_blurring_is_the_binomial_filter_between_zeros(side: int, pad_px: int) -> None:
    """By matrices for small maps, by slices for large ones: the same filter."""
    x = torch.randn(2, 3, side, side + 4)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    filters = 4 * torch.outer(line, line)[None, None].expand(3, 1, 4, 4)
    found = layers.blur(side, side + 4, pad_px, gain=4.0)(x)
    torch.testing.assert_close(found, F.conv2d(x, filters, padding=pad_px, groups=3))


def test_weights_begin_at_n01_and_are_scaled_in_use() -> None:
    """Those of the mapping, which learn a hundredth as fast, at N(0, 100²): the same outputs, smaller steps."""
    torch.manual_seed(0)
    plain, slow = EqualizedLinear(256, 256), EqualizedLinear(256, 256, lr_multiplier=0.01)
    conv = EqualizedConv(64, 64, 3)
    stds = [layer.weight.std().item() for layer in (plain, slow, conv)]
    assert stds == pytest.approx([1, 100, 1], rel=0.02)
    x = torch.randn(512, 256)
    assert [layer(x).std().item() for layer in (plain, slow)] == pytest.approx([1, 1], rel=0.02)
    inside = conv(torch.randn(8, 64, 16, 16))[..., 1:-1, 1:-1]
    assert inside.std().item() == pytest.approx(1, rel=0.05)


def test_only_the_direction_of_a_latent_counts() -> None:
    G, z = generator(), torch.randn(3, 8)
    torch.testing.assert_close(G.mapping(5 * z), G.mapping(z), rtol=1e-4, atol=1e-5)


def test_the_same_latent_gives_the_same_image_and_other_noise_another() -> None:
    G, z = generator(), torch.randn(2, 8)
    again = generator()
    torch.testing.assert_close(sample(G, z), sample(again, z), rtol=0, atol=0)
    random = numbers(2)
    images = [G.synthesis(G.mapping(z), G.noise_in(r)) for r in (None, random, random, numbers(2))]
    torch.testing.assert_close(images[1], images[2], rtol=0, atol=0)
    assert not torch.allclose(images[0], images[1])
    assert not torch.allclose(images[1], images[3])
    assert set(G.state_dict()) == {name for name, _ in G.named_parameters()}, (
        "torch.compile allows no other state"
    )


def test_nine_of_ten_images_take_the_styles_of_their_later_layers_from_a_second_latent() -> None:
    G, z = generator(), torch.randn(2000, 8)
    random = numbers(2000)
    own, other = G.mapping(z)[:, None], G.mapping(random[:, :8])[:, None]
    styles = G.styles(z, None, random)
    is_own, is_other = (torch.isclose(styles, w, rtol=1e-4, atol=1e-6).all(2) for w in (own, other))
    assert (is_own | is_other).all()
    assert is_own[:, 0].all(), "the first layer is that of the image's own latent"
    assert (is_other.int().diff(dim=1) >= 0).all(), "from one layer on"
    mixed = is_other.any(1)
    assert mixed.float().mean().item() == pytest.approx(0.9, abs=0.03)
    firsts = is_other[mixed].int().argmax(1)
    assert set(firsts.tolist()) == set(range(1, G.layers))
    unmixed = generator(SMALL.model_copy(update={"style_mixing": 0.0}))
    torch.testing.assert_close(
        unmixed.styles(z, None, random), unmixed.mapping(z)[:, None].expand(-1, G.layers, -1)
    )


def test_a_style_per_layer_that_is_the_same_everywhere_is_w() -> None:
    G = generator()
    w = G.mapping(torch.randn(2, 8))
    torch.testing.assert_close(G.synthesis(w[:, None].expand(-1, G.layers, -1)), G.synthesis(w))
    assert isinstance(G, Mapped)
    assert isinstance(G, Styled)


def test_a_truncation_of_0_is_the_image_of_the_mean_w() -> None:
    from ganpipe.compute.random import MEAN, latents

    G, z = generator(), torch.randn(3, 8)
    with torch.no_grad():
        mean = G.mapping(latents(0, MEAN, 0, 4096, 8, torch.device("cpu"))).mean(0, keepdim=True)
        expected = G.synthesis(mean).expand(3, -1, -1, -1)
    torch.testing.assert_close(sample(G, z, truncation=1e-7), expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(sample(G, z), expected, atol=1e-2)


def test_a_conditional_model_listens_to_its_labels() -> None:
    torch.manual_seed(0)
    gan = build_gan(SMALL, SHAPE, seed=0, classes=5)
    z, labels = torch.randn(1, 8).expand(2, 8), torch.tensor([0, 3])
    images = gan.G(z, labels)
    assert not torch.allclose(images[0], images[1])
    logits = gan.D(images[:1].expand(2, -1, -1, -1), labels)
    assert logits.shape == (2,)
    assert not torch.allclose(logits[0], logits[1])


@pytest.mark.parametrize(
    "shape", [ImageShape(1, 16, 16), ImageShape(3, 48, 96), ImageShape(4, 128, 128)], ids=str
)
def test_sides_are_a_small_base_doubled(shape: ImageShape) -> None:
    gan = build_gan(SMALL, shape, seed=0)
    images = gan.G(torch.randn(2, 8))
    assert images.shape == (2, shape.channels, shape.height_px, shape.width_px)
    assert gan.D(images).shape == (2,)


def test_configuration_f_has_the_published_numbers_of_parameters_and_layers() -> None:
    """30M and 29M at 1024 pixels (section 4.1 of the paper); exactly: 30,370,060 and 29,012,513."""
    shape = ImageShape(3, 1024, 1024)
    with torch.device("meta"):
        G, D = build_generator(FACES, shape), build_partner(FACES, shape)
    assert isinstance(G, stylegan2.StyleGan2Generator)
    assert widths(FACES, shape) == [512, 512, 512, 512, 512, 256, 128, 64, 32]
    assert (G.layers, count_parameters(G.mapping_layers)) == (18, 8 * 512 * 513)
    assert count_parameters(G) == 30_370_060
    assert count_parameters(D) == 29_012_513
    images = G.to("meta")(torch.empty(1, 512, device="meta"))
    assert images.shape == (1, 3, 1024, 1024)
    assert D(images).shape == (1,)
    maps = G.noise_maps(torch.empty(1, G.fixed_noise.shape[1], device="meta"))
    assert [m.shape[2] for m in maps] == [4, *(px for k in range(3, 11) for px in (2**k, 2**k))]


def test_spectral_normalization_replaces_the_scale_of_equalized_weights() -> None:
    """Both would make D's signal vanish: its weights have a largest singular value of 1 in use."""
    torch.manual_seed(0)
    D = build_partner(SMALL.model_copy(update={"spectral_norm": True}), SHAPE)
    images = torch.randn(4, 3, 16, 16)
    for _ in range(30):
        logits = D(images)
    assert logits.std() > 1e-4
    assert math.isfinite(logits.sum().item())
