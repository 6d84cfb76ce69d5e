"""ReLU and average pooling in their own forms for a CPU: values and gradients of torch's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.vgg19.layers import average_pool, relu_


def value_and_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_(True)
    value = function(leaf * 1)  # not a leaf, which nothing may change in place
    slope = torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).to(value)
    return value.detach(), torch.autograd.grad(value, leaf, slope)[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_relu_in_place_is_torchs_with_its_gradient(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[0, 0, 0, :4] = torch.tensor([0.0, -0.0, float("inf"), -float("inf")])
    for found, expected in zip(value_and_gradient(relu_, x), value_and_gradient(F.relu, x), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("size", [(6, 8), (5, 8), (6, 7), (5, 7), (1, 1), (1, 4)])
def test_average_pooling_is_torchs_with_its_gradient_for_odd_sides_too(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = value_and_gradient(lambda image: F.avg_pool2d(image, 2, ceil_mode=True), x)
    for found, wanted in zip(value_and_gradient(average_pool, x), expected, strict=True):
        torch.testing.assert_close(found, wanted)
