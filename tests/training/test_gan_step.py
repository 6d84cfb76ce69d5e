"""One step: the same gradients however it is computed, and every loss moves every model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from ganpipe.compute.device import Compute, should_compile
from ganpipe.compute.distributed import Distributed
from ganpipe.data.shards import PreparedData
from ganpipe.models.presentation import Presentation
from ganpipe.models.registry import MODELS, build_gan
from ganpipe.settings.schema import Settings
from ganpipe.training.callbacks import Callbacks, Point
from ganpipe.training.gan_batch import Batch, GanBatches
from ganpipe.training.gan_step import GanStep, _compile, adam
from ganpipe.training.losses import LOSSES
from ganpipe.training.schedules import values_at
from ganpipe.training.trainer import train
from tests.conftest import R3, STYLE, noise_data, with_

CPU = torch.device("cpu")
FP32 = Compute(CPU, "fp32")


def phases_of(data: PreparedData, settings: Settings, compiled: bool = False) -> GanStep:
    gan = build_gan(settings.model, data.shape, 0, 3 if data.label_names else 0)
    torch.manual_seed(0)
    for module in gan.D.modules():  # fix-up begins at 0: give every weight something to do
        if hasattr(module, "narrow"):
            torch.nn.init.normal_(module.narrow.weight, 0, 0.1)
    t = settings.training
    return GanStep(
        gan.G, gan.D, adam(gan.G, t.g_lr, t), adam(gan.D, t.d_lr, t), settings, FP32, compiled=compiled
    )


def grads(phases: GanStep, data: PreparedData, settings: Settings, micro: int = 0) -> list[torch.Tensor]:
    batch = GanBatches(data, settings, 3 if data.label_names else 0, CPU, Distributed()).batch(0, 8, 0)
    phases.step(batch, values_at(0, settings).changed(1, 1, 1, 0.5), 0, micro)
    return [p.grad for network in (phases.D, phases.G) for p in network.parameters() if p.grad is not None]


EVERYTHING = {"augment__mode": "fixed", "augment__probability": 0.7, "training__separate_g_batch": True}
FULL, FULL_STYLE = R3 | EVERYTHING, STYLE | EVERYTHING


def test_a_batch_in_parts_gives_the_gradients_of_the_whole(settings: Settings) -> None:
    data, settings = noise_data(labels=True), with_(settings, **FULL)
    whole = grads(phases_of(data, settings), data, settings)
    parts = grads(phases_of(data, settings), data, settings, micro=3)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", ["r3gan", "dcgan", "fastgan", "progan", "msggan", "stylegan2"])
@pytest.mark.parametrize("penalty", ["none", "r1", "both", "interpolated"])
def test_gradients_lie_in_memory_as_their_weights_do(settings: Settings, model: str, penalty: str) -> None:
    """Fused Adam on a CPU reads by address: other strides, as double backward gives them, would mix gradients up."""
    data = noise_data(32)
    options = with_(
        settings,
        model__name=model,
        model__width=0.04 if model in ("progan", "msggan") else 0.09,
        loss__name="rpgan",
        loss__penalty=penalty,
        model__g_channels=8,
        model__d_channels=8,
        model__d_norm="none",
    )
    gan = build_gan(options.model, data.shape, 0)
    G, D = FP32.place(gan.G), FP32.place(gan.D)
    t = options.training
    phases = GanStep(G, D, adam(G, t.g_lr, t), adam(D, t.d_lr, t), options, FP32)
    phases.step(GanBatches(data, options, 0, CPU, Distributed()).batch(0, 8, 0), values_at(0, options), 0)
    for weight in [*phases._learned("D").values(), *phases._learned("G").values()]:
        assert weight.grad is not None
        assert weight.grad.stride() == weight.stride()


@pytest.mark.slow
@pytest.mark.parametrize("changed", [FULL, FULL_STYLE], ids=["r3gan", "stylegan2"])
def test_a_compiled_step_gives_the_gradients_of_an_eager_one(
    settings: Settings, changed: dict[str, object]
) -> None:
    """With both exact penalties through the augmentation: second derivatives included."""
    data, settings = noise_data(labels=True), with_(settings, **changed)
    eager = grads(phases_of(data, settings), data, settings)
    compiled = grads(phases_of(data, settings, compiled=True), data, settings)
    torch.testing.assert_close(compiled, eager, rtol=1e-3, atol=1e-5)


def test_gradients_of_cuda_graphs_outlive_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replayed graph writes to the same memory each time; here a function that does."""
    memory = torch.zeros(2)

    def replay(number: float) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
        memory.fill_(number)
        return [memory], {"loss": memory[0]}

    asked: list[dict[str, object]] = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: asked.append(options) or function)
    gradients = _compile(replay, cuda_graphs=True)
    (first,), stats = gradients(1.0)
    gradients(2.0)
    assert (first.tolist(), float(stats["loss"])) == ([1.0, 1.0], 1.0)
    assert asked[0]["mode"] == "reduce-overhead"


def test_cuda_graphs_without_a_gpu_are_refused_in_one_sentence(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    asked = with_(settings, training__compile="cuda-graphs").training
    should_compile(asked, "mlp", [], FP32)
    assert "training.compile=cuda-graphs needs a GPU" in caplog.text


@pytest.mark.parametrize(
    "changed",
    [FULL, FULL | {"model__name": "msggan", "model__width": 0.02}, FULL_STYLE],
    ids=["r3gan", "msggan", "stylegan2"],
)
def test_the_functional_step_gives_the_gradients_of_an_eager_one(
    settings: Settings, changed: dict[str, object]
) -> None:
    """Checks the code that is compiled, before it is compiled: fast enough for every day."""
    settings = with_(settings, **changed)
    data = noise_data(labels=MODELS[settings.model.name].conditional)
    phases = phases_of(data, settings)
    expected = grads(phases_of(data, settings), data, settings)
    from ganpipe.training.gradient_penalties import logits_and_input_grad_functional

    phases._gradients, phases._with_input_grad = phases._gradients_pure, logits_and_input_grad_functional
    torch.testing.assert_close(grads(phases, data, settings), expected, rtol=1e-4, atol=1e-6)


class TwoScales(nn.Module, Presentation):
    """A D that is linear in images of 2×2 pixels and in their mean: `weights` of each pixel, `mean_weight` of the mean."""

    def __init__(self, weights: list[float], mean_weight: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([*weights, mean_weight]))

    def present(self, images: torch.Tensor) -> torch.Tensor:
        return self.join((images, images.mean((2, 3), keepdim=True)))

    def scales(self, shown: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return shown[:, :, :4].unflatten(2, (2, 2)), shown[:, :, 4:].unflatten(2, (1, 1))

    def join(self, scales: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return torch.cat([images.flatten(2) for images in scales], 2)

    def forward(self, shown: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return (shown * self.weights).sum((1, 2))


class Pixels(nn.Module):
    """A G whose images of one channel are its latents, four for the pixels and one for their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return self.factor * z[:, None, :5]


def scalars_of_two_scales(settings: Settings, **changed: object) -> dict[str, float]:
    """Of a step with the linear D of weights 1, 1, 1, 1 and 3: its gradients have norms 2 and 3."""
    settings = with_(settings, **changed)
    G, D, t = Pixels(), TwoScales([1.0, 1.0, 1.0, 1.0], 3.0), settings.training
    step = GanStep(G, D, adam(G, 0.0, t), adam(D, 0.0, t), settings, FP32)
    draws = torch.Generator().manual_seed(0)
    batch = Batch(
        real=torch.randn(8, 1, 2, 2, generator=draws),
        z=torch.randn(8, 8, generator=draws),
        mix=torch.rand(8, generator=draws),
        directions=torch.randn(8, 2, 5, generator=draws),
    )
    return {name: value.item() for name, value in step.step(batch, values_at(0, settings), 0).items()}


def test_the_interpolated_penalty_is_the_mean_of_each_scales_own(settings: Settings) -> None:
    scalars = scalars_of_two_scales(settings, loss__name="wgan-gp")
    assert scalars["gp"] == pytest.approx(((2 - 1) ** 2 + (3 - 1) ** 2) / 2)


def test_r1_counts_the_gradients_of_all_scales(settings: Settings) -> None:
    scalars = scalars_of_two_scales(settings, loss__name="logistic")
    assert scalars["r1"] == pytest.approx((2**2 + 3**2) / 2)


def test_the_drift_penalty_is_the_mean_square_of_the_real_logits(settings: Settings) -> None:
    """Its gradient with respect to the weights of a linear D: 2ε·E D(x)·x, beside those of the loss."""

    def gradient(drift: float) -> torch.Tensor:
        options = with_(settings, loss__name="wgan-gp", loss__penalty="none", loss__drift=drift)
        G, D, t = Pixels(), TwoScales([1.0, -1.0, 1.0, 2.0], 3.0), options.training
        step = GanStep(G, D, adam(G, 0.0, t), adam(D, 0.0, t), options, FP32)
        step.step(Batch(real, z), values_at(0, options), 0)
        assert D.weights.grad is not None
        return D.weights.grad

    real, z = torch.randn(8, 1, 2, 2), torch.randn(8, 8)
    D = TwoScales([1.0, -1.0, 1.0, 2.0], 3.0)
    shown = D.present(real)
    expected = 2 * 0.1 * (D(shown).detach()[:, None] * shown[:, 0]).mean(0)
    torch.testing.assert_close(gradient(0.1) - gradient(0.0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "loss", ["rpgan", *(pytest.param(loss, marks=pytest.mark.slow) for loss in LOSSES if loss != "rpgan")]
)
def test_every_loss_moves_every_model(settings: Settings, tmp_path: Path, loss: str) -> None:
    """Any loss with any model, with every penalty: finite losses and changed weights."""
    sides = {"mlp": 16, "dcgan": 16, "r3gan": 16, "fastgan": 32, "progan": 8, "msggan": 8, "stylegan2": 16}
    for model, side in sides.items():
        for penalty in ("auto", "both", "interpolated"):
            few = with_(
                settings,
                loss__name=loss,
                loss__penalty=penalty,
                model__name=model,
                model__width=0.02 if model in ("progan", "msggan") else 0.04,
                model__mlp_width=8,
                model__blocks=1,
                training__total_images=16,
            )
            points: list[Point] = []
            train(noise_data(side), few, tmp_path / f"{model}-{penalty}", Callbacks(points=points.extend))
            assert all(math.isfinite(value) for p in points for value in p.values.values())
            assert points[-1].values["g_grad"] > 0
            assert points[-1].values["d_grad"] > 0
