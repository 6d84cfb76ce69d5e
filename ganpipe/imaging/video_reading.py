"""Reads videos: their size, their frames one after another, and their comment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ganpipe.imaging.image import Pixels, RejectedImage

VIDEO_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"))


@dataclass(frozen=True)
class VideoInfo:
    """Upright size, the number of frames, and frames per second (the average, if it varies)."""

    height_px: int
    width_px: int
    frames: int
    rate: Fraction


def is_video_name(name: str) -> bool:
    """Whether a file's name ends like a video's."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """The container, with a stream of pictures."""
    import av

    if not path.is_file():
        raise RejectedImage("not_a_file", "it is not a regular file")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise RejectedImage("not_an_image", "it has no pictures")
            yield container
    except (av.error.FFmpegError, OSError) as error:
        raise RejectedImage("damaged", f"it is no video that can be read ({error.strerror})") from None


def read_video_info(path: Path) -> VideoInfo:
    """Reads a video's size from its first frame, and counts its frames without decoding them.

    Raises:
        RejectedImage: it is no video, or has no frames.
    """
    with _open(path) as container:
        frames = sum(1 for packet in container.demux(container.streams.video[0]) if packet.size)
        rate = container.streams.video[0].average_rate
    height, width, _ = read_first_frame(path).shape
    return VideoInfo(height, width, frames, Fraction(rate or 24))


def read_first_frame(path: Path) -> Pixels:
    """The first of `read_frames`.

    Raises:
        RejectedImage: it is no video, or has no frames.
    """
    first = next(read_frames(path), None)
    if first is None:
        raise RejectedImage("empty", "it has no frames")
    return first


def read_frames(path: Path) -> Iterator[Pixels]:
    """Yields the frames, `[H, W, 3]` in sRGB, upright.

    Raises:
        RejectedImage: it is no video, or is damaged.
    """
    from av.video.reformatter import Interpolation

    exact = (
        Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    )  # the same on every CPU
    with _open(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            turns = round(frame.rotation / 90)  # counterclockwise, of a telephone that was held upright
            pixels = frame.reformat(format="rgb24", interpolation=exact).to_ndarray()
            yield np.ascontiguousarray(np.rot90(pixels, turns))


def read_video_comment(path: Path) -> str:
    """The comment of a video, in which ganpipe writes the origin of its own; empty if there is none.

    Raises:
        RejectedImage: it is no video.
    """
    with _open(path) as container:
        return str(container.metadata.get("comment", ""))
