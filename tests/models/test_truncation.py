"""Truncation: ψ = 1 changes nothing, less gives a truncated normal distribution, or moves what a mapping makes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ganpipe.errors import GanpipeError
from ganpipe.imaging.image import ImageShape
from ganpipe.models.registry import (
    Mapped,
    build_generator,
    sample,
    truncate_latents,
    truncate_mapping,
)
from ganpipe.settings.schema import Settings


class Latents(nn.Module):
    """A generator whose images are its latents."""

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return z[:, :, None, None]


class TwoParts(nn.Module):
    """A generator whose mapping adds 1, or 100 times the label."""

    def mapping(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return z + (1 if labels is None else 100 * labels[:, None])

    def synthesis(self, w: Tensor) -> Tensor:
        return w[:, :, None, None]

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.synthesis(self.mapping(z, labels))


def test_values_follow_the_normal_distribution_cut_at_the_quantile_of_psi() -> None:
    """Of N(0, 1) between ±0.6745, which holds half of it, the variance is 1 − 2·0.6745·φ(0.6745)/0.5."""
    z = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    limit = 0.67448975
    density = math.exp(-(limit**2) / 2) / math.sqrt(2 * math.pi)
    found = truncate_latents(z, 0.5)
    assert found.abs().max() <= limit + 1e-6
    assert found.var().item() == pytest.approx(1 - 2 * limit * density / 0.5, abs=2e-3)
    assert (found[z.argsort()].diff() >= 0).all(), "the order of the values stays"


def test_the_largest_latents_stay_finite_and_a_psi_near_1_hardly_moves_one() -> None:
    z = torch.tensor([-9.0, -3.0, 0.0, 1.0, 9.0])
    assert torch.isfinite(truncate_latents(z, 1 - 1e-9)).all()
    torch.testing.assert_close(truncate_latents(z[1:4], 1 - 1e-9), z[1:4])


def test_psi_1_gives_the_same_bits_and_less_moves_every_image_nearer_to_the_mean() -> None:
    z = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    G = Latents()
    assert torch.equal(sample(G, z, truncation=1.0), z[:, :, None, None])
    norms = [sample(G, z, truncation=psi).flatten(1).norm(dim=1) for psi in (0.2, 0.6, 1.0)]
    assert (norms[0] < norms[1]).all()
    assert (norms[1] < norms[2]).all()


def test_a_model_with_a_mapping_moves_towards_the_mean_of_its_learned_inputs() -> None:
    """The mean of z + 1 over normal latents is 1; of two values, half the way remains."""
    z = torch.tensor([[3.0, -1.0]])
    assert sample(TwoParts(), z, truncation=0.5).flatten().tolist() == pytest.approx([2.5, 0.5], abs=0.05)
    assert sample(TwoParts(), z).flatten().tolist() == [4.0, 0.0]


def test_with_labels_the_mean_is_that_of_the_same_label() -> None:
    z, labels = torch.tensor([[1.0], [-1.0], [3.0]]), torch.tensor([0, 2, 0])
    found = sample(TwoParts(), z, labels, truncation=0.5).flatten().tolist()
    assert found == pytest.approx([0.5, 199.5, 1.5], abs=0.05)


def test_dcgan_keeps_its_smallest_map_as_strong_where_shorter_latents_would_fade(settings: Settings) -> None:
    torch.manual_seed(0)
    G = build_generator(settings.model, ImageShape(3, 16, 16))
    z = torch.randn(64, settings.model.z_dim)
    assert isinstance(G, Mapped)
    with torch.no_grad():
        w, short = G.eval().mapping(z), G.mapping(truncate_latents(z, 0.3))
        moved = truncate_mapping(G, z, None, 0.3)
    assert moved.mean().item() == pytest.approx(w.mean().item(), rel=0.1)
    assert short.mean() < 0.5 * w.mean()
    assert moved.var(0).sum() < 0.2 * w.var(0).sum()


@pytest.mark.parametrize("psi", [0.0, -0.5, 1.01, math.nan])
def test_another_psi_is_refused(psi: float) -> None:
    with pytest.raises(GanpipeError, match="above 0 and at most 1"):
        sample(Latents(), torch.zeros(1, 2), truncation=psi)
