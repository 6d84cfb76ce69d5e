"""ProGAN (Karras et al. 2018, arXiv 1710.10196): G and D grow from a map of about 4×4 to full size while they train.

Growing: section 2 and figure 2. Pixel norm, equalized learning rate, minibatch stddev: sections 3 and 4. Widths and
layers: table 2, which `model.width=1` and `model.taper_from_px=32` give.

Departures: sides may differ and need not be powers of two (48 is 6·8); channels are those of the dataset; widths are
settings, because a CPU needs smaller networks; minibatch stddev is that of groups of at most 8 images; G is not told labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganpipe.imaging.image import ImageShape
from ganpipe.models.dcgan import MinibatchStd
from ganpipe.models.equalized import EqualizedConv, EqualizedLinear, pixel_norm, widths
from ganpipe.models.layers import base_size, doublings, size_problem
from ganpipe.models.presentation import Presentation
from ganpipe.settings.schema import ModelSettings

SMALLEST_PX, LARGEST_PX = 8, 1024
GAIN = math.sqrt(2)  # of a layer before a leaky ReLU


def shape_problem(shape: ImageShape) -> str | None:
    """Why this shape is impossible, as the end of a sentence; None if progan can make it."""
    return size_problem(shape, SMALLEST_PX, LARGEST_PX)


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU with a slope of 0.2."""
    return F.leaky_relu(x, 0.2)


def enlarge(images: Tensor, times: int) -> Tensor:
    """Nearest upsampling."""
    return images if times == 1 else F.interpolate(images, scale_factor=float(times), mode="nearest")


def shrink(images: Tensor, times: int) -> Tensor:
    """Means over squares of `times`×`times` pixels."""
    return images if times == 1 else F.avg_pool2d(images, times)


class GeneratorBlock(nn.Module):
    """Nearest doubling, then two 3×3 convolutions, each with leaky ReLU and pixel norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = EqualizedConv(inputs, outputs, 3, gain=GAIN)
        self.second = EqualizedConv(outputs, outputs, 3, gain=GAIN)

    def forward(self, x: Tensor) -> Tensor:
        x = enlarge(x, 2)
        x = pixel_norm(leaky(self.first(x)))
        return pixel_norm(leaky(self.second(x)))


class FirstBlock(nn.Module):
    """A 3×3 convolution of the smallest map, with leaky ReLU and pixel norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = EqualizedConv(channels, channels, 3, gain=GAIN)

    def forward(self, x: Tensor) -> Tensor:
        return pixel_norm(leaky(self.first(x)))


class DiscriminatorBlock(nn.Module):
    """Two 3×3 convolutions with leaky ReLU, then average pooling. `added`: channels that were joined to the inputs."""

    def __init__(self, inputs: int, outputs: int, added: int) -> None:
        super().__init__()
        self.first = EqualizedConv(inputs + added, inputs, 3, gain=GAIN)
        self.second = EqualizedConv(inputs, outputs, 3, gain=GAIN)

    def forward(self, x: Tensor) -> Tensor:
        return shrink(leaky(self.second(leaky(self.first(x)))), 2)


class LastBlock(nn.Module):
    """A 3×3 convolution, one over the whole smallest map, and a fully connected layer: logits `[N]`."""

    def __init__(self, channels: int, added: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.first = EqualizedConv(channels + added, channels, 3, gain=GAIN)
        self.second = EqualizedConv(channels, channels, size, gain=GAIN)
        self.to_logit = EqualizedLinear(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = leaky(self.second(leaky(self.first(x))))
        return self.to_logit(x.flatten(1)).squeeze(1)


class GeneratorLayers(nn.Module):
    """The layers of a G by level, the smallest map first. `drawn`: the levels that have a layer to images.

    The mapping is the first layer, which makes the smallest map: it ignores the length of latents, as they lie on the
    hypersphere.
    """

    def __init__(self, settings: ModelSettings, shape: ImageShape, drawn: Iterable[int]) -> None:
        super().__init__()
        wide = widths(settings, shape)
        self.base = base_size(shape)
        self.levels = len(wide) - 1
        # The paper's first layer is a convolution over a padded map; its fan-in has the size of that map as a factor.
        pixels = self.base[0] * self.base[1]
        self.start = EqualizedLinear(settings.z_dim, wide[0] * pixels, gain=GAIN / math.sqrt(pixels))
        blocks = [GeneratorBlock(a, b) for a, b in pairwise(wide)]
        self.blocks = nn.ModuleList([FirstBlock(wide[0]), *blocks])
        self.images = nn.ModuleDict({str(k): EqualizedConv(wide[k], shape.channels, 1) for k in drawn})

    def mapping(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """The smallest map."""
        return pixel_norm(leaky(self.start(pixel_norm(z)).unflatten(1, (-1, *self.base))))

    def image(self, level: int, x: Tensor) -> Tensor:
        """The images `[N, C, h, w]` of a level's map."""
        return self.images[str(level)](x)


class DiscriminatorLayers(nn.Module):
    """The layers of a D by level, the smallest map first. `read`: the levels that have a layer from images.

    `joined`: the levels at whose start images are joined to the map, with minibatch stddev.
    """

    def __init__(
        self, settings: ModelSettings, shape: ImageShape, read: Iterable[int], joined: Iterable[int] = ()
    ) -> None:
        super().__init__()
        wide = widths(settings, shape)
        self.levels = len(wide) - 1
        self.joined = frozenset(joined)
        added = [shape.channels * (k in self.joined) + (k == 0 or k in self.joined) for k in range(len(wide))]
        blocks = [DiscriminatorBlock(wide[k], wide[k - 1], added[k]) for k in range(1, len(wide))]
        self.blocks = nn.ModuleList([LastBlock(wide[0], added[0], base_size(shape)), *blocks])
        self.images = nn.ModuleDict(
            {str(k): EqualizedConv(shape.channels, wide[k], 1, gain=GAIN) for k in read}
        )
        self.minibatch_std = MinibatchStd()

    def read(self, level: int, images: Tensor) -> Tensor:
        """A level's map of images `[N, C, h, w]`."""
        return leaky(self.images[str(level)](images))

    def block(self, level: int, x: Tensor) -> Tensor:
        """The map of the level below; logits after the last one."""
        return self.blocks[level](self.minibatch_std(x) if level == 0 or level in self.joined else x)


class Growing:
    """The part of a network that grows with the number of images seen.

    Training at the smallest size, then in turn a fade to twice the size and training at that size, each for as many images,
    until a fade has reached full size. `progress` is the level of the largest map in use, and in a fade the level before it
    plus α: it is part of the state, so that a saved network draws the same images. A network that was loaded is never
    smaller than it was saved.
    """

    levels: int
    blocks: nn.ModuleList
    images: nn.ModuleDict
    growth_images = 0
    saved_progress = 0.0
    _progress: float | None = None

    @property
    def progress(self) -> float:
        """From 0 to `levels`, which a network has that was neither told to grow nor loaded."""
        return self.levels if self._progress is None else self._progress

    @property
    def level(self) -> int:
        """Of the largest map in use."""
        return math.ceil(self.progress)

    @property
    def alpha(self) -> float:
        """Weight of that map's images in a fade; 1 outside one."""
        return self.progress - self.level + 1

    def begin_growth(self, images: int) -> None:
        """Starts at the smallest size; full size is reached after so many images (0: at once)."""
        self.growth_images = images
        self.set_progress(0)

    def set_progress(self, nimg: int) -> None:
        """Grows to the size at `nimg` images."""
        scheduled = float(self.levels)
        if nimg < self.growth_images:
            whole, part = divmod(self.levels * nimg / self.growth_images, 1)
            scheduled = whole + max(0.0, 2 * part - 1)
        self._progress = max(self.saved_progress, scheduled)

    def phase_starts(self) -> list[int]:
        """The nimg at which each phase begins: a size, a fade, a size, …, full size."""
        phases = 2 * self.levels
        return (
            [-(-self.growth_images * k // phases) for k in range(phases + 1)] if self.growth_images else [0]
        )

    def unused(self) -> frozenset[str]:
        """Names of the parameters that are not in use yet, or no longer."""
        drawn = {self.level, self.level if self.alpha == 1 else self.level - 1}
        blocks = {f"blocks.{k}": m for k, m in enumerate(self.blocks) if k > self.level}
        images = {f"images.{k}": m for k, m in self.images.items() if int(k) not in drawn}
        return frozenset(
            f"{prefix}.{name}"
            for prefix, module in (blocks | images).items()
            for name, _ in module.named_parameters()
        )

    def get_extra_state(self) -> Tensor:
        """Its progress, as a tensor of the state."""
        return torch.tensor([self.progress], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """The inverse."""
        self.saved_progress = self._progress = float(state)


class ProganGenerator(Growing, GeneratorLayers):
    """`z: [N, z_dim]` → images `[N, C, H, W]`, near `[-1, 1]`, without an output activation.

    In training mode they have the size that G has grown to; in evaluation mode they are enlarged to full size.
    """

    def __init__(self, settings: ModelSettings, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(settings, shape, range(doublings(shape) + 1))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.synthesis(self.mapping(z))

    def synthesis(self, w: Tensor) -> Tensor:
        """The images of a smallest map."""
        images = self.draw(w, self.level, self.alpha)
        return images if self.training else enlarge(images, 2 ** (self.levels - self.level))

    def draw(self, w: Tensor, level: int, alpha: float) -> Tensor:
        """The images of a level; in a fade, a share 1 − `alpha` of the level before it."""
        x = before = self.blocks[0](w)
        for block in self.blocks[1 : level + 1]:
            before, x = x, block(x)
        images = self.image(level, x)
        if alpha == 1:
            return images
        return torch.lerp(enlarge(self.image(level - 1, before), 2), images, alpha)


class ProganDiscriminator(Growing, DiscriminatorLayers, Presentation):
    """Images `[N, C, h, w]` of the size that D has grown to → logits `[N]`; in evaluation mode, images of full size."""

    def __init__(self, settings: ModelSettings, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(settings, shape, range(doublings(shape) + 1))

    def present(self, images: Tensor) -> Tensor:
        """Images of the present size; in a fade, with less of the finest details (section 2)."""
        shown = shrink(images, 2 ** (self.levels - self.level))
        if self.alpha == 1:
            return shown
        return torch.lerp(enlarge(shrink(shown, 2), 2), shown, self.alpha)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.judge(images if self.training else self.present(images), self.level, self.alpha)

    def judge(self, images: Tensor, level: int, alpha: float) -> Tensor:
        """Logits of a level; in a fade, a share 1 − `alpha` of the map comes from the images at half the size."""
        x = self.block(level, self.read(level, images))
        if alpha < 1:
            x = torch.lerp(self.read(level - 1, shrink(images, 2)), x, alpha)
        for smaller in reversed(range(level)):
            x = self.block(smaller, x)
        return x
