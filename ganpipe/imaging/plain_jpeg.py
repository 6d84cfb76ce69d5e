"""Decodes plain JPEGs straight to an array: the same bits as by way of Pillow, which copies them twice under Python's lock."""

from __future__ import annotations

import numpy as np
import simplejpeg
from PIL import Image

from ganpipe.imaging.icc import srgb_transform
from ganpipe.imaging.image import Pixels

COLORSPACES = {"RGB": "RGB", "L": "GRAY"}  # of simplejpeg, by Pillow's modes


def is_plain_jpeg(image: Image.Image) -> bool:
    """Whether an opened file is a gray or RGB JPEG whose colors need no conversion."""
    profile = image.info.get("icc_profile")
    return image.format == "JPEG" and image.mode in COLORSPACES and not (profile and srgb_transform(profile))


def decode_plain_jpeg(data: bytes, image: Image.Image, by: int) -> Pixels | None:
    """The pixels `[H, W, 1 or 3]`, as they lie in the file, of a plain JPEG divided by 1, 2, 4 or 8.

    `image`: the same file, opened. None if the decoder has a complaint, of which Pillow may take no notice.
    """
    width, height = -(-image.width // by), -(-image.height // by)
    try:
        found = simplejpeg.decode_jpeg(data, COLORSPACES[image.mode], min_height=height, min_width=width)
    except ValueError:
        return None
    pixels: Pixels = np.asarray(found)
    return pixels if pixels.shape[:2] == (height, width) else None
