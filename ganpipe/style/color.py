"""Color preservation, masks and blends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganpipe.errors import GanpipeError
from ganpipe.imaging.decode import decode_image, read_image_file
from ganpipe.imaging.image import RejectedImage
from ganpipe.style.losses import EPS, matrix_sqrt

# Luminance and two chroma axes, NTSC (Gatys et al. 2017, arXiv 1611.07865, section 5, stylizes in this space).
RGB_TO_YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], dtype=torch.float64
)
GRAY_LEVELS = 4
OPAQUE = 255
YIQ_TO_RGB = torch.linalg.inv(RGB_TO_YIQ.float())


def parse_shares(text: str, styles: int) -> tuple[float, ...]:
    """Parses `0.7+0.3` into shares that sum to 1, one per style.

    Raises:
        GanpipeError: another number of shares, a negative share, or no share above 0.
    """
    try:
        numbers = [float(part) for part in text.split("+")]
    except ValueError:
        numbers = []
    if len(numbers) != styles or min(numbers) < 0 or sum(numbers) <= 0:
        raise GanpipeError(
            f"style.blend is {text!r}; it needs a share for each of the {styles} styles, such as "
            f"{'+'.join(['0.5'] * 2) if styles == 2 else '+'.join(['1'] * styles)}."
        )
    return tuple(number / sum(numbers) for number in numbers)


def _mix_channels(matrix: Tensor, image: Tensor) -> Tensor:
    """Applies a 3×3 matrix to the channels of `[N, 3, H, W]`."""
    return torch.einsum("dc,nchw->ndhw", matrix.to(image), image)


def luminance(image: Tensor) -> Tensor:
    """The luminance `[N, 1, H, W]` of `[N, 3, H, W]` (the weights are ITU-R BT.601's)."""
    return _mix_channels(RGB_TO_YIQ, image)[:, :1]


def finish_colors(
    stylized: Tensor, content: Tensor, styles: Sequence[Tensor], color_mode: str, masks: Tensor | None = None
) -> Tensor:
    """The colors of a result `[1, 3, H, W]`: the content's if `color_mode` is luminance; gray if content and styles are gray,
    or the content is and its colors are kept. What no mask `[S, H, W]` covers is the content.
    """
    if color_mode == "luminance":
        stylized = transfer_luminance(stylized, content)
    sources = [] if color_mode in ("luminance", "match") else styles
    if all(is_gray_image(pixels) for pixels in (content, *sources)):
        stylized = luminance(stylized).expand(-1, 3, -1, -1)
    return stylized if masks is None else torch.lerp(content, stylized, masks.sum(0))


def is_gray_image(image: Tensor) -> bool:
    """Whether the channels of `[N, 3, H, W]` are equal, but for the rounding of a JPEG."""
    return bool((image.amax(1) - image.amin(1)).max() <= GRAY_LEVELS / 255)


def match_luminance(style: Tensor, content: Tensor, region: Tensor | None = None) -> Tensor:
    """Returns the style in gray, with the mean and deviation of the luminance of the content, or of its region `[H, W]`."""
    ours = luminance(style)
    mean, variance = mean_and_covariance(luminance(content), region)
    scale = variance.sqrt() / ours.std().clamp_min(1e-6)
    return ((ours - ours.mean()) * scale + mean).clamp(0, 1).expand(-1, 3, -1, -1).contiguous()


def transfer_luminance(stylized_images: Tensor, content: Tensor) -> Tensor:
    """Combines the luminance of the stylized images with the chroma of the content, both `[N, 3, H, W]`."""
    ours, theirs = _mix_channels(RGB_TO_YIQ, stylized_images), _mix_channels(RGB_TO_YIQ, content)
    return _mix_channels(YIQ_TO_RGB, torch.cat([ours[:, :1], theirs[:, 1:]], 1)).clamp(0, 1)


def match_colors(style: Tensor, content: Tensor, region: Tensor | None = None) -> Tensor:
    """Maps the colors of the style `[1, 3, h, w]` linearly to the mean and covariance of the content, or of its region `[H, W]`.

    x ↦ Σc^½ Σs^−½ (x − μs) + μc (Gatys et al. 2016, arXiv 1606.05897, section 3).
    """
    own_mean, own_covariance = mean_and_covariance(style)
    mean, covariance = mean_and_covariance(content, region)
    map_ = (matrix_sqrt(covariance) @ torch.linalg.inv(matrix_sqrt(own_covariance))).float()
    moved = map_ @ (style[0].flatten(1) - own_mean) + mean
    return moved.reshape(style.shape).clamp(0, 1)


def mean_and_covariance(image: Tensor, region: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Of the channels of `[1, C, H, W]`: `[C, 1]`, `[C, C]`; each pixel counts as much as `region: [H, W]` says.

    An empty region is taken for the whole image.
    """
    flat = image[0].flatten(1)
    weights = torch.ones(flat.shape[1]) if region is None else region.flatten() + EPS
    mean = (flat @ weights / weights.sum())[:, None]
    return mean, torch.cov(flat, aweights=weights).reshape(len(flat), len(flat))


def styles_for(
    content: Tensor, styles: Sequence[Tensor], color_mode: str, masks: Tensor | None = None
) -> tuple[Tensor, ...]:
    """The styles with colors matched to the content as `style.color_mode` asks; with masks `[S, H, W]`, each to its region."""
    match = {"luminance": match_luminance, "match": match_colors}.get(color_mode)
    if match is None:
        return tuple(styles)
    regions = [None] * len(styles) if masks is None else list(masks)
    return tuple(match(style, content, region) for style, region in zip(styles, regions, strict=True))


def mask_path(given: Path, content: Path) -> Path:
    """The mask of a content: the given file, or in a given folder the image with the content's name.

    Raises:
        RejectedImage: the folder has none.
    """
    if not given.is_dir():
        return given
    found = [path for path in sorted(given.iterdir()) if path.stem == content.stem and path.is_file()]
    if not found:
        raise RejectedImage("no_mask", f"{given} has no mask named {content.stem}")
    return found[0]


def read_masks(paths: Sequence[Path], size: tuple[int, int]) -> Tensor:
    """Reads masks as shares `[S, H, W]` whose sum is at most 1 at each pixel: the rest stays as it is in the content.

    Raises RejectedImage if a file is not an image.
    """
    masks = []
    for path in paths:
        # Bilinear: a small mask gets soft edges, no steps.
        painted = _painted(decode_image(read_image_file(path))).resize(size[::-1], Image.Resampling.BILINEAR)
        masks.append(torch.from_numpy(np.asarray(painted).copy()).float() / 255)
    stacked = torch.stack(masks)
    return stacked / stacked.sum(0, keepdim=True).clamp_min(1)


def _painted(mask: Image.Image) -> Image.Image:
    """Where a mask is painted, as gray: what is opaque if some of it is transparent, in any color; else what is white."""
    if mask.mode in ("LA", "RGBA") and np.asarray(opacity := mask.getchannel("A")).min() < OPAQUE:
        return opacity
    return mask.convert("L")
