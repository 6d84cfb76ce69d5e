"""Image shape, pixels, and the reason why a file is rejected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ImageShape:
    """Channels (1 gray, 3 color, 4 color and alpha), height and width in pixels."""

    channels: int
    height_px: int
    width_px: int

    @property
    def numel(self) -> int:
        """Numbers in one image."""
        return self.channels * self.height_px * self.width_px


@dataclass(eq=False)  # not frozen: contextlib sets __traceback__ on it
class RejectedImage(Exception):
    """Why a file is rejected: a short code for programs and a sentence for people."""

    code: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}"
