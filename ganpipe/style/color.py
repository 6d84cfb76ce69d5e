"""Color preservation, masks and blends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganpipe.errors import GanpipeError
from ganpipe.imaging.decode import decode_image, over_white, read_image_file
from ganpipe.imaging.image import RejectedImage
from ganpipe.style.losses import matrix_sqrt

# Luminance and two chroma axes, NTSC (Gatys et al. 2017, arXiv 1611.07865, section 5, stylizes in this space).
RGB_TO_YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], dtype=torch.float64
)
GRAY_LEVELS = 4
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


def finish_colors(stylized: Tensor, content: Tensor, styles: Sequence[Tensor], color_mode: str) -> Tensor:
    """The colors of a result `[1, 3, H, W]`: the content's if `color_mode` is luminance; gray if content and styles are gray,
    or the content is and its colors are kept.
    """
    if color_mode == "luminance":
        stylized = transfer_luminance(stylized, content)
    sources = [] if color_mode in ("luminance", "match") else styles
    if all(is_gray_image(pixels) for pixels in (content, *sources)):
        stylized = luminance(stylized).expand(-1, 3, -1, -1)
    return stylized


def is_gray_image(image: Tensor) -> bool:
    """Whether the channels of `[N, 3, H, W]` are equal, but for the rounding of a JPEG."""
    return bool((image.amax(1) - image.amin(1)).max() <= GRAY_LEVELS / 255)


def match_luminance(style: Tensor, content: Tensor) -> Tensor:
    """Returns the style in gray, with the mean and deviation of the content's luminance."""
    ours, theirs = luminance(style), luminance(content)
    scale = theirs.std() / ours.std().clamp_min(1e-6)
    return ((ours - ours.mean()) * scale + theirs.mean()).clamp(0, 1).expand(-1, 3, -1, -1).contiguous()


def transfer_luminance(stylized_images: Tensor, content: Tensor) -> Tensor:
    """Combines the luminance of the stylized images with the chroma of the content, both `[N, 3, H, W]`."""
    ours, theirs = _mix_channels(RGB_TO_YIQ, stylized_images), _mix_channels(RGB_TO_YIQ, content)
    return _mix_channels(YIQ_TO_RGB, torch.cat([ours[:, :1], theirs[:, 1:]], 1)).clamp(0, 1)


def match_colors(style: Tensor, content: Tensor) -> Tensor:
    """Maps the colors of the style `[1, 3, h, w]` linearly to the content's mean and covariance.

    x ↦ Σc^½ Σs^−½ (x − μs) + μc (Gatys et al. 2016, arXiv 1606.05897, section 3).
    """
    s, c = style[0].flatten(1), content[0].flatten(1)
    ours, theirs = matrix_sqrt(torch.cov(s)), matrix_sqrt(torch.cov(c))
    map_ = (theirs @ torch.linalg.inv(ours)).float()
    moved = map_ @ (s - s.mean(1, keepdim=True)) + c.mean(1, keepdim=True)
    return moved.reshape(style.shape).clamp(0, 1)


def styles_for(content: Tensor, styles: Sequence[Tensor], color_mode: str) -> tuple[Tensor, ...]:
    """The styles with their colors matched to the content as `style.color_mode` asks."""
    if color_mode == "luminance":
        return tuple(match_luminance(style, content) for style in styles)
    if color_mode == "match":
        return tuple(match_colors(style, content) for style in styles)
    return tuple(styles)


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
    """Reads masks as shares `[S, H, W]` that sum to 1 at each pixel; white is where the style applies.

    Pixels that are black in every mask get equal shares. Raises RejectedImage if a file is not an image.
    """
    masks = []
    for path in paths:
        gray = over_white(decode_image(read_image_file(path))).convert("L")
        gray = gray.resize((size[1], size[0]), Image.Resampling.BOX)
        masks.append(torch.from_numpy(np.asarray(gray).copy()).float() / 255)
    stacked = torch.stack(masks)
    total = stacked.sum(0, keepdim=True)
    return torch.where(total > 0, stacked / total.clamp_min(1e-6), torch.full_like(stacked, 1 / len(masks)))
