"""MSG-GAN: images of every scale, and the base that one scale leaves."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ganpipe.imaging.image import ImageShape
from ganpipe.models.msggan import MsgDiscriminator, MsgGenerator
from ganpipe.models.registry import build_gan, count_parameters, sample
from ganpipe.settings.schema import ModelSettings

SHAPE = ImageShape(3, 32, 16)  # scales of 4×8 … : the shorter side begins with 4 pixels
SMALL = ModelSettings(name="msggan", width=0.02, z_dim=8)


def networks(**changed: object) -> tuple[MsgGenerator, MsgDiscriminator]:
    gan = build_gan(ModelSettings(**SMALL.model_dump() | changed), SHAPE, 0)
    assert isinstance(gan.G, MsgGenerator)
    assert isinstance(gan.D, MsgDiscriminator)
    return gan.G, gan.D


def latents(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(3))


def test_it_draws_every_scale_and_samples_the_largest() -> None:
    G, D = networks()
    scales = D.scales(G(latents()))
    assert [tuple(images.shape) for images in scales] == [(4, 3, 32, 16), (4, 3, 16, 8), (4, 3, 8, 4)]
    assert torch.equal(sample(G, latents()), scales[0])
    assert D(G(latents())).shape == (4,)


def test_real_images_are_pooled_to_every_scale() -> None:
    _, D = networks()
    images = torch.randn(2, 3, 32, 16)
    shown = D.present(images)
    whole, half, quarter = D.scales(shown)
    assert torch.equal(whole, images)
    torch.testing.assert_close(half, F.avg_pool2d(images, 2))
    torch.testing.assert_close(quarter, F.avg_pool2d(images, 4))
    assert torch.equal(D.join((whole, half, quarter)), shown)


def test_with_one_scale_it_is_its_base() -> None:
    """Bit for bit progan at full size, with the same weights."""
    G, D = networks(scales=1)
    base = build_gan(ModelSettings(**SMALL.model_dump() | {"name": "progan"}), SHAPE, 1)
    for network, whole in ((G, base.G), (D, base.D)):
        assert set(dict(network.named_parameters())) <= set(dict(whole.named_parameters()))
        network.load_state_dict({k: v for k, v in whole.state_dict().items() if k in network.state_dict()})
    images = base.G(latents())
    assert torch.equal(D.scales(G(latents()))[0], images)
    assert torch.equal(D(D.present(images)), base.D(images))


def test_every_scale_reaches_the_logits_and_gets_a_gradient() -> None:
    _, D = networks()
    shown = D.present(torch.randn(4, 3, 32, 16)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(D(shown).sum(), shown)
    assert all(part.abs().sum() > 0 for part in D.scales(gradient))


def test_a_scale_more_costs_the_join_and_minibatch_stddev_and_no_layer() -> None:
    """φ_simple: C + 1 more channels into one 3×3 convolution of D; a 1×1 convolution to images in G."""
    (G, D), (less_G, less_D) = networks(scales=2), networks(scales=1)
    width = G.blocks[1].second.out_channels
    assert count_parameters(G) - count_parameters(less_G) == 3 * width + 3
    assert count_parameters(D) - count_parameters(less_D) == (3 + 1) * 9 * width


def test_it_has_the_layers_of_the_paper_at_1024_pixels() -> None:
    """Nine scales; the weights of its base (23.1 million in each network), and 0.1 million for what D joins."""
    published, shape = ModelSettings(name="msggan", z_dim=512), ImageShape(3, 1024, 1024)
    with torch.device("meta"):
        G, D = MsgGenerator(published, shape), MsgDiscriminator(published, shape)
        shown = G(torch.empty(8, 512))
        assert [images.shape[2] for images in D.scales(shown)] == [1024, 512, 256, 128, 64, 32, 16, 8, 4]
        assert D(shown).shape == (8,)
    assert round(count_parameters(G) / 1e6, 1) == 23.1
    assert round(count_parameters(D) / 1e6, 1) == 23.2
