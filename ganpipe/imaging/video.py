"""Writes frames as a video (.mp4), an animation (.gif) or a strip (.png)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganpipe.errors import GanpipeError
from ganpipe.files import replacing, require_absent, require_room
from ganpipe.imaging.grid import grid, to_pil
from ganpipe.imaging.image import Pixels
from ganpipe.imaging.provenance import save_png

FRAMES_PER_SECOND = 24
SMALLEST_SIDE_PX = 256  # smaller frames are enlarged by a whole factor, as players show small videos badly
SUFFIXES = (".mp4", ".gif", ".png")


def check_suffix(path: Path) -> None:
    """Raises GanpipeError, before any work, if we cannot write such a file."""
    if path.suffix.lower() not in SUFFIXES:
        raise GanpipeError(
            f"{path.name} is not a video that ganpipe can write; use one of {', '.join(SUFFIXES)}."
        )


def check_target(path: Path) -> None:
    """Raises GanpipeError, before any work, if the file cannot be written or would take the place of another."""
    check_suffix(path)
    require_absent(path)
    require_room(path.parent)


def write_video(frames: Pixels, path: Path, stop_every: int, origin: dict[str, Any]) -> None:
    """Writes uint8 frames `[N, H, W, C]`; a .png shows one row per stop, of at most about 8 frames."""
    if path.suffix.lower() == ".png":
        stride = max(1, stop_every // 8)
        shown = frames[::stride]
        save_png(grid(shown, columns=max(1, stop_every // stride)), path, origin)
        return
    times = max(1, -(-SMALLEST_SIDE_PX // min(frames.shape[1:3])))
    encode_video([_enlarge(frame, times) for frame in frames], path, FRAMES_PER_SECOND, origin)


def encode_video(
    frames: Sequence[Image.Image], path: Path, frames_per_second: int, origin: dict[str, Any]
) -> None:
    """Writes color frames of one size, with even sides, as .mp4 or .gif, whole or not at all."""
    with replacing(path) as file:
        if path.suffix.lower() == ".gif":
            frames[0].save(
                file,
                format="GIF",
                save_all=True,
                append_images=frames[1:],
                loop=0,
                duration=1000 // frames_per_second,
                comment=json.dumps(origin).encode(),
            )
        else:
            _write_mp4(file, frames, frames_per_second, origin)


def _enlarge(frame: Pixels, times: int) -> Image.Image:
    image = to_pil(frame).convert("RGB")
    image = image.resize((image.width * times, image.height * times), Image.Resampling.BICUBIC)
    return with_even_sides(image)


def with_even_sides(image: Image.Image) -> Image.Image:
    """The image without its last row or column if their number is odd: H.264 needs even sides."""
    return image.crop((0, 0, image.width // 2 * 2, image.height // 2 * 2))


def _write_mp4(
    file: Any, frames: Sequence[Image.Image], frames_per_second: int, origin: dict[str, Any]
) -> None:
    import av

    with av.open(file, mode="w", format="mp4") as container:
        container.metadata["comment"] = json.dumps(origin)
        stream = container.add_stream("libx264", rate=Fraction(frames_per_second))
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        for image in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
