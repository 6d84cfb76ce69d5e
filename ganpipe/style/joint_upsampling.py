"""Joint upsampling: enlarges a stylized image with the edges and details of its content."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

RADIUS_PX = 2  # of the windows, in the small image
EPS = 1e-3  # variance of the content, in [0, 1], under which a window counts as plain
MOST_GAIN = 1.5  # of the content's details: a window of chance slopes must not exaggerate them


def joint_upsample(stylized: Tensor, contents: Tensor) -> Tensor:
    """Enlarges `stylized: [N, 3, h, w]` in [0, 1] to the size of `contents: [N, 3, H, W]`; returns [0, 1].

    Adds to a bicubic enlargement what the gray content loses at the smaller size, times the slope of a linear regression of
    the stylized image on the content in each window. The regression is that of the fast guided filter (He & Sun 2015,
    arXiv 1505.00996), which takes its line alone and so loses strokes of which the content knows nothing.
    """
    size = contents.shape[2:]
    if stylized.shape[2:] == size:
        return stylized
    gray = contents.mean(1, keepdim=True)
    small = F.interpolate(gray, stylized.shape[2:], mode="bicubic", antialias=True)
    mean = _window_mean(small)
    covariance = _window_mean(small * stylized) - mean * _window_mean(stylized)
    slope = covariance / (_window_mean(small * small) - mean * mean + EPS)
    lost = gray - F.interpolate(small, size, mode="bicubic")
    gain = F.interpolate(slope.clamp(-MOST_GAIN, MOST_GAIN), size, mode="bilinear")
    return F.interpolate(stylized, size, mode="bicubic").addcmul(gain, lost).clamp(0, 1)


def _window_mean(images: Tensor) -> Tensor:
    """Mean over a window around each pixel."""
    padded = F.pad(images, (RADIUS_PX,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * RADIUS_PX + 1, 1)
