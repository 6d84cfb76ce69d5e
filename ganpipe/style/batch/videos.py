"""A video of a batch: its frames as files until all are stylized, so that a kill loses none, then one .mp4."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganpipe.files import replacing
from ganpipe.imaging.image import Pixels, RejectedImage
from ganpipe.imaging.tensors import from_pixels, to_pixels
from ganpipe.imaging.video_reading import VideoInfo, read_frames
from ganpipe.style.batch.plan import BatchTask
from ganpipe.style.optimize import OnStep, Step, resize
from ganpipe.style.video import Frame, VideoStylizer, flicker

SAMPLED_FRAMES = 5  # whose distance from the style is measured


@dataclass(frozen=True)
class VideoFrames:
    """The content frames of a task, and the folder of the stylized ones."""

    task: BatchTask
    video: VideoInfo  # of its content

    @property
    def folder(self) -> Path:
        """Hidden, beside the output; what is in it depends on the task's inputs and settings alone."""
        return self.task.output.parent / f".{self.task.key[:16]}.frames"

    def contents(self) -> Iterator[Pixels]:
        """The content frames at the size of the result."""
        for pixels in islice(read_frames(self.task.content), self.video.frames):
            yield to_pixels(resize(from_pixels(pixels), self.task.size))

    def stylize(self, stylizer: VideoStylizer, on_step: OnStep) -> None:
        """Stylizes the frames that are not there yet.

        Raises:
            RejectedImage: the video is damaged, or the losses of a frame are not finite.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        before: Frame | None = None
        for number, content in enumerate(self.contents()):
            path = self._path(number)
            if path.exists():
                before = Frame(content, _read(path))
                continue

            def tell(step: Step, number: int = number) -> None:
                on_step(replace(step, share=(number + step.share) / self.video.frames))

            before = stylizer.next(before, content, tell)
            if not torch.isfinite(before.stylized).all():
                raise RejectedImage("not_finite", "its losses are no longer finite; lower style.lr")
            with replacing(path) as file:
                Image.fromarray(to_pixels(before.stylized)).save(file, format="PNG", compress_level=1)

    def frames(self, chosen: Container[int] | None = None) -> Iterator[Frame]:
        """Content and stylized frames: all, or those of the chosen numbers."""
        for number, content in enumerate(self.contents()):
            if chosen is None or number in chosen:
                yield Frame(content, _read(self._path(number)))

    def finished(self, colors: Callable[[Tensor, Tensor], Tensor]) -> Iterator[Pixels]:
        """The frames of the result; `colors`: the final pixels of (stylized, content), each `[1, 3, H, W]`."""
        for frame in self.frames():
            yield to_pixels(colors(frame.stylized, from_pixels(frame.content)))

    def flicker(self) -> float:
        """See `ganpipe.style.video.flicker`."""
        return flicker(self.frames())

    def sample(self) -> list[Frame]:
        """SAMPLED_FRAMES of them, evenly spaced."""
        return list(
            self.frames(set(np.linspace(0, self.video.frames - 1, SAMPLED_FRAMES).astype(int).tolist()))
        )

    def remove(self) -> None:
        """Deletes the stylized frames."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.png"


def _read(path: Path) -> Tensor:
    with Image.open(path) as image:
        return from_pixels(np.asarray(image))
