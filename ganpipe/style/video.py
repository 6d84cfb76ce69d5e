"""Stylizes the frames of a video one after another, each from the one before it, moved as the content moves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from ganpipe.compute.device import Compute
from ganpipe.imaging.image import Pixels
from ganpipe.imaging.tensors import from_pixels, to_pixels
from ganpipe.style.motion import motion_between, warp
from ganpipe.style.objective import Temporal
from ganpipe.style.optimize import OnStep, StyleTask, stylize
from ganpipe.style.params import StyleParams
from ganpipe.vgg19.network import Vgg19

LEAST_KNOWN = 0.2  # below this share of known pixels a new scene begins


@dataclass(frozen=True)
class VideoParams:
    """How the frames after the first of a scene are stylized: optimizer steps, and the weight of the temporal loss."""

    steps: int
    temporal_weight: float


@dataclass(frozen=True)
class Frame:
    """A content frame `[H, W, 3]` and its stylized one `[1, 3, H, W]` in [0, 1]."""

    content: Pixels
    stylized: Tensor


class VideoStylizer:
    """Stylizes one frame after another. `task_of`: the style task of a content frame; called once per frame."""

    def __init__(
        self,
        network: Vgg19,
        params: StyleParams,
        video: VideoParams,
        task_of: Callable[[Pixels], StyleTask],
        compute: Compute,
        tile_px: int,
    ) -> None:
        self.network, self.params, self.video = network, params, video
        self.task_of, self.compute, self.tile_px = task_of, compute, tile_px
        self.steps = 0

    def next(self, before: Frame | None, content: Pixels, on_step: OnStep) -> Frame:
        """Stylizes a frame after `before`; like a picture if that is None, or if the two have little in common."""
        task = self.task_of(content)
        if before is None:
            return self._finish(content, task, self.params, None, None, on_step)
        motion = motion_between(before.content, content)
        if motion.known.mean() < LEAST_KNOWN:
            return self._finish(content, task, self.params, None, None, on_step)
        moved = warp(before.stylized, motion.flow)
        start = torch.lerp(task.content, moved, motion.known)
        device = self.compute.device
        temporal = Temporal(moved.to(device), motion.known.to(device), self.video.temporal_weight)
        few = replace(self.params, scales=1, steps=self.video.steps, stop_below=0.0)
        return self._finish(content, task, few, start, temporal, on_step)

    def _finish(
        self,
        content: Pixels,
        task: StyleTask,
        params: StyleParams,
        start: Tensor | None,
        temporal: Temporal | None,
        on_step: OnStep,
    ) -> Frame:
        made = stylize(self.network, [task], params, self.compute, self.tile_px, on_step, start, temporal)
        self.steps += made.steps[0]
        # Rounded as it is kept, so that a batch that was interrupted continues from the same numbers.
        return Frame(content, from_pixels(to_pixels(made.images.float().cpu())))


def flicker(frames: Iterable[Frame]) -> float:
    """The mean absolute difference between stylized frames and those before them, moved as the content moves, where that is
    known: 0 if brush strokes move with what they are painted on. In [0, 1]; the warping error of Lai et al. 2018
    (arXiv 1808.00449, section 3.3), in absolute values.
    """
    total = pixels = 0.0
    for before, now in pairwise(frames):
        motion = motion_between(before.content, now.content)
        if motion.known.mean() < LEAST_KNOWN:
            continue
        difference = (now.stylized - warp(before.stylized, motion.flow)).abs().mean(1, keepdim=True)
        total += float((difference * motion.known).sum())
        pixels += float(motion.known.sum())
    return total / pixels if pixels else 0.0
