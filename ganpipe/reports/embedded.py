"""Pictures as data URIs: a page that holds its pictures is one file."""

from __future__ import annotations

import base64
from io import BytesIO

from PIL import Image


def data_uri(image: Image.Image, format: str = "JPEG", quality: int = 85) -> str:
    """The image as a data URI."""
    buffer = BytesIO()
    image.save(buffer, format=format, quality=quality)
    return f"data:image/{format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
