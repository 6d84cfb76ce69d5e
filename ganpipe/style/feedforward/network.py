"""The feed-forward network that stylizes an image in one pass: layers, application, files.

A feed-forward network is an image transformer (Johnson, Alahi & Fei-Fei 2016, arXiv 1603.08155) with instance normalization
(Ulyanov et al. 2016, arXiv 1607.08022) whose scale and shift belong to the style (Dumoulin et al. 2017,
arXiv 1610.07629), so that one network stylizes several styles and their blends.

Departures, so that the style shows after hundreds of training images, not tens of thousands: the last convolution is
added to the image itself, as the optimizer starts from the content; colors start as the style's; noise is an extra
input, or a plain sky gets no strokes (as in Ulyanov et al. 2016, arXiv 1603.03417). All kernels are 3×3 and borders are
zeros: 9×9 kernels and reflected borders took four fifths of a step on a CPU (LOG.md). Its training is in `train`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganpipe.compute.device import Compute
from ganpipe.compute.random import generator_at
from ganpipe.compute.weights import NetworkFiles
from ganpipe.style.joint_upsampling import joint_upsample
from ganpipe.style.losses import sum_positions
from ganpipe.style.optimize import resize, size_at

EPS = 1e-5  # added to a variance before the root
SHRINK = 4  # side in pixels of a cell of the residual blocks
# Longer edge of what a network stylizes, at most: trained at 1,024 px, its strokes are a fine regular pattern (LOG.md).
NETWORK_PX = 512
MARGIN_PX = 16  # added around an image and cut off again, or its zero borders would show
NOISE_CELLS_PX = (4, 16)
NOISE = 104  # key of a stream drawn from the same seed as those of `crops`
# Raise it with every change of the network or its training, or batches reuse networks from before the change.
NETWORK_VERSION = 2
CONFIG = "model.json"
FILES = NetworkFiles("model.safetensors", CONFIG)


class _Norm(torch.autograd.Function):
    """Instance normalization of `x: [N, C, H, W]`, then `scale` and `shift: [N, C]`.

    Written out because torch's own leave the channels-last layout (instance_norm) or are 20 times slower backward in
    it (group_norm). Sums are in float32; backward takes two passes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        mean, square = _mean(x), _mean(x * x)
        rstd = (square - mean * mean).clamp_min(0).add(EPS).rsqrt()
        ctx.save_for_backward(x, mean, rstd, scale)
        return torch.addcmul(_map(shift - mean * rstd * scale, x), x, _map(rstd * scale, x))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, mean, rstd, scale = ctx.saved_tensors
        slope = slopes[0]
        by_shift = _mean(slope)
        by_scale = (_mean(slope * x) - mean * by_shift) * rstd
        gain = rstd * scale
        of_x = -gain * rstd * by_scale
        rest = torch.addcmul(_map(-gain * by_shift - of_x * mean, x), x, _map(of_x, x))
        pixels = x.shape[2] * x.shape[3]
        return torch.addcmul(rest, slope, _map(gain, x)), by_scale * pixels, by_shift * pixels


def _mean(x: Tensor) -> Tensor:
    """Mean over positions, `[N, C]`, in float32 at least."""
    if x.dtype == torch.float64:
        return x.mean((2, 3))
    return sum_positions(x.flatten(2).transpose(1, 2)) / (x.shape[2] * x.shape[3])


def _map(values: Tensor, like: Tensor) -> Tensor:
    """Reshapes `[N, C]` to `[N, C, 1, 1]`, in the type of `like`."""
    return values.to(like.dtype)[:, :, None, None]


class ConditionalNorm(nn.Module):
    """Instance normalization with one row of scales and shifts per style (Dumoulin et al. 2017, eq. 5)."""

    def __init__(self, channels: int, styles: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(styles, channels))
        self.shift = nn.Parameter(torch.zeros(styles, channels))

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        """`x: [N, C, H, W]`; `shares: [N, S]` mix the rows."""
        # Products and sums, not a matrix product, which autocast would round to bf16.
        scale, shift = ((shares[:, :, None] * rows).sum(1) for rows in (self.scale, self.shift))
        normalized: Tensor = _Norm.apply(x, scale, shift)
        return normalized


class _Conv(nn.Module):
    """Optional nearest upsampling, a 3×3 convolution, and the conditional norm."""

    def __init__(self, inputs: int, outputs: int, styles: int, stride: int = 1, up: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = ConditionalNorm(outputs, styles)
        self.up = up

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        if self.up > 1:
            x = F.interpolate(x, scale_factor=float(self.up), mode="nearest")
        normalized: Tensor = self.norm(self.conv(x), shares)
        return normalized


class _Residual(nn.Module):
    """x + norm(conv(relu(norm(conv(x)))))."""

    def __init__(self, channels: int, styles: int) -> None:
        super().__init__()
        self.first, self.second = (_Conv(channels, channels, styles) for _ in range(2))

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        inner = F.relu(self.first(x, shares), inplace=True)
        outer: Tensor = x + self.second(inner, shares)
        return outer


@dataclass(frozen=True)
class FeedforwardConfig:
    """The architecture of a feed-forward network. `styles`: their names, in the order of the columns of `shares`."""

    styles: tuple[str, ...]
    width: int = 32  # channels at full size; twice and four times as many below
    blocks: int = 5  # residual, at a quarter of the size


class FeedforwardNetwork(nn.Module):
    """The image transformer: two strided convolutions, residual blocks, two upsampling convolutions."""

    def __init__(self, config: FeedforwardConfig) -> None:
        super().__init__()
        w, s = config.width, len(config.styles)
        self.config = config
        self.down = nn.ModuleList(
            [
                _Conv(3 + len(NOISE_CELLS_PX), w, s),
                _Conv(w, 2 * w, s, stride=2),
                _Conv(2 * w, 4 * w, s, stride=2),
            ]
        )
        self.blocks = nn.ModuleList(_Residual(4 * w, s) for _ in range(config.blocks))
        self.up = nn.ModuleList([_Conv(4 * w, 2 * w, s, up=2), _Conv(2 * w, w, s, up=2)])
        self.out = nn.Conv2d(w, 3, 3, padding=1, bias=False)
        self.colors = ConditionalNorm(3, s)

    def forward(self, images: Tensor, shares: Tensor, noise_seed: int = 0, margin_px: int = 0) -> Tensor:
        """Stylizes `images: [N, 3, H, W]` in [0, 1], of any size, in styles mixed by `shares: [N, S]`; returns [0, 1].

        The whole batch gets the same noise, so that an image does not depend on the others. The nearest pixels are repeated
        `margin_px` around each image, and up to a whole number of cells; what becomes of them is cut off.
        """
        height, width = images.shape[2:]
        right, bottom = margin_px + -width % SHRINK, margin_px + -height % SHRINK
        whole = F.pad(images, (margin_px, right, margin_px, bottom), mode="replicate")
        noise = noise_maps(whole.shape[2], whole.shape[3], noise_seed).to(whole.device)
        x = torch.cat([whole, noise.expand(len(whole), -1, -1, -1)], 1)
        for conv in self.down:
            x = F.relu(conv(x, shares), inplace=True)
        for block in self.blocks:
            x = block(x, shares)
        for conv in self.up:
            x = F.relu(conv(x, shares), inplace=True)
        inner = (..., slice(margin_px, margin_px + height), slice(margin_px, margin_px + width))
        return torch.sigmoid(self.colors((self.out(x).float() + whole)[inner], shares))

    @torch.no_grad()
    def take_colors(self, style: int, image: Tensor) -> None:
        """Sets a style's output mean and deviation, before the sigmoid, to those of `image: [1, 3, h, w]`."""
        inner = torch.logit(image.to(self.colors.scale).clamp(0.02, 0.98))
        self.colors.shift[style] = inner.mean((0, 2, 3))
        self.colors.scale[style] = inner.std((0, 2, 3), correction=0)


def noise_maps(height: int, width: int, seed: int) -> Tensor:
    """Smooth noise `[1, M, H, W]` in cells of several sizes. Sharp cells showed as a grid in the images."""
    maps = []
    for cell in NOISE_CELLS_PX:
        shape = (1, 1, -(-height // cell), -(-width // cell))
        small = torch.randn(shape, generator=generator_at(seed, NOISE, cell))
        maps.append(F.interpolate(small, scale_factor=float(cell), mode="bilinear")[:, :, :height, :width])
    return torch.cat(maps, 1)


@torch.no_grad()
def apply_network(
    feedforward: FeedforwardNetwork, contents: Tensor, shares: Tensor, compute: Compute
) -> Tensor:
    """Stylizes `contents: [N, 3, H, W]` in [0, 1] in styles mixed by `shares: [N, S]`; returns float32 in [0, 1].

    Contents larger than NETWORK_PX are stylized at that size, and the result is enlarged by `joint_upsample`.
    """
    compute.place(feedforward)
    contents = contents.to(compute.device)
    height, width = contents.shape[2:]
    small = (
        contents if max(height, width) <= NETWORK_PX else resize(contents, size_at(height, width, NETWORK_PX))
    )
    with compute.autocast():
        stylized_images: Tensor = feedforward(
            small.contiguous(memory_format=torch.channels_last),
            shares.to(compute.device),
            margin_px=MARGIN_PX,
        )
    return joint_upsample(stylized_images, contents)


def save_network(
    folder: Path, feedforward: FeedforwardNetwork, config: FeedforwardConfig, origin: dict[str, Any]
) -> None:
    """Writes the network's weights, and a JSON file with its config and origin.

    `origin`: at least the result's `inputs`.
    """
    FILES.write(folder, feedforward, {"format": 1, "model": asdict(config)}, origin)


def load_network(folder: Path) -> tuple[FeedforwardNetwork, dict[str, Any]]:
    """Loads the network in `folder`, on the CPU in evaluation mode, and its JSON.

    Raises:
        GanpipeError: a file is missing or damaged, or the two do not match.
    """

    def build(note: dict[str, Any]) -> FeedforwardNetwork:
        model = note["model"]
        return FeedforwardNetwork(FeedforwardConfig(tuple(model["styles"]), model["width"], model["blocks"]))

    return FILES.read(folder, build)
