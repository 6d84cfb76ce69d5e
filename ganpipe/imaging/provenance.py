"""Writes an image's origin into its file, and reads it back."""

from __future__ import annotations

import json
import os
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import (
    ExifTags,
    Image,
    PngImagePlugin,
)

from ganpipe.errors import GanpipeError
from ganpipe.files import json_text, replacing
from ganpipe.imaging.decode import open_image, read_image_file, reject_damage
from ganpipe.imaging.image import RejectedImage
from ganpipe.imaging.video_reading import is_video_name, read_video_comment

ORIGIN_KEY = "ganpipe"  # a PNG's iTXt chunk
MAX_CHARACTERS = 2**20  # of an origin; ours have a few thousand
MAX_DEPTH = 16  # of its nesting; ours have 4
HEAD_BYTES = 4096  # of a PNG: the origin stands before the pixels
DESCRIPTION_PREFIX = "ganpipe:"  # before the origin in the other formats' tag ImageDescription


def save_png(image: Image.Image, path: Path, origin: dict[str, Any]) -> Path:
    """Writes a PNG that carries its origin (`ganpipe trace` reads it), whole or not at all."""
    text = PngImagePlugin.PngInfo()
    text.add_itxt(ORIGIN_KEY, json_text(origin))
    with replacing(path) as file:
        image.save(file, format="PNG", pnginfo=text)
    return path


def origin_kind(path: Path) -> str | None:
    """The kind of a PNG file that ganpipe wrote, as its origin says; None for any other file."""
    if path.suffix.lower() != ".png" or not os.path.isfile(path):
        return None
    try:
        with path.open("rb") as file:
            if f"Xt{ORIGIN_KEY}\0".encode() not in file.read(HEAD_BYTES):  # iTXt or tEXt
                return None
        with reject_damage(), path.open("rb") as file:
            return str(json.loads(open_image(file).info[ORIGIN_KEY])["kind"])
    except (OSError, RejectedImage):
        return None


def read_origin(path: Path) -> dict[str, Any]:
    """Reads the origin that `save_png`, `ganpipe.imaging.encode.write_float_image` or `ganpipe.imaging.video` wrote.

    Raises:
        GanpipeError: the file does not exist, is not an image, or has no origin.
    """
    if not os.path.lexists(path):
        raise GanpipeError(f"{path} does not exist.")
    if is_video_name(path.name):
        return _video_origin(path)
    try:
        data = read_image_file(path)
    except RejectedImage as rejected:
        raise _unreadable(str(path), rejected) from None
    return parse_origin(data, str(path))


def _video_origin(path: Path) -> dict[str, Any]:
    try:
        text = read_video_comment(path)
    except RejectedImage as rejected:
        raise GanpipeError(f"{path} is not a readable video ({rejected.sentence}).") from None
    return _parse_text(text, str(path))


def parse_origin(data: bytes, name: str) -> dict[str, Any]:
    """The same, from the bytes of a file that errors call `name`.

    Raises:
        GanpipeError: they are no image, or have no origin.
    """
    try:
        text = _origin_text(data)
    except RejectedImage as rejected:
        raise _unreadable(name, rejected) from None
    return _parse_text(text, name)


def _parse_text(text: str | None, name: str) -> dict[str, Any]:
    if not text:
        raise GanpipeError(
            f"{name} carries no ganpipe origin: it was not made by ganpipe, or another program saved it again."
        )
    if len(text) > MAX_CHARACTERS:
        raise GanpipeError(
            f"{name} carries an origin of {len(text):,} characters; at most {MAX_CHARACTERS:,} are read."
        )
    try:
        origin = json.loads(text)
        damaged = not isinstance(origin, dict) or _is_deep(origin, MAX_DEPTH)
    except (ValueError, RecursionError):
        damaged = True
    if damaged:
        raise GanpipeError(f"{name} carries a damaged ganpipe origin.")
    return origin


def _unreadable(name: str, rejected: RejectedImage) -> GanpipeError:
    return GanpipeError(f"{name} is not a readable image ({rejected.sentence}).")


def has_origin(path: Path, origin: dict[str, Any]) -> bool:
    """Whether a file is an image with just this origin."""
    try:
        return read_origin(path) == json.loads(json_text(origin))
    except GanpipeError:
        return False


def _is_deep(value: Any, levels: int) -> bool:
    """Whether a JSON value nests deeper than `levels`."""
    if not isinstance(value, dict | list):
        return False
    return levels == 0 or any(
        _is_deep(item, levels - 1) for item in (value.values() if isinstance(value, dict) else value)
    )


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
