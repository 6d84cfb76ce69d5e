"""Writes frames as a video (.mp4), an animation (.gif) or a strip (.png)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
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
MP4_SOUND = frozenset(("aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"))  # codecs
FINE = {"crf": "18"}  # brush strokes blur at x264's 23

log = logging.getLogger(__name__)


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
            _write_mp4(file, map(np.asarray, frames), Fraction(frames_per_second), origin)


def _enlarge(frame: Pixels, times: int) -> Image.Image:
    image = to_pil(frame).convert("RGB")
    image = image.resize((image.width * times, image.height * times), Image.Resampling.BICUBIC)
    return with_even_sides(image)


def with_even_sides(image: Image.Image) -> Image.Image:
    """The image without its last row or column if their number is odd: H.264 needs even sides."""
    return image.crop((0, 0, image.width // 2 * 2, image.height // 2 * 2))


def write_stylized_video(
    frames: Iterable[Pixels], path: Path, rate: Fraction, source: Path, origin: dict[str, Any]
) -> None:
    """Writes uint8 frames `[H, W, 3]` with even sides as .mp4 with the sound of `source`, whole or not at all.

    Sound that an .mp4 does not hold is left out, with a warning.
    """
    import av

    with replacing(path) as file, av.open(str(source)) as sounding:
        heard = sounding.streams.audio[0] if sounding.streams.audio else None
        if heard is not None and heard.codec_context.name not in MP4_SOUND:
            log.warning("%s: its sound (%s) is left out of the .mp4", source, heard.codec_context.name)
            heard = None
        _write_mp4(file, frames, rate, origin, heard, FINE)


def _write_mp4(
    file: Any,
    frames: Iterable[Pixels],
    rate: Fraction,
    origin: dict[str, Any],
    heard: Any = None,
    options: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """`heard`: an audio stream of another container, which is copied."""
    import av

    with av.open(file, mode="w", format="mp4") as container:
        container.metadata["comment"] = json.dumps(origin)
        stream = container.add_stream("libx264", rate=rate, options=dict(options))
        stream.pix_fmt = "yuv420p"
        sound = container.add_stream_from_template(heard) if heard else None
        packets = heard.container.demux(heard) if heard else iter(())
        waiting = next(packets, None)
        for number, pixels in enumerate(frames):
            if number == 0:
                stream.height, stream.width = pixels.shape[:2]
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
            while waiting and waiting.dts is not None and waiting.dts * waiting.time_base <= number / rate:
                waiting.stream = sound
                container.mux(waiting)
                waiting = next(packets, None)
        for packet in stream.encode():
            container.mux(packet)
