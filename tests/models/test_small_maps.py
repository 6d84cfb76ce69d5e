"""Convolutions of small maps as matrix products."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.models import small_maps
from ganpipe.models.small_maps import Conv, ConvTranspose, convolve, convolve_transposed

FORMS = [(4, 2, 1), (3, 1, 1), (3, 2, 0), (4, 1, 0), (1, 1, 0)]  # kernel, stride, padding


@pytest.fixture(autouse=True)
def always_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that seconds suffice: the rule asks for more weights than a test should have."""
    monkeypatch.setattr(small_maps, "LEAST_WEIGHTS", 0)


def operands(kernel: int) -> tuple[Tensor, Tensor, Tensor]:
    """A map of 4×6, weights and a bias, in double precision, channels last as in training."""
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 4, 6).double(), torch.randn(3, 3, kernel, kernel).double()
    last = (v.contiguous(memory_format=torch.channels_last).requires_grad_() for v in (x, weight))
    return *last, torch.randn(3).double().requires_grad_()


@pytest.mark.parametrize(("kernel", "stride", "padding"), FORMS)
@pytest.mark.parametrize(
    ("ours", "torchs"), [(convolve, F.conv2d), (convolve_transposed, F.conv_transpose2d)]
)
def test_a_product_gives_the_convolution_and_both_its_derivatives(
    ours: Callable[..., Tensor],
    torchs: Callable[..., Tensor],
    kernel: int,
    stride: int,
    padding: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(small_maps, "MOST_POSITIONS", 24)
    given = operands(kernel)

    def call(*inputs: Tensor) -> Tensor:
        return ours(*inputs, stride, padding)

    torch.testing.assert_close(call(*given), torchs(*given, stride, padding))
    assert torch.autograd.gradcheck(call, given)
    assert torch.autograd.gradgradcheck(call, given)


def test_the_output_lies_channels_last_as_the_next_layer_wants_it() -> None:
    x, weight, bias = operands(4)
    for y in (convolve(x, weight, bias, 2, 1), convolve_transposed(x, weight, bias, 2, 1)):
        assert y.is_contiguous(memory_format=torch.channels_last)


def made_by_product(monkeypatch: pytest.MonkeyPatch, layer: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Whether a layer does not call torch's convolutions."""
    called = []
    for name in ("conv2d", "conv_transpose2d"):
        real = getattr(F, name)
        monkeypatch.setattr(F, name, lambda *a, real=real: called.append(1) or real(*a))
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
    monkeypatch.setattr(small_maps, "LEAST_WEIGHTS", 500_000)
    x = torch.randn(1, layer.in_channels, side, side)
    assert made_by_product(monkeypatch, layer, x) == product


def test_an_exported_graph_holds_the_convolution_itself() -> None:
    graph = torch.export.export(Conv(4, 4, 4, 2, 1), (torch.randn(1, 4, 8, 8),)).graph
    assert any("conv2d" in str(node.target) for node in graph.nodes)
