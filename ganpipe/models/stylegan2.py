"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958), with the mapping network of Karras et al. 2019 (arXiv 1812.04948).

G: a mapping network makes w from z; at every layer of the synthesis w scales the channels of a convolution, whose
output is scaled back (modulation and demodulation, section 2.2), and noise is added; the image is the sum of one image per
resolution (skip connections, section 4.1). D: residual blocks and minibatch stddev. Learning rates are equalized. With
`model.width=1` the widths are those of configuration F if `model.taper_from_px=64`, of configuration E if it is 32.

Departures: sides may differ and need not be powers of two (48 is 6·8); w has as many dimensions as z; which images mix
styles, and where, is drawn per image; images are halved and doubled with repeated edges. Labels enter as in Karras et al.
2020b (arXiv 2006.06676): embedded beside z, and by projection in D, here through one layer instead of a network.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganpipe.compute.random import FIXED_NOISE, generator_at
from ganpipe.imaging.image import ImageShape
from ganpipe.models.convolutions import convolve, convolve_transposed
from ganpipe.models.dcgan import MinibatchStd
from ganpipe.models.equalized import EPS, EqualizedConv, EqualizedLinear, pixel_norm, widths
from ganpipe.models.layers import base_size, blur, double, doublings, halve, one_hot, size_problem
from ganpipe.settings.schema import ModelSettings

SMALLEST_PX, LARGEST_PX = 16, 1024
MAPPING_LR = 0.01  # learning rate of the mapping network, as a share of the others'


def shape_problem(shape: ImageShape) -> str | None:
    """Why this shape is impossible, as the end of a sentence; None if stylegan2 can make it."""
    return size_problem(shape, SMALLEST_PX, LARGEST_PX)


def layer_sizes(shape: ImageShape) -> list[tuple[int, int]]:
    """Height and width of the map that each 3×3 convolution of G makes: one of the smallest size, two of each other."""
    height, width = base_size(shape)
    levels = [0, *(level for level in range(1, doublings(shape) + 1) for _ in range(2))]
    return [(height * 2**level, width * 2**level) for level in levels]


def random_numbers(settings: ModelSettings, shape: ImageShape) -> int:
    """How many numbers G draws for one image beside z: a second latent, two for the mixing of styles, and the noise."""
    return settings.z_dim + 2 + sum(height * width for height, width in layer_sizes(shape))


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU, scaled so that it keeps the mean square of normal inputs about."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def demodulation(weight: Tensor, style: Tensor) -> Tensor:
    """`[N, O]`: 1/norm of each filter of `weight: [O, I, k, k]` when `style: [N, I]` scales its inputs (eq. 3)."""
    return torch.rsqrt(F.linear(style.square(), weight.square().sum((2, 3))) + EPS)


class ModulatedConv(nn.Module):
    """A convolution whose weights depend on w: `x: [N, I, H, W]`, `w: [N, w_dim]` → `[N, O, H, W]`, or twice the size.

    Scaling the weights of each image is scaling its input and output maps: one convolution for the whole batch instead of one
    group per image. Twice the size: a transposed convolution with stride 2, then the filter [1, 3, 3, 1].
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        w_dim: int,
        demodulate: bool = True,
        doubled: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.affine = EqualizedLinear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.gain, self.demodulate = 1 / math.sqrt(inputs * kernel**2), demodulate
        self.smooth = blur(doubled[0] + 1, doubled[1] + 1, 1, gain=4.0) if doubled else None

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style, weight = self.affine(w), self.weight * self.gain
        x = x * style.to(x.dtype)[:, :, None, None]
        if self.smooth is None:
            x = convolve(x, weight, padding=weight.shape[2] // 2)
        else:
            x = self.smooth(convolve_transposed(x, weight.transpose(0, 1), stride=2))
        return x * demodulation(weight, style).to(x.dtype)[:, :, None, None] if self.demodulate else x


class StyledLayer(nn.Module):
    """Modulated 3×3 convolution, noise, bias, activation. `doubled`: the size of its output if that is twice its input's."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, doubled: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, w_dim, doubled=doubled)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        x = self.conv(x, w)
        added = noise * self.noise_strength + self.bias[:, None, None]
        return activate(x + added.to(x.dtype))


class ToImage(nn.Module):
    """Modulated 1×1 convolution without demodulation, to an image of this resolution."""

    def __init__(self, inputs: int, channels: int, w_dim: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, channels, 1, w_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return self.conv(x, w) + self.bias[:, None, None]


class StyleGan2Generator(nn.Module):
    """`z: [N, z_dim]` and labels `[N]` → images `[N, C, H, W]`, near `[-1, 1]`, without an output activation.

    Layers are counted as in the paper: every 3×3 convolution, and the last one to the image, which takes the style of the
    layer after it. `random: [N, random_numbers]`: standard normal numbers for mixing and noise; without them nothing is mixed
    and the noise is fixed, so that the same latent gives the same image.
    """

    fixed_noise: Tensor

    def __init__(self, settings: ModelSettings, shape: ImageShape, classes: int = 0) -> None:
        super().__init__()
        wide, w_dim, levels = widths(settings, shape), settings.z_dim, doublings(shape)
        self.sizes, self.mixing = layer_sizes(shape), settings.style_mixing
        self.layers = len(self.sizes) + 1
        self.embed = EqualizedLinear(classes, w_dim) if classes else None
        inputs = [w_dim * (2 if classes else 1), *[w_dim] * (settings.mapping_layers - 1)]
        self.mapping_layers = nn.ModuleList(
            EqualizedLinear(n, w_dim, lr_multiplier=MAPPING_LR) for n in inputs
        )
        self.constant = nn.Parameter(torch.randn(wide[0], *base_size(shape)))
        channels = pairwise(c for c in wide for _ in range(2))  # in and out of each layer
        self.styled = nn.ModuleList(
            StyledLayer(a, b, w_dim, doubled=size if k % 2 else None)
            for k, ((a, b), size) in enumerate(zip(channels, self.sizes, strict=True))
        )
        self.to_image = nn.ModuleList(ToImage(c, shape.channels, w_dim) for c in wide)
        self.doubles = nn.ModuleList(double(*self.sizes[2 * level]) for level in range(levels))
        pixels = sum(height * width for height, width in self.sizes)
        fixed = torch.randn(1, pixels, generator=generator_at(0, FIXED_NOISE, 0), device="cpu")
        self.register_buffer("fixed_noise", fixed, persistent=False)

    def forward(self, z: Tensor, labels: Tensor | None = None, random: Tensor | None = None) -> Tensor:
        return self.synthesis(self.styles(z, labels, random), self.noise_in(random))

    def mapping(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """`w: [N, w_dim]`."""
        x = pixel_norm(z)
        if self.embed is not None:
            x = torch.cat([x, pixel_norm(self.embed(one_hot(labels, self.embed.in_features, z)))], 1)
        for layer in self.mapping_layers:
            x = activate(layer(x))
        return x

    def styles(self, z: Tensor, labels: Tensor | None = None, random: Tensor | None = None) -> Tensor:
        """`[N, layers, w_dim]`: w of each layer; from a random layer on that of a second latent, for a share of the images.

        Style mixing (arXiv 1812.04948, section 3.1): the share is `model.style_mixing`.
        """
        w = self.mapping(z, labels)[:, None].expand(-1, self.layers, -1)
        if random is None or not self.mixing:
            return w
        other = self.mapping(random[:, : z.shape[1]], labels)[:, None]
        chance, place = torch.special.ndtr(random[:, z.shape[1] : z.shape[1] + 2]).split(1, 1)
        first = 1 + (place * (self.layers - 1)).floor()
        number = torch.arange(self.layers, device=z.device)
        return torch.where(((chance < self.mixing) & (number >= first))[..., None], other, w)

    def noise_in(self, random: Tensor | None) -> Tensor | None:
        """The noise among the random numbers of `forward`."""
        return None if random is None else random[:, -self.fixed_noise.shape[1] :]

    def synthesis(self, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """The images of `w: [N, w_dim]`, or of one per layer `[N, layers, w_dim]`. `noise: [N, pixels]`: of all layers."""
        styles = w.unbind(1) if w.ndim == 3 else [w] * self.layers
        maps = self.noise_maps(self.fixed_noise if noise is None else noise)
        x = self.constant.expand(w.shape[0], -1, -1, -1)  # len(w) would fix the batch of an exported file
        x = self.styled[0](x, styles[0], maps[0])
        image = self.to_image[0](x, styles[1])
        for level, enlarge in enumerate(self.doubles):
            for k in (2 * level + 1, 2 * level + 2):
                x = self.styled[k](x, styles[k], maps[k])
            image = enlarge(image) + self.to_image[level + 1](x, styles[2 * level + 3])
        return image

    def noise_maps(self, noise: Tensor) -> list[Tensor]:
        """`[N, pixels]` as one map `[N, 1, H, W]` per 3×3 convolution."""
        parts = noise.split([height * width for height, width in self.sizes], 1)
        return [part.unflatten(1, (1, *size)) for part, size in zip(parts, self.sizes, strict=True)]


class ResidualBlock(nn.Module):
    """Halves a map: (two 3×3 convolutions + a 1×1 convolution of the halved map)/√2."""

    def __init__(self, inputs: int, outputs: int, height_px: int, width_px: int) -> None:
        super().__init__()
        self.keep = EqualizedConv(inputs, inputs, 3)
        self.smooth = blur(height_px, width_px, 2)
        self.narrow = EqualizedConv(inputs, outputs, 3, stride=2)
        self.halve = halve(height_px, width_px)
        self.skip = EqualizedConv(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = activate(self.narrow(self.smooth(activate(self.keep(x)))))
        return (y + self.skip(self.halve(x))) / math.sqrt(2)


class StyleGan2Discriminator(nn.Module):
    """Images `[N, C, H, W]` and labels `[N]` → logits `[N]`; with labels by projection (Miyato & Koyama 2018)."""

    def __init__(self, settings: ModelSettings, shape: ImageShape, classes: int = 0) -> None:
        super().__init__()
        wide = list(reversed(widths(settings, shape)))
        self.from_image = EqualizedConv(shape.channels, wide[0], 1)
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(a, b, shape.height_px // 2**level, shape.width_px // 2**level)
                for level, (a, b) in enumerate(pairwise(wide))
            )
        )
        height, width = base_size(shape)
        self.spread = MinibatchStd()
        self.last_conv = EqualizedConv(wide[-1] + 1, wide[-1], 3)
        self.hidden = EqualizedLinear(wide[-1] * height * width, wide[-1])
        outputs = settings.z_dim if classes else 1
        self.to_logits = EqualizedLinear(wide[-1], outputs)
        self.embed = EqualizedLinear(classes, outputs) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        x = self.blocks(activate(self.from_image(images)))
        x = activate(self.last_conv(self.spread(x)))
        y = self.to_logits(activate(self.hidden(x.flatten(1))))
        if self.embed is None:
            return y.squeeze(1)
        wanted = pixel_norm(self.embed(one_hot(labels, self.embed.in_features, y)))
        return (y * wanted).sum(1) / math.sqrt(y.shape[1])
