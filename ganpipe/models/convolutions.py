"""Convolutions that are fast in a gradient penalty, and for small maps.

**Gradient penalties** differentiate D's input gradient with respect to the weights. For that torch convolves maps with maps,
a kernel as large as an image, at a twentieth of the speed of a weight gradient: 40% of what R3GAN's convolutions took in bf16.
A convolution is bilinear in its input and its weights, so its derivatives of any order are again convolutions, input
gradients and weight gradients (as in NVIDIA's `conv2d_gradfix`).

**Small maps.** A convolution to a map of 4×4 pixels reads more weights than pixels, and direct convolutions on a CPU read them
slowly. DCGAN's widest layer at 64 px, forward and backward with 64 images, took 32 ms directly and 11 ms as a matrix product in
bf16, 71 and 43 ms in float32, 86 and 67 ms without AVX-512. With fewer weights or larger maps the direct convolution is as fast
or faster. The choice depends on shapes alone: a resumed or repeated training makes the same one. LOG.md has the figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_POSITIONS, LEAST_WEIGHTS = 16, 500_000  # of a product
LARGE_POSITIONS = 1024  # below, without groups, torch's own second derivative is as fast


@dataclass(frozen=True)
class Form:
    """A convolution or transposed convolution without its weights."""

    stride: int = 1
    padding: int = 0
    groups: int = 1
    transposed: bool = False

    def arguments(self) -> tuple[Any, ...]:
        """As torch's operators take them: stride, padding, dilation, transposed, output padding, groups."""
        return [self.stride] * 2, [self.padding] * 2, [1, 1], self.transposed, [0, 0], self.groups

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The convolution."""
        return torch.ops.aten.convolution(x, weight, bias, *self.arguments())

    def gradients(
        self, slope: Tensor, x: Tensor, weight: Tensor, wanted: Sequence[bool]
    ) -> list[Tensor | None]:
        """The gradients of `slope` · the convolution with respect to input, weights and bias, those that are wanted.

        Of what is alone wanted, the shape and layout count, not the values: the convolution is linear in each.
        """
        bias = [weight.shape[1] * self.groups if self.transposed else weight.shape[0]]
        found = torch.ops.aten.convolution_backward(slope, x, weight, bias, *self.arguments(), list(wanted))
        return list(found)


_inputs_only = False


@contextmanager
def input_gradient() -> Iterator[None]:
    """Convolutions computed inside are differentiated twice, and their gradients inside are those of inputs alone.

    `autograd.grad` with respect to images would otherwise compute gradients of weights and drop them: torch does not tell a
    function of our own what is asked for.
    """
    global _inputs_only  # a backward pass on a GPU runs in a thread of torch's
    _inputs_only = True
    try:
        yield
    finally:
        _inputs_only = False


class _Convolution(torch.autograd.Function):
    """x, w, b ↦ x ∗ w + b."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, form: Form) -> Tensor:
        return form.apply(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.form = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias, _ = ctx.needs_input_grad
        wanted = (for_x, for_weight and not _inputs_only, for_bias and not _inputs_only)
        return *_Gradients.apply(slopes[0], x, weight, ctx.form, wanted), None


class _Gradients(torch.autograd.Function):
    """g, x, w ↦ the gradients of g · (x ∗ w + b) with respect to x, w and b, those that are wanted."""

    @staticmethod
    def forward(
        slope: Tensor, x: Tensor, weight: Tensor, form: Form, wanted: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        return tuple(form.gradients(slope, x, weight, wanted))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        slope, x, weight, ctx.form, _ = inputs
        ctx.save_for_backward(slope, x, weight)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        (of_x, of_weight, of_bias), (slope, x, weight), form = slopes, ctx.saved_tensors, ctx.form
        for_slope, for_x, for_weight, *_ = ctx.needs_input_grad
        to_slope: Tensor | None = None
        if for_slope:
            parts = [_Convolution.apply(of_x, weight, None, form)] if of_x is not None else []
            parts += [_Convolution.apply(x, of_weight, None, form)] if of_weight is not None else []
            parts += [of_bias[:, None, None].expand_as(slope)] if of_bias is not None else []
            to_slope = sum(parts[1:], parts[0]) if parts else None
        to_x = to_weight = None
        if for_x and of_weight is not None:
            to_x = _Gradients.apply(slope, x, of_weight, form, (True, False, False))[0]
        if for_weight and of_x is not None:
            to_weight = _Gradients.apply(slope, of_x, weight, form, (False, True, False))[1]
        return to_slope, to_x, to_weight, None, None


class _Patches(torch.autograd.Function):
    """`x: [N, C, H, W]` → the patch under the kernel at each position, `[N·H'·W', K·K·C]`, rows and columns first."""

    @staticmethod
    def forward(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        n, channels, height, width = x.shape
        padded = x.new_zeros(n, height + 2 * padding, width + 2 * padding, channels)
        padded[:, padding : padding + height, padding : padding + width] = x.permute(0, 2, 3, 1)
        rows, columns = _positions(height, width, kernel, stride, padding)
        image, row, column, _ = padded.stride()
        patches = padded.as_strided(
            (n, rows, columns, kernel, kernel * channels), (image, stride * row, stride * column, row, 1)
        )
        return patches.reshape(n * rows * columns, kernel * kernel * channels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, *numbers = inputs
        ctx.args = (x.shape, *numbers)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        return _Fold.apply(slopes[0], *ctx.args), None, None, None


class _Fold(torch.autograd.Function):
    """The adjoint of `_Patches`: adds patches up into the map `[N, C, H, W]` that they lie in."""

    @staticmethod
    def forward(patches: Tensor, shape: torch.Size, kernel: int, stride: int, padding: int) -> Tensor:
        n, channels, height, width = shape
        rows, columns = _positions(height, width, kernel, stride, padding)
        patches = patches.view(n, rows, columns, kernel, kernel, channels)
        padded = patches.new_zeros(n, height + 2 * padding, width + 2 * padding, channels)
        for y in range(kernel):
            for x in range(kernel):
                bottom, right = y + stride * (rows - 1) + 1, x + stride * (columns - 1) + 1
                padded[:, y:bottom:stride, x:right:stride] += patches[:, :, :, y, x]
        inner = padded[:, padding : padding + height, padding : padding + width]
        return inner.contiguous().permute(0, 3, 1, 2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.args = inputs[2:]

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        return _Patches.apply(slopes[0], *ctx.args), None, None, None, None


def _positions(height: int, width: int, kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """Rows and columns of the map that a convolution makes."""
    return (height + 2 * padding - kernel) // stride + 1, (width + 2 * padding - kernel) // stride + 1


def _as_product(x: Tensor, weight: Tensor, form: Form, positions: int) -> bool:
    """Whether a product is faster."""
    return (
        x.device.type == "cpu"
        and form.groups == 1
        and weight.shape[2] == weight.shape[3]
        and positions <= MOST_POSITIONS
        and (weight.numel() >= LEAST_WEIGHTS or positions == 1)
    )


def _is_captured() -> bool:
    """Whether a graph is being compiled or exported: it then holds the convolution itself."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def _direct(x: Tensor, weight: Tensor, bias: Tensor | None, form: Form) -> Tensor:
    """The convolution itself, in the precision of autocast, which does not see into functions of our own."""
    if not (_inputs_only and (form.groups > 1 or x.shape[2] * x.shape[3] >= LARGE_POSITIONS)):
        layout = form.stride, form.padding
        if form.transposed:
            return F.conv_transpose2d(x, weight, bias, *layout)
        return F.conv2d(x, weight, bias, *layout, 1, form.groups)
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
    return _Convolution.apply(x, weight, bias, form)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0, groups: int = 1
) -> Tensor:
    """`torch.nn.functional.conv2d`, with faster derivatives, and as a matrix product if that is faster here."""
    if _is_captured():
        return F.conv2d(x, weight, bias, stride, padding, 1, groups)
    n, _, height, width = x.shape
    outputs, _, kernel, _ = weight.shape
    form = Form(stride, padding, groups)
    rows, columns = _positions(height, width, kernel, stride, padding)
    if not _as_product(x, weight, form, rows * columns):
        return _direct(x, weight, bias, form)
    patches = _Patches.apply(x, kernel, stride, padding)
    y = F.linear(patches, weight.permute(0, 2, 3, 1).reshape(outputs, -1), bias)
    return y.view(n, rows, columns, outputs).permute(0, 3, 1, 2)


def convolve_transposed(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0
) -> Tensor:
    """`torch.nn.functional.conv_transpose2d`, as `convolve`."""
    if _is_captured():
        return F.conv_transpose2d(x, weight, bias, stride, padding)
    n, channels, height, width = x.shape
    _, outputs, kernel, _ = weight.shape
    form = Form(stride, padding, transposed=True)
    if not _as_product(x, weight, form, height * width):
        return _direct(x, weight, bias, form)
    patches = x.permute(0, 2, 3, 1).reshape(-1, channels) @ weight.permute(0, 2, 3, 1).reshape(channels, -1)
    made = [(side - 1) * stride - 2 * padding + kernel for side in (height, width)]
    y = _Fold.apply(patches, torch.Size((n, outputs, *made)), kernel, stride, padding)
    return y if bias is None else y + bias[:, None, None]


class Conv(nn.Conv2d):
    """`nn.Conv2d` by `convolve`: square stride and padding."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return convolve(x, weight, bias, self.stride[0], int(self.padding[0]), self.groups)


class ConvTranspose(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` by `convolve_transposed`: square stride and padding, one group."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        assert output_size is None
        return convolve_transposed(x, self.weight, self.bias, self.stride[0], int(self.padding[0]))
