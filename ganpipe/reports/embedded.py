"""Pictures as data URIs: a page that holds its pictures is one file."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

from PIL import Image


def data_uri(image: Image.Image, format: str = "JPEG", quality: int = 85) -> str:
    """The image as a data URI."""
    buffer = BytesIO()
    image.save(buffer, format=format, quality=quality)
    return f"data:image/{format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def small_data_uri(path: Path, long_edge_px: int = 900) -> str:
    """A JPEG of an image file as a data URI, small enough for an artifact."""
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((long_edge_px, long_edge_px), Image.Resampling.LANCZOS)
    return data_uri(small)
