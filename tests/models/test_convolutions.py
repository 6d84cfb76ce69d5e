"""Convolutions with fast derivatives, and as matrix products of small maps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.models import convolutions
from ganpipe.models.convolutions import Conv, ConvTranspose, convolve, convolve_transposed, input_gradient

FORMS = [(4, 2, 1), (3, 1, 1), (3, 2, 0), (4, 1, 0), (1, 1, 0)]  # kernel, stride, padding


@pytest.fixture(autouse=True)
def small_ones_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that seconds suffice: the rules ask for more weights and pixels than a test should have."""
    monkeypatch.setattr(convolutions, "LEAST_WEIGHTS", 0)
    monkeypatch.setattr(convolutions, "LARGE_POSITIONS", 0)


def operands(kernel: int) -> tuple[Tensor, Tensor, Tensor]:
    """A map of 4×6, weights and a bias, in double precision, channels last as in training."""
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 4, 6).double(), torch.randn(3, 3, kernel, kernel).double()
    last = (v.contiguous(memory_format=torch.channels_last).requires_grad_() for v in (x, weight))
    return *last, torch.randn(3).double().requires_grad_()


@pytest.mark.parametrize("most_positions", [0, 24], ids=["direct", "product"])
@pytest.mark.parametrize(("kernel", "stride", "padding"), FORMS)
@pytest.mark.parametrize(
    ("ours", "torchs"), [(convolve, F.conv2d), (convolve_transposed, F.conv_transpose2d)]
)
def test_a_convolution_and_its_first_two_derivatives_are_those_of_torch(
    ours: Callable[..., Tensor],
    torchs: Callable[..., Tensor],
    kernel: int,
    stride: int,
    padding: int,
    most_positions: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(convolutions, "MOST_POSITIONS", most_positions)
    given = operands(kernel)

    def all_of(convolution: Callable[..., Tensor]) -> list[Tensor]:
        with input_gradient():
            y = convolution(*given, stride, padding)
            (first,) = torch.autograd.grad(y.square().sum(), given[0], create_graph=True)
        second = torch.autograd.grad(y.sin().sum() + first.square().sum(), given)
        return [y, first, *second]

    torch.testing.assert_close(all_of(ours), all_of(torchs))


def test_groups_and_autocast_are_those_of_torch() -> None:
    layer, plain = Conv(8, 8, 3, padding=1, groups=4), torch.nn.Conv2d(8, 8, 3, padding=1, groups=4)
    plain.load_state_dict(layer.state_dict())
    found = []
    for network in (layer, plain):
        images = torch.linspace(-1, 1, 1024).view(2, 8, 8, 8).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16), input_gradient():
            y = network(images)
            (input_grad,) = torch.autograd.grad(y.square().sum(), images, create_graph=True)
        (y.sum() + input_grad.square().sum()).backward()
        found.append((y, input_grad, network.weight.grad, network.bias.grad))
    for ours, torchs in zip(*found, strict=True):  # a sum of parts, each rounded to bf16, in another order
        torch.testing.assert_close(ours, torchs, rtol=0.0, atol=float(2**-7 * torchs.detach().abs().max()))


def test_a_gradient_of_the_input_alone_computes_no_gradient_of_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    real = convolutions.Form.gradients
    monkeypatch.setattr(
        convolutions.Form, "gradients", lambda *a: asked.append([bool(w) for w in a[-1]]) or real(*a)
    )
    images, layer = torch.randn(1, 4, 8, 8).requires_grad_(), Conv(4, 4, 3)
    with input_gradient():
        torch.autograd.grad(layer(images).sum(), images, create_graph=True)
    assert asked == [[True, False, False]]


def test_the_output_lies_channels_last_as_the_next_layer_wants_it() -> None:
    x, weight, bias = operands(4)
    for y in (convolve(x, weight, bias, 2, 1), convolve_transposed(x, weight, bias, 2, 1)):
        assert y.is_contiguous(memory_format=torch.channels_last)


def made_by_product(monkeypatch: pytest.MonkeyPatch, layer: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Whether a layer does not convolve."""
    called = []
    real = convolutions._direct
    monkeypatch.setattr(convolutions, "_direct", lambda *a: called.append(1) or real(*a))
    layer(x)
    return not called


@pytest.mark.parametrize(
    ("layer", "side", "product"),
    [
        (Conv(256, 128, 4, 2, 1), 8, True),  # 524,288 weights, to 4×4
        (Conv(256, 128, 4, 2, 1), 16, False),  # to 8×8
        (Conv(64, 128, 4, 2, 1), 8, False),  # few weights
        (Conv(64, 1, 4), 4, True),  # the kernel covers the map
        (ConvTranspose(256, 128, 4, 2, 1), 4, True),
        (ConvTranspose(256, 128, 4, 2, 1), 8, False),
        (ConvTranspose(16, 64, 4), 1, True),  # from a latent
    ],
)
def test_shapes_alone_decide_what_is_a_product(
    layer: torch.nn.Module, side: int, product: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolutions, "LEAST_WEIGHTS", 500_000)
    x = torch.randn(1, layer.in_channels, side, side)
    assert made_by_product(monkeypatch, layer, x) == product


def test_an_exported_graph_holds_the_convolution_itself() -> None:
    graph = torch.export.export(Conv(4, 4, 4, 2, 1), (torch.randn(1, 4, 8, 8),)).graph
    assert any("conv2d" in str(node.target) for node in graph.nodes)
