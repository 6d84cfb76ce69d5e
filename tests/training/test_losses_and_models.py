"""Closed forms of the losses, shapes and limits of the models."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ganpipe.errors import GanpipeError
from ganpipe.imaging.image import ImageShape
from ganpipe.models import layers, r3gan
from ganpipe.models.registry import MODELS, build_gan, build_generator, check_shape, count_classes, sample
from ganpipe.settings.schema import LossSettings, ModelSettings
from ganpipe.training.gradient_penalties import (
    logits_and_input_grad,
    logits_and_input_grad_functional,
    one_centered,
    select_penalty,
    zero_centered,
    zero_centered_finite_difference,
)
from ganpipe.training.losses import LOSSES, select_loss


def test_r1_of_a_linear_discriminator_is_half_its_squared_norm() -> None:
    weight = torch.randn(3 * 4 * 5)
    real = torch.randn(7, 3, 4, 5)
    _, slope = logits_and_input_grad(lambda x: x.flatten(1) @ weight, real)
    penalty = zero_centered(slope)
    assert penalty.item() == pytest.approx(0.5 * weight.square().sum().item(), rel=1e-5)


def test_r1_can_be_minimized() -> None:
    """Its gradient with respect to D's weights is w itself for a linear D."""
    D = nn.Linear(6, 1, bias=False)
    _, slope = logits_and_input_grad(lambda x: D(x.flatten(1)).squeeze(1), torch.randn(4, 1, 2, 3))
    zero_centered(slope).backward()
    torch.testing.assert_close(D.weight.grad, D.weight.detach())


HALF, LOG2 = 0.5, math.log(2)


@pytest.mark.parametrize(
    ("name", "d", "g"),
    [
        ("bce", 2 * LOG2, LOG2),
        ("logistic", 2 * LOG2, LOG2),
        ("hinge", 2.0, 0.0),
        ("lsgan", HALF, HALF),
        ("wgan-gp", 0.0, 0.0),
        ("rpgan", LOG2, LOG2),
    ],
)
def test_what_an_undecided_discriminator_costs(name: str, d: float, g: float) -> None:
    """The formulas of the papers at logits that are all 0."""
    zero = torch.zeros(5)
    assert LOSSES[name].d_loss(zero, zero).item() == pytest.approx(d)
    assert LOSSES[name].g_loss(zero, zero).item() == pytest.approx(g)


def test_every_loss_was_checked_above() -> None:
    assert set(LOSSES) == {"bce", "logistic", "hinge", "lsgan", "wgan-gp", "rpgan"}


@pytest.mark.parametrize("name", LOSSES)
def test_each_side_is_rewarded_for_what_it_should_do(name: str) -> None:
    high, low = torch.full((5,), 0.9), torch.full((5,), -0.9)
    assert LOSSES[name].d_loss(high, low) < LOSSES[name].d_loss(low, high)
    assert LOSSES[name].g_loss(high, low) < LOSSES[name].g_loss(low, high)


def test_a_relativistic_loss_ignores_a_constant_added_to_all_logits() -> None:
    real, fake = torch.randn(2, 6)
    for loss in (LOSSES["rpgan"].d_loss, LOSSES["rpgan"].g_loss):
        torch.testing.assert_close(loss(real + 7, fake + 7), loss(real, fake))


def test_label_smoothing_is_one_sided() -> None:
    """With 0.1 D's best answer to a real image is log(0.9/0.1); what it says of fakes is unchanged."""
    smooth = select_loss(LossSettings(name="bce", label_smoothing=0.1))
    none = torch.full((1,), -50.0)
    best = torch.full((1,), math.log(9.0))
    at_best = smooth.d_loss(best, none)
    assert at_best < smooth.d_loss(best + 0.1, none)
    assert at_best < smooth.d_loss(best - 0.1, none)
    zero = torch.zeros(3)
    assert smooth.g_loss(zero, zero).item() == pytest.approx(LOG2)


def test_the_penalty_is_that_of_the_loss_unless_another_is_chosen() -> None:
    assert [select_penalty(LossSettings(name=name)) for name in LOSSES] == [
        "none",
        "r1",
        "none",
        "none",
        "interpolated",
        "both",
    ]
    assert select_penalty(LossSettings(name="bce", penalty="both")) == "both"
    assert select_penalty(LossSettings(name="rpgan", gamma=0.0)) == "none"


def test_the_interpolated_penalty_of_a_linear_discriminator() -> None:
    weight = torch.full((12,), 1.0)
    _, slope = logits_and_input_grad(lambda x: x.flatten(1) @ weight, torch.randn(3, 3, 2, 2))
    assert one_centered(slope).item() == pytest.approx((math.sqrt(12) - 1) ** 2, rel=1e-5)


def test_the_fast_penalty_agrees_with_the_exact_one_on_average() -> None:
    """For a smooth D, over many directions: the finite difference is unbiased up to the curvature."""
    torch.manual_seed(0)
    D = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.Tanh(), nn.Linear(32, 1), nn.Flatten(0))
    images = torch.randn(8, 3, 4, 4)
    _, slope = logits_and_input_grad(D, images)
    many = images.repeat(2000, 1, 1, 1)
    with torch.no_grad():
        fast = zero_centered_finite_difference(D, many, D(many), torch.randn_like(many))
    assert fast.item() == pytest.approx(zero_centered(slope).item(), rel=0.05)


def test_the_slope_is_the_same_by_autograd_and_its_gradient_too() -> None:
    """`torch.func.vjp`, which a compiled step needs, against `autograd.grad(create_graph=True)`."""
    torch.manual_seed(0)
    D = build_gan(ModelSettings(name="r3gan", width=0.03, z_dim=8), ImageShape(3, 16, 16), seed=0).D
    for block in (m for m in D.modules() if hasattr(m, "narrow")):
        nn.init.normal_(block.narrow.weight, 0, 0.1)
    images = torch.randn(4, 3, 16, 16)
    _, slope = logits_and_input_grad(D, images)
    expected = torch.autograd.grad(zero_centered(slope), list(D.parameters()), materialize_grads=True)
    _, ours = logits_and_input_grad_functional(D, images)
    found = torch.autograd.grad(zero_centered(ours), list(D.parameters()), materialize_grads=True)
    torch.testing.assert_close(ours, slope)
    torch.testing.assert_close(found, expected)


SHAPES = [ImageShape(1, 16, 16), ImageShape(3, 32, 32), ImageShape(4, 32, 64), ImageShape(3, 64, 32)]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("spectral", [False, True])
def test_every_model_makes_and_judges_images_of_the_shape(
    name: str, shape: ImageShape, spectral: bool
) -> None:
    if MODELS[name].shape_problem(shape):
        shape = ImageShape(shape.channels, 32, 32)
    settings = ModelSettings(
        name=name, g_channels=4, d_channels=4, z_dim=8, mlp_width=8, width=0.05, spectral_norm=spectral
    )
    gan = build_gan(settings, shape, seed=0)
    images = sample(gan.G, torch.randn(3, 8))
    assert images.shape == (3, shape.channels, shape.height_px, shape.width_px)
    if name in ("dcgan", "mlp", "fastgan"):  # the others have no output activation
        assert images.abs().max() <= 1
    assert gan.D.eval()(images).shape[0] == 3


@pytest.mark.parametrize("side", [16, 48, 96, 512])
def test_r3_makes_sizes_that_are_a_small_base_doubled(side: int) -> None:
    gan = build_gan(
        ModelSettings(name="r3gan", width=0.02, z_dim=8, blocks=1),
        ImageShape(3, side, 2 * side if side < 300 else side),
        0,
    )
    assert gan.G(torch.randn(1, 8)).shape[2] == side


@pytest.mark.parametrize(
    ("side", "widths"),
    [
        (32, [768, 768, 768, 768]),
        (64, [768, 768, 768, 768, 384]),
        (256, [768, 768, 768, 768, 384, 192, 96]),
    ],
)
def test_r3_has_the_published_widths(side: int, widths: list[int]) -> None:
    """CIFAR-10, FFHQ-64 and FFHQ-256 of the paper, in groups of 16 channels."""
    assert r3gan.widths(ModelSettings(name="r3gan"), ImageShape(3, side, side)) == widths


def test_r3_begins_with_residual_blocks_that_do_nothing() -> None:
    """Fix-up: the last convolution of each block is 0, the others have gain √(2/1.04)·L^(-1/4)."""
    shape = ImageShape(3, 32, 32)
    G = build_generator(ModelSettings(name="r3gan", width=0.25), shape)
    blocks = [m for m in G.modules() if isinstance(m, r3gan.Block)]
    assert len(blocks) == 8
    x = torch.randn(2, 192, 8, 8)
    assert torch.equal(blocks[0](x), x)
    gain = math.sqrt(2 / 1.04) * 8 ** (-0.25)
    assert blocks[0].widen.weight.std().item() == pytest.approx(gain / math.sqrt(192), rel=0.03)
    assert blocks[0].mix.weight.std().item() == pytest.approx(gain / math.sqrt(16 * 9), rel=0.03)


@pytest.mark.parametrize("side", [16, 128])
def test_halving_is_the_binomial_filter_and_doubling_is_bilinear(side: int) -> None:
    """By matrices for small maps, by slices for large ones: the same filter."""
    x = torch.randn(2, 3, side, side + 8)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    expected = F.conv2d(padded, torch.outer(line, line)[None, None].expand(3, 1, 4, 4), stride=2, groups=3)
    torch.testing.assert_close(layers.halve(side, side + 8)(x), expected)
    bilinear = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    torch.testing.assert_close(layers.double(side, side + 8)(x), bilinear)


def test_a_conditional_model_listens_to_its_labels() -> None:
    settings, shape = ModelSettings(name="r3gan", width=0.05, z_dim=8), ImageShape(3, 16, 16)
    gan = build_gan(settings, shape, seed=0, classes=5)
    z = torch.randn(1, 8).expand(2, 8)
    images = gan.G(z, torch.tensor([0, 3]))
    assert not torch.allclose(images[0], images[1])
    logits = gan.D(images[:1].expand(2, -1, -1, -1), torch.tensor([0, 3]))
    assert not torch.allclose(logits[0], logits[1])


def test_labels_are_told_where_the_data_set_has_them_and_the_model_takes_them() -> None:
    names = ("cat", "dog")
    assert count_classes(ModelSettings(name="r3gan"), names, labeled=True) == 2
    assert count_classes(ModelSettings(name="r3gan"), names, labeled=False) == 0
    assert count_classes(ModelSettings(name="r3gan", conditional="no"), names, labeled=True) == 0
    assert count_classes(ModelSettings(name="dcgan"), names, labeled=True) == 0
    with pytest.raises(GanpipeError, match="one folder for each label"):
        count_classes(ModelSettings(name="r3gan", conditional="yes"), names, labeled=False)
    with pytest.raises(GanpipeError, match="dcgan takes no labels; use r3gan"):
        check_shape(ModelSettings(conditional="yes"), ImageShape(3, 32, 32))


def test_spectral_normalization_bounds_every_weight_of_the_discriminator() -> None:
    D = build_gan(ModelSettings(name="r3gan", width=0.05, spectral_norm=True), ImageShape(3, 16, 16), 0).D
    layers = [m for m in D.modules() if isinstance(m, nn.Conv2d)]
    for _ in range(30):
        D(torch.randn(2, 3, 16, 16))
    largest = [torch.linalg.matrix_norm(m.weight.flatten(1), 2).item() for m in layers]
    assert max(largest) < 1.1


def test_fastgan_redraws_the_image_and_the_quarter_that_was_asked_for() -> None:
    D = build_gan(ModelSettings(name="fastgan", width=0.1, z_dim=8), ImageShape(3, 64, 64), 0).D
    images = torch.zeros(2, 3, 64, 64)
    images[:, :, :32, 32:] = 1.0
    for quarter, value in enumerate((0.0, 1.0, 0.0, 0.0)):
        logits, ((whole, image), (part, cut)) = D.reconstruct(images, quarter)
        assert logits.shape[0] == 2
        assert whole.shape == image.shape
        assert part.shape == cut.shape
        assert (cut == value).all()


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
