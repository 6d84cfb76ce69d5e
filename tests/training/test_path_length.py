"""Path-length regularization: closed forms for a linear G, the average, lazy steps, and who takes it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from ganpipe.compute.device import Compute
from ganpipe.compute.distributed import Distributed
from ganpipe.errors import GanpipeError
from ganpipe.models.registry import build_gan
from ganpipe.settings.schema import Settings
from ganpipe.training.callbacks import Callbacks, Point
from ganpipe.training.gan_batch import Batch, GanBatches
from ganpipe.training.path_length import DECAY, PathLength, path_lengths
from ganpipe.training.trainer import train
from tests.conftest import STYLE, noise_data, with_

CPU = torch.device("cpu")
FP32 = Compute(CPU, "fp32")


def test_path_lengths_of_a_linear_generator_are_known() -> None:
    """G(w) = A·w has Jᵀy = Aᵀy everywhere; over y ~ N(0, I) its mean square is ‖A‖² over the pixels."""
    torch.manual_seed(0)
    A, w = torch.randn(3 * 4 * 5, 6), torch.randn(3000, 1, 6, requires_grad=True)
    y = torch.randn(3000, 3, 4, 5)
    lengths = path_lengths(lambda w: (w[:, 0] @ A.T).unflatten(1, (3, 4, 5)), w, y)
    torch.testing.assert_close(lengths, (y.flatten(1) @ A).norm(dim=1) / math.sqrt(20), rtol=1e-4, atol=1e-5)
    assert lengths.square().mean().item() == pytest.approx(A.square().sum().item() / 20, rel=0.03)


def test_lengths_are_a_mean_square_over_the_layers() -> None:
    """Two layers that share the work have a length of √½ of one that does it all."""
    A, y = torch.randn(12, 6), torch.randn(2, 3, 2, 2)
    one, two = (torch.randn(2, n, 6, requires_grad=True) for n in (1, 2))
    lengths = [path_lengths(lambda w: (w.sum(1) @ A.T).unflatten(1, (3, 2, 2)), w, y) for w in (one, two)]
    torch.testing.assert_close(lengths[1], lengths[0])
    half = path_lengths(lambda w: (w[:, 0] @ A.T).unflatten(1, (3, 2, 2)), two, y)
    torch.testing.assert_close(half, lengths[0] / math.sqrt(2))


class Scaled(torch.nn.Module):
    """G(w) = c·w, with images of one pixel."""

    layers, fixed_noise = 1, torch.zeros(1, 1)

    def __init__(self) -> None:
        super().__init__()
        self.c = torch.nn.Parameter(torch.tensor(3.0))

    def styles(self, z: torch.Tensor, labels: object = None, random: object = None) -> torch.Tensor:
        return z[:, None] * torch.ones((), requires_grad=True)

    def noise_in(self, random: object) -> None:
        return None

    def noise_maps(self, noise: object) -> list[torch.Tensor]:
        return []

    def mapping(self, z: torch.Tensor, labels: object = None) -> torch.Tensor:
        return z

    def synthesis(self, w: torch.Tensor, noise: object = None) -> torch.Tensor:
        return self.c * w[:, 0, :, None, None]


def regularizer(settings: Settings, G: torch.nn.Module) -> PathLength:
    return PathLength(G, settings.loss, FP32, Distributed())


def test_the_penalty_moves_lengths_towards_their_average(settings: Settings) -> None:
    """For G(w) = c·w each length is c·‖y‖: the gradient is 2γ·mean((c‖y‖ − a)·‖y‖), γ 2 every 4 steps."""
    G, y = Scaled(), torch.randn(8, 5, 1, 1)
    found = regularizer(with_(settings, loss__path_length_weight=2.0), G)
    found.average = torch.tensor(4.0)
    batch = Batch(real=y, z=torch.randn(8, 5), random=torch.zeros(8, 1, 1), path=y)
    (gradient,), stats = found.gradients(batch, 0)
    norms = y[:4].flatten(1).norm(dim=1)  # half of the batch
    expected = 2 * (2.0 * 4) * ((3 * norms - 4) * norms).mean()
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(stats["path_penalty"], (3 * norms - 4).square().mean())
    torch.testing.assert_close(stats["path_length"], 3 * norms.mean())
    torch.testing.assert_close(found.average, DECAY * 4.0 + (1 - DECAY) * 3 * norms.mean())


def test_a_batch_in_parts_gives_the_gradients_and_the_average_of_the_whole(settings: Settings) -> None:
    data, settings = noise_data(), with_(settings, **STYLE)
    results = []
    for micro in (0, 3):
        G = build_gan(settings.model, data.shape, 0).G
        found = regularizer(settings, G)
        batch = GanBatches(data, settings, 0, CPU, Distributed()).batch(0, 16, 0)
        results.append((*found.gradients(batch, micro)[0], found.average))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)
    assert any(gradient.abs().max() > 0 for gradient in results[0])


def test_lazy_steps_measure_path_lengths_and_the_curve_has_their_mean(
    settings: Settings, tmp_path: Path
) -> None:
    points: list[Point] = []
    settings = with_(settings, **STYLE, training__log_every_images=8)
    train(noise_data(), settings, tmp_path, Callbacks(points=points.extend))
    assert ["path_length" in point.values for point in points] == [True, False] * 4
    assert all(point.values["path_length"] > 0 for point in points[::2])


def test_a_model_without_styles_refuses_the_weight_in_one_sentence(
    settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(
        GanpipeError, match=r"model.name=dcgan has no styles; use stylegan2, or loss.path_length_weight=0"
    ):
        train(noise_data(), with_(settings, loss__path_length_weight=2.0), tmp_path)
