"""Quality metrics of a stylization that no stylization optimizes.

`style_distance` says how far the image is from the style, `structure_similarity` how much of the content is left:
only the two together say anything, since the content alone and the style alone are each perfect in one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.compute.device import Compute
from ganpipe.style.color import luminance
from ganpipe.vgg19.network import Vgg19

DISTANCE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
LARGEST_PX = 256  # relu1_1 then has 65,536 positions to sort, 64 times


@torch.no_grad()
def style_distance(
    network: Vgg19, image: Tensor, style: Tensor, compute: Compute, seed: int = 0, projections: int = 64
) -> float:
    """How far `image: [1, 3, H, W]` is from `style: [1, 3, h, w]`, both in [0, 1]; 0 if the features agree.

    The sliced Wasserstein distance of VGG features (Heitz et al. 2021, arXiv 2006.07229). Departures: the distance
    of each of four layers is divided by the style's own root mean square along the same directions, so that it has no
    unit; the mean over the layers is returned.

    Both images are compared at one size: the longer edge is that of `image`, at most 256 px, and the other image is
    shrunk or enlarged to it, as in stylizing. Distances of images whose longer edges differ below 256 px are
    therefore measured at different detail. The directions depend on `seed` and `projections` alone.
    """
    edge = min(LARGEST_PX, max(image.shape[2:]))
    generator = torch.Generator().manual_seed(seed)
    found, target = (_features(network, shown, edge, compute) for shown in (image, style))
    distances = []
    for layer in DISTANCE_LAYERS:
        directions = unit_directions(projections, len(target[layer]), generator).to(compute.device)
        squared = sliced_wasserstein(found[layer], target[layer], directions)
        own = (directions @ target[layer]).square().mean().clamp_min(1e-12)  # a layer may be silent
        distances.append((squared / own).sqrt())
    return torch.stack(distances).mean().item()


def _features(network: Vgg19, image: Tensor, edge: int, compute: Compute) -> dict[str, Tensor]:
    """`[C, H·W]` in float32 for each layer."""
    resized = _resize_longer_edge(image.to(compute.device).float(), edge)
    with compute.autocast():
        features = network(resized, DISTANCE_LAYERS)
    return {layer: features[layer][0].float().flatten(1) for layer in DISTANCE_LAYERS}


def _resize_longer_edge(image: Tensor, edge: int) -> Tensor:
    """Resizes the image, antialiased; no edge falls below 16 px, which is 2 cells of relu4_1."""
    height, width = image.shape[2:]
    scale = edge / max(height, width)
    size = max(16, round(height * scale)), max(16, round(width * scale))
    return F.interpolate(image, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def unit_directions(count: int, channels: int, generator: torch.Generator) -> Tensor:
    """`[count, channels]`, uniform on the sphere."""
    return F.normalize(torch.randn(count, channels, generator=generator), dim=1)


def sliced_wasserstein(a: Tensor, b: Tensor, directions: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of `a: [C, N]` and `b: [C, M]` along `directions: [P, C]`, averaged.

    In one dimension it is the mean squared difference of the sorted values (Heitz et al. 2021). If N and M differ,
    the quantiles of the smaller set are interpolated linearly to the larger set's positions.
    """
    count = max(a.shape[1], b.shape[1])
    return (_quantiles(directions @ a, count) - _quantiles(directions @ b, count)).square().mean()


def _quantiles(values: Tensor, count: int) -> Tensor:
    """Quantiles `[P, count]` at (k + ½) / count of each row of `values: [P, N]`, N ≤ count."""
    ordered = values.sort(dim=1).values
    if ordered.shape[1] == count:
        return ordered
    # Without aligned corners, value i of N stands at (i + ½) / N: the position of an order statistic.
    return F.interpolate(ordered[None], count, mode="linear", align_corners=False)[0]


WINDOW_PX, SIGMA_PX = 11, 1.5
C1, C2 = 0.01**2, 0.03**2  # for images in [0, 1]


@torch.no_grad()
def structure_similarity(image: Tensor, content: Tensor) -> float:
    """SSIM of the luminance of two images `[1, 3, H, W]` of one size in [0, 1]: 1 for equal images, about 0 for unrelated ones.

    Wang et al. 2004, with its constants and its gaussian window of 11 pixels (σ 1.5), averaged over the pixels whose
    window lies inside the image. Images are not shrunk first, which the authors' later code suggests.

    Raises:
        ValueError: the sizes differ, or an edge is under 11 pixels.
    """
    if image.shape != content.shape or min(image.shape[2:]) < WINDOW_PX:
        raise ValueError(
            f"SSIM needs two images of one size, at least {WINDOW_PX} px a side, "
            f"not {tuple(image.shape)} and {tuple(content.shape)}"
        )
    # In float64: a GPU's TF32 convolutions are coarser than the variances computed here.
    x, y = luminance(image.double()), luminance(content.double())
    mean_x, mean_y = _windowed(x), _windowed(y)
    var_x, var_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    brightness = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    structure = (2 * covariance + C2) / (var_x + var_y + C2)
    return (brightness * structure).mean().item()


def _windowed(values: Tensor) -> Tensor:
    """Gaussian mean around each pixel of `[1, 1, H, W]` whose window is inside: `[1, 1, H − 10, W − 10]`."""
    offsets = torch.arange(WINDOW_PX, dtype=values.dtype, device=values.device) - WINDOW_PX // 2
    window = (-(offsets**2) / (2 * SIGMA_PX**2)).exp()
    window = window / window.sum()
    return F.conv2d(F.conv2d(values, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
