"""The picture that is being stylized, as a file that is replaced while it is painted."""

from __future__ import annotations

import os
import time
from pathlib import Path

from torch import Tensor

from ganpipe.errors import GanpipeError
from ganpipe.files import escape_control
from ganpipe.imaging.grid import to_pil
from ganpipe.imaging.provenance import origin_kind, save_png
from ganpipe.imaging.tensors import to_pixels
from ganpipe.style.batch.manifest import PREVIEW
from ganpipe.style.optimize import resize, size_at

KIND = "preview"
LONGEST_PX = 768
EVERY_S = 2.0


class Preview:
    """Keeps `preview.png` of a folder up to date. A file of that name that is somebody else's is left alone."""

    def __init__(self, folder: Path) -> None:
        self.path, self._written_at = folder / PREVIEW, 0.0
        self._possible = not os.path.lexists(self.path) or origin_kind(self.path) == KIND

    def show(self, image: Tensor, name: str) -> None:
        """Writes `image: [1, 3, H, W]` in [0, 1], at most once in EVERY_S; a disk that is full ends the preview alone."""
        now = time.monotonic()
        if not self._possible or now - self._written_at < EVERY_S:
            return
        self._written_at = now
        height, width = image.shape[2:]
        if max(height, width) > LONGEST_PX:
            image = resize(image.float(), size_at(height, width, LONGEST_PX))
        try:
            save_png(to_pil(to_pixels(image.cpu())), self.path, {"kind": KIND, "of": escape_control(name)})
        except GanpipeError:
            self._possible = False

    def remove(self) -> None:
        """Deletes the file, if it was written here."""
        if self._written_at and self._possible:
            self.path.unlink(missing_ok=True)
