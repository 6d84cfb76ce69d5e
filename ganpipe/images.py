"""Pictures as arrays: decoding what people have, exact conversion to and from tensors, grids, origin text."""

from __future__ import annotations

import json
import math
import stat
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageOps, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from ganpipe.errors import GanpipeError
from ganpipe.files import replacing

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 64_000_000  # decoded, 24-bit: 192 MB; photographs reach about 50 megapixels
MAX_BYTES = 256 * 2**20
ORIGIN_KEY = "ganpipe"

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by channels

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ImageShape:
    """Channels (1 grey, 3 colour, 4 colour and alpha), height and width in pixels."""

    channels: int
    height_px: int
    width_px: int

    @property
    def numel(self) -> int:
        """Numbers in one image."""
        return self.channels * self.height_px * self.width_px


@dataclass(frozen=True)
class Refusal(Exception):
    """Why a file is not taken: a short code for programs and a sentence for people."""

    code: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}"


def read_image_file(path: Path) -> bytes:
    """The bytes of a regular file that may be an image.

    Raises:
        Refusal: it is not a regular file (a FIFO would hang), is empty, too large, or cannot be read.
    """
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise Refusal("not_a_file", "it is no regular file")
        if info.st_size == 0:
            raise Refusal("empty", "it has 0 bytes")
        if info.st_size > MAX_BYTES:
            raise Refusal("too_large", f"it has {info.st_size:,} bytes; at most {MAX_BYTES:,} are read")
        return path.read_bytes()
    except OSError as error:
        raise Refusal("unreadable", f"it cannot be read ({error.strerror or error})") from error


def decode_image(data: bytes) -> Image.Image:
    """The picture in `data`, upright, as mode L (grey), LA, RGB or RGBA with 8 bits a channel.

    16-bit grey keeps its tones (Pillow's own conversion clips it to white); a palette with transparency
    becomes RGBA; of an animation the first frame is taken.

    Raises:
        Refusal: not an image of an allowed format, damaged, or larger than MAX_PIXELS.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limit, below, is stricter than the warning
            image: Image.Image = Image.open(BytesIO(data), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise Refusal(
                    "too_many_pixels", f"{image.width}×{image.height} is over {MAX_PIXELS:,} pixels"
                )
            image.load()  # verify() lets half a JPEG pass
            image = ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise Refusal("not_an_image", f"it is none of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise Refusal("too_many_pixels", f"it is over {MAX_PIXELS:,} pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, MemoryError) as error:
        raise Refusal("damaged", f"it cannot be decoded ({error})") from None
    return _to_eight_bits(image)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise Refusal("damaged", "it has pixels that are not numbers")
        # 16-bit grey fills 0…65535; float files fill 0…1; anything else is scaled to its own range.
        if image.mode == "F":
            low, high = (
                (0.0, 1.0) if values.min() >= 0 and values.max() <= 1 else (values.min(), values.max())
            )
        else:
            low, high = (
                (0.0, 65535.0)
                if values.min() >= 0 and values.max() <= 65535
                else (values.min(), values.max())
            )
        scaled = (values - low) / max(high - low, 1e-12) * 255
        return Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8))
    if image.mode in ("1", "L"):
        return image.convert("L")
    if image.mode in ("LA", "La"):
        return image.convert("LA")
    if image.mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("RGB")


def over_white(image: Image.Image) -> Image.Image:
    """The picture without alpha: composited on white, because under alpha lie colours that nobody saw."""
    if image.mode not in ("LA", "RGBA"):
        return image
    white = Image.new("RGBA", image.size, "white")
    flat = Image.alpha_composite(white, image.convert("RGBA"))
    return flat.convert("L" if image.mode == "LA" else "RGB")


def is_grey(image: Image.Image) -> bool:
    """Whether a picture has no colour, whatever its mode."""
    if image.mode in ("L", "LA"):
        return True
    small = np.asarray(image.convert("RGB").reduce(max(1, min(image.size) // 64)), dtype=np.int16)
    return int((small.max(2) - small.min(2)).max()) <= 4


def fit_image(image: Image.Image, shape: ImageShape, fit: str) -> Pixels:
    """The picture as `[H, W, C]` uint8: `crop` fills the frame, `pad` shows all on black, `squash` stretches.

    Resampling is antialiased (Lanczos); pictures of four pixels a side or fewer across are enlarged without it.
    """
    size = (shape.width_px, shape.height_px)
    image = image.convert("RGBA") if shape.channels == 4 else over_white(image).convert(MODES[shape.channels])
    if image.size != size:
        if fit == "crop":
            image = ImageOps.fit(image, size, Image.Resampling.LANCZOS)
        elif fit == "pad":
            image = ImageOps.pad(image, size, Image.Resampling.LANCZOS, color=0)
        else:
            image = image.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(shape.height_px, shape.width_px, shape.channels)


def to_float(pixels: Tensor) -> Tensor:
    """uint8 `[N, H, W, C]` → float32 `[N, C, H, W]` in `[-1, 1]`, channels last in memory."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Float `[N, C, H, W]` in `[-1, 1]` → uint8 `[N, H, W, C]`: the exact inverse of `to_float`."""
    return images.float().add(1.0).mul(127.5).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def to_pil(pixels: Pixels) -> Image.Image:
    """uint8 `[H, W, C]` as a Pillow image, grey where C is 1."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def without_alpha(pixels: Tensor) -> Tensor:
    """uint8 pictures `[N, H, W, 4]` composited on white as `[N, H, W, 3]`; others as they are."""
    if pixels.shape[3] != 4:
        return pixels
    colour, alpha = pixels[..., :3].float(), pixels[..., 3:].float() / 255
    return (colour * alpha + 255 * (1 - alpha)).round().to(torch.uint8)


def grid(pixels: Pixels, columns: int | None = None, gap_px: int = 2, enlarge_to_px: int = 64) -> Image.Image:
    """uint8 images `[N, H, W, C]` side by side, row by row; small ones are enlarged by a whole factor."""
    n, height, width = pixels.shape[:3]
    columns = columns or math.ceil(math.sqrt(n))
    times = max(1, enlarge_to_px // max(height, width))
    rows = math.ceil(n / columns)
    cell_h, cell_w = height * times + gap_px, width * times + gap_px
    sheet = Image.new("RGB", (columns * cell_w + gap_px, rows * cell_h + gap_px), (24, 24, 28))
    for k in range(n):
        tile = over_white(to_pil(pixels[k])).resize((width * times, height * times), Image.Resampling.NEAREST)
        sheet.paste(tile, (gap_px + k % columns * cell_w, gap_px + k // columns * cell_h))
    return sheet


def beside(left: Image.Image, right: Image.Image, titles: tuple[str, str]) -> Image.Image:
    """Two sheets next to each other, each below its title."""
    top, gap = 22, 12
    sheet = Image.new(
        "RGB", (left.width + gap + right.width, top + max(left.height, right.height)), (24, 24, 28)
    )
    draw = ImageDraw.Draw(sheet)
    for image, x, title in ((left, 0, titles[0]), (right, left.width + gap, titles[1])):
        draw.text((x + 4, 4), title, fill=(235, 235, 235))
        sheet.paste(image, (x, top))
    return sheet


def save_png(image: Image.Image, path: Path, origin: dict[str, Any]) -> Path:
    """Writes a PNG that carries its origin (`ganpipe trace` reads it), whole or not at all."""
    text = PngImagePlugin.PngInfo()
    text.add_itxt(ORIGIN_KEY, json.dumps(origin, ensure_ascii=False))
    with replacing(path) as file:
        image.save(file, format="PNG", pnginfo=text)
    return path


def read_origin(path: Path) -> dict[str, Any]:
    """The origin that `save_png` wrote.

    Raises:
        GanpipeError: no such file, no image, or no origin in it.
    """
    try:
        with Image.open(path) as image:
            image.load()
            text = image.info.get(ORIGIN_KEY)
    except FileNotFoundError:
        raise GanpipeError(f"{path} does not exist.") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise GanpipeError(f"{path} is not a readable image ({error}).") from None
    if text is None:
        raise GanpipeError(
            f"{path} carries no ganpipe origin: it was not made by ganpipe, or another program saved it again."
        )
    try:
        origin = json.loads(text)
    except ValueError:
        raise GanpipeError(f"{path} carries a damaged ganpipe origin.") from None
    return dict(origin)
