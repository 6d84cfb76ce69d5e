"""Writes an image's origin into its file, and reads it back."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import (
    ExifTags,
    Image,
    PngImagePlugin,
)

from ganpipe.errors import GanpipeError
from ganpipe.files import replacing
from ganpipe.imaging.decode import open_image, read_image_file, reject_damage
from ganpipe.imaging.image import RejectedImage

ORIGIN_KEY = "ganpipe"  # a PNG's iTXt chunk
DESCRIPTION_PREFIX = "ganpipe:"  # before the origin in the other formats' tag ImageDescription


def save_png(image: Image.Image, path: Path, origin: dict[str, Any]) -> Path:
    """Writes a PNG that carries its origin (`ganpipe trace` reads it), whole or not at all."""
    text = PngImagePlugin.PngInfo()
    text.add_itxt(ORIGIN_KEY, json.dumps(origin, ensure_ascii=False))
    with replacing(path) as file:
        image.save(file, format="PNG", pnginfo=text)
    return path


def read_origin(path: Path) -> dict[str, Any]:
    """Reads the origin that `save_png` or `ganpipe.imaging.encode.write_float_image` wrote.

    Raises:
        GanpipeError: the file does not exist, is not an image, or has no origin.
    """
    if not path.exists():
        raise GanpipeError(f"{path} does not exist.")
    try:
        text = _origin_text(read_image_file(path))
    except RejectedImage as rejected:
        raise GanpipeError(f"{path} is not a readable image ({rejected.sentence}).") from None
    if text is None:
        raise GanpipeError(
            f"{path} carries no ganpipe origin: it was not made by ganpipe, or another program saved it again."
        )
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        raise GanpipeError(f"{path} carries a damaged ganpipe origin.") from None


def _origin_text(data: bytes) -> str | None:
    with reject_damage():
        image = open_image(BytesIO(data))
        image.load()  # a PNG's text may come after its pixels
        text = image.info.get(ORIGIN_KEY)
        if text is not None:
            return str(text)
        description = image.getexif().get(ExifTags.Base.ImageDescription)
    if isinstance(description, str) and description.startswith(DESCRIPTION_PREFIX):
        return description.removeprefix(DESCRIPTION_PREFIX)
    return None
