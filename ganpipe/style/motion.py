"""Motion between two frames of a video: optical flow, where it can be trusted, and images moved along it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.errors import GanpipeError
from ganpipe.imaging.image import Pixels


@dataclass(frozen=True)
class Motion:
    """Motion from a frame to the one before it.

    `flow: [2, H, W]`: where each pixel was, as (x, y) in pixels relative to its place. `known: [1, 1, H, W]`: 1 where the pixel
    was visible before, 0 where something covered it, at the edges of what moves, and beyond the frame.
    """

    flow: Tensor
    known: Tensor


def require_optical_flow() -> None:
    """Raises GanpipeError if OpenCV is not installed."""
    _opencv()


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise GanpipeError(
            "Videos need OpenCV, which is not installed: pip install 'ganpipe[video]'"
        ) from None
    return cv2


def optical_flow(a: Pixels, b: Pixels) -> Tensor:
    """`[2, H, W]`: where each pixel of `a: [H, W, 3]` is in `b`, relative to its place.

    Dense inverse search (Kroeger et al. 2016, arXiv 1603.03590), OpenCV's implementation.
    """
    cv2 = _opencv()
    gray = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (a, b))
    flow: Any = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*gray, None)
    return torch.from_numpy(np.ascontiguousarray(flow)).permute(2, 0, 1)


def motion_between(before: Pixels, now: Pixels) -> Motion:
    """The motion from `now: [H, W, 3]` to the frame `before` it.

    What is known: the flow there and back ends where it began, and does not change abruptly (Ruder et al. 2016, arXiv
    1604.08610, equations 5 and 6, after Sundaram et al. 2010).
    """
    back, forth = optical_flow(now, before), optical_flow(before, now)
    returned = warp(forth[None], back)[0]
    total = back.square().sum(0) + returned.square().sum(0)
    returns = (back + returned).square().sum(0) <= 0.01 * total + 0.5
    across, down = torch.gradient(back, dim=(2, 1))
    steady = (across.square() + down.square()).sum(0) <= 0.01 * back.square().sum(0) + 0.002
    known = returns & steady & _inside(back)
    return Motion(back, known.float()[None, None])


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """The image `[1, C, H, W]` moved along `flow: [2, H, W]`: each pixel is taken from where the flow points, bilinearly."""
    places = _places(flow)
    height, width = flow.shape[1:]
    scaled = torch.stack((2 * places[0] / max(width - 1, 1) - 1, 2 * places[1] / max(height - 1, 1) - 1), -1)
    return F.grid_sample(image, scaled[None].to(image), padding_mode="border", align_corners=True)


def _places(flow: Tensor) -> Tensor:
    """`[2, H, W]`: the x and y that each pixel points to."""
    rows, columns = torch.meshgrid(*(torch.arange(n).to(flow) for n in flow.shape[1:]), indexing="ij")
    return torch.stack((columns, rows)) + flow


def _inside(flow: Tensor) -> Tensor:
    x, y = _places(flow)
    height, width = flow.shape[1:]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
