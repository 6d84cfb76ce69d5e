"""Differentiable augmentation of what D sees; R1 needs its second derivative.

The changes and their strengths are those of adaptive discriminator augmentation (Karras et al. 2020, arXiv
2006.06676, appendix B): each is applied to an image with probability p, and p < 0.8 keeps them from leaking into G's
images. Departures: one bilinear resampling without the wavelet filter, reflecting edges; mirroring is a setting of its
own; cutout of half a side as in DiffAugment (Zhao et al. 2020, arXiv 2006.10738).

Resampling is four gathers: `F.grid_sample` has no second derivative in torch, and R1 needs one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.errors import GanpipeError

KINDS = ("translation", "geometry", "color", "cutout")
DRAWS = 24  # uniform numbers that one image uses at most
HIGHEST_P = 0.8  # above it changes leak into what G learns (ADA, section 2.2)


def parse_kinds(text: str) -> tuple[str, ...]:
    """`"color+cutout"` → `("color", "cutout")`; raises GanpipeError for a kind that does not exist."""
    kinds = tuple(part.strip() for part in text.split("+") if part.strip())
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise GanpipeError(f"augment.kinds has {unknown[0]!r}; it joins some of {', '.join(KINDS)} by '+'.")
    return kinds


def augment(images: Tensor, draws: Tensor, p: Tensor, kinds: tuple[str, ...], times: int = 1) -> Tensor:
    """Changed images. `images: [N, C, H, W]` in `[-1, 1]`, `draws: [N, DRAWS]` uniform in [0, 1), `p` a scalar.

    `times`: how much smaller they are than the largest scale of the same images; the same draws change all scales alike.
    """
    x = images
    if "translation" in kinds or "geometry" in kinds:
        x = _resample(x, _inverse_map(draws, p, kinds, x.shape[2], x.shape[3], times), times)
    if "color" in kinds:
        x = _adjust_color(x, draws, p)
    if "cutout" in kinds:
        x = _cutout(x, draws, p, times)
    return x


def _normal(uniform: Tensor) -> Tensor:
    """Uniform to standard normal."""
    return math.sqrt(2) * torch.erfinv((2 * uniform - 1).clamp(-0.999999, 0.999999))


def _where(draws: Tensor, column: int, p: Tensor, value: Tensor, otherwise: float) -> Tensor:
    """`value` in the images whose draw at `column` is below p."""
    return torch.where(draws[:, column] < p, value, torch.full_like(value, otherwise))


def _affine(a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """`[N, 3, 3]` matrices [[a, b, x], [c, d, y], [0, 0, 1]]."""
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    return torch.stack([a, b, x, c, d, y, zero, zero, one], 1).view(-1, 3, 3)


def _inverse_map(
    draws: Tensor, p: Tensor, kinds: tuple[str, ...], height: int, width: int, times: int
) -> Tensor:
    """From an output pixel, measured from the center, to the input pixel: `[N, 3, 3]`. `times`: smaller than the largest."""
    zero, one = torch.zeros_like(draws[:, 0]), torch.ones_like(draws[:, 0])
    matrix = _affine(one, zero, zero, one, zero, zero)
    if "translation" in kinds:  # whole pixels of the largest scale, up to an eighth of a side
        across = _where(draws, 0, p, ((draws[:, 1] * 2 - 1) * width * times * 0.125).round() / times, 0.0)
        down = _where(draws, 0, p, ((draws[:, 2] * 2 - 1) * height * times * 0.125).round() / times, 0.0)
        matrix = matrix @ _affine(one, zero, zero, one, across, down)
    if "geometry" in kinds:
        scale = _where(draws, 3, p, 2 ** (0.2 * _normal(draws[:, 4])), 1.0)
        angle = _where(draws, 5, p, (draws[:, 6] * 2 - 1) * math.pi, 0.0)
        stretch = _where(draws, 7, p, 2 ** (0.2 * _normal(draws[:, 8])), 1.0)
        across = _where(draws, 9, p, 0.125 * width * _normal(draws[:, 10]), 0.0)
        down = _where(draws, 9, p, 0.125 * height * _normal(draws[:, 11]), 0.0)
        cos, sin = angle.cos(), angle.sin()
        matrix = matrix @ _affine(scale * stretch, zero, zero, scale / stretch, zero, zero)
        matrix = matrix @ _affine(cos, -sin, sin, cos, across, down)
    return matrix


def _reflect(position: Tensor, side: int, times: int) -> Tensor:
    """A coordinate folded into 0 … side − 1 as a mirror at the outer pixels of the largest scale would."""
    if side == 1:
        return torch.zeros_like(position)
    mirror = 0.5 / times - 0.5
    period = 2.0 * (side - 1 - 2 * mirror)
    folded = torch.remainder(position - mirror, period)
    return (torch.minimum(folded, period - folded) + mirror).clamp(0, side - 1)


def _resample(x: Tensor, inverse: Tensor, times: int) -> Tensor:
    """Bilinear resampling: each output pixel is a weighted sum of four gathered ones, linear in `x`."""
    n, channels, height, width = x.shape
    rows = torch.arange(height, device=x.device, dtype=torch.float32) - (height - 1) / 2
    columns = torch.arange(width, device=x.device, dtype=torch.float32) - (width - 1) / 2
    grid_y, grid_x = torch.meshgrid(rows, columns, indexing="ij")
    points = torch.stack([grid_x, grid_y, torch.ones_like(grid_x)]).view(3, -1)
    source = inverse @ points  # [N, 3, H·W]
    u = _reflect(source[:, 0] + (width - 1) / 2, width, times)
    v = _reflect(source[:, 1] + (height - 1) / 2, height, times)
    left, top = u.floor().clamp(max=width - 1), v.floor().clamp(max=height - 1)
    flat = x.reshape(n, channels, height * width)
    total = torch.zeros_like(flat)
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (1 - (u - left - dx).abs()) * (1 - (v - top - dy).abs())
            row, column = (top + dy).clamp(max=height - 1), (left + dx).clamp(max=width - 1)
            index = (row * width + column).long()[:, None].expand(-1, channels, -1)
            total = total + flat.gather(2, index) * weight[:, None].to(flat.dtype)
    return total.view(n, channels, height, width)


def _adjust_color(x: Tensor, draws: Tensor, p: Tensor) -> Tensor:
    """Brightness, contrast and, for color images hue rotation around the gray axis and saturation. Alpha is kept."""
    brightness = _where(draws, 12, p, 0.4 * _normal(draws[:, 13]), 0.0)[:, None, None, None]
    contrast = _where(draws, 14, p, 2 ** (0.5 * _normal(draws[:, 15])), 1.0)[:, None, None, None]
    seen, alpha = (x, None) if x.shape[1] in (1, 3) else (x[:, :-1], x[:, -1:])
    seen = seen * contrast + brightness
    if seen.shape[1] == 3:
        angle = _where(draws, 16, p, (draws[:, 17] * 2 - 1) * math.pi, 0.0)
        saturation = _where(draws, 18, p, 2 ** _normal(draws[:, 19]), 1.0)
        matrix = _hue_matrix(angle, saturation).to(seen.dtype)
        seen = torch.einsum("nij,njhw->nihw", matrix, seen)
    return seen if alpha is None else torch.cat([seen, alpha], 1)


def _hue_matrix(angle: Tensor, saturation: Tensor) -> Tensor:
    """`[N, 3, 3]`: Rodrigues' rotation around (1, 1, 1)/√3, what is across the axis scaled by the saturation."""
    axis = torch.full((3,), 1 / math.sqrt(3), device=angle.device)
    along = torch.outer(axis, axis)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angle.device) / math.sqrt(3)
    across = torch.eye(3, device=angle.device) - along
    cos, sin, s = angle.cos()[:, None, None], angle.sin()[:, None, None], saturation[:, None, None]
    return along + s * (cos * across + sin * cross)


def _cutout(x: Tensor, draws: Tensor, p: Tensor, times: int) -> Tensor:
    """Cutout: a gray rectangle of half the sides; a pixel of a smaller scale is gray by the share that it covers."""
    height, width = x.shape[2] * times, x.shape[3] * times
    rows = (torch.arange(height, device=x.device) + 0.5) / height
    columns = (torch.arange(width, device=x.device) + 0.5) / width
    down = (rows[None] - draws[:, 21, None]).abs() < 0.25
    across = (columns[None] - draws[:, 22, None]).abs() < 0.25
    hole = down[:, :, None] & across[:, None] & (draws[:, 20] < p)[:, None, None]
    kept = (~hole[:, None]).to(x.dtype)
    return x * (F.avg_pool2d(kept, times) if times > 1 else kept)
