"""Thumbnails: made once of each image, and kept in a cache."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image

from ganpipe.errors import GanpipeError
from ganpipe.files import sha256_of_json, write_bytes
from ganpipe.imaging.decode import (
    MOST_PIXELS,
    decode_image,
    over_white,
    read_image_file,
    reduce_large,
    shrink_large,
)
from ganpipe.imaging.video_reading import is_video_name, read_first_frame

THUMBNAIL_PX = 320


def thumbnail(path: Path, cache: Path) -> bytes:
    """A JPEG of the image, at most THUMBNAIL_PX wide and high, from the cache if the file has not changed.

    Raises:
        RejectedImage: the file is no image that is read here.
        OSError: it is not there.
    """
    there = path.stat()
    kept = cache / f"{sha256_of_json([str(path), there.st_mtime_ns, there.st_size, THUMBNAIL_PX])[:32]}.jpg"
    if kept.is_file():
        return kept.read_bytes()
    data = _draw(path)
    try:
        write_bytes(kept, data)
    except GanpipeError:  # a full or read-only disk: it is drawn again
        return data
    return data


def _draw(path: Path) -> bytes:
    buffer = BytesIO()
    read_small(path, THUMBNAIL_PX).save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def read_small(path: Path, px: int) -> Image.Image:
    """The image over white, or the first frame of a video, at most `px` wide and high; a large image is reduced while it is
    decoded.

    Raises:
        RejectedImage: the file is no image and no video that is read here.
    """
    if is_video_name(path.name):
        small = Image.fromarray(read_first_frame(path))
    else:
        image = decode_image(read_image_file(path), shrink_large(4 * px), max_pixels=MOST_PIXELS)
        small = over_white(reduce_large(image, 4 * px)).convert("RGB")
    small.thumbnail((px, px), Image.Resampling.LANCZOS)
    return small
