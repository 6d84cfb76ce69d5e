"""From an image of any shape to training images: which part is shown, on what ground, resampled how."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageColor
from torch import Tensor
from torch.nn import functional as F

from ganpipe.errors import GanpipeError
from ganpipe.imaging.decode import MODES, SHRINKS, pixels_of
from ganpipe.imaging.grid import to_pil
from ganpipe.imaging.image import ImageShape, Pixels
from ganpipe.imaging.srgb import decode_srgb, encode_srgb

SHRINK_ABOVE = 6  # times the frame that a JPEG's decoder leaves of an image that it divides (LOG.md)
MOST_CROPS = 8  # of one image with cover-many: a panorama of 40:1 would fill a dataset by itself
Box = tuple[int, int, int, int]  # left, top, right, bottom
Color = tuple[int, int, int]


@dataclass(frozen=True)
class ResizeRules:
    """How images become images of one shape. See `data.fit` and its neighbors in `params.yaml`."""

    shape: ImageShape
    how: str = "crop"
    background: Color = (255, 255, 255)  # shows through transparency
    padding: Color = (0, 0, 0)  # around what `pad` shows whole
    linear_light: bool = False


def parse_color(setting: str, text: str) -> Color:
    """The color that a setting names: white, #ff8000, rgb(255, 128, 0).

    Raises:
        GanpipeError: no such color.
    """
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise GanpipeError(
            f"{setting} is {text!r}, which is no color; give a name such as white, or #rrggbb."
        ) from None
    return red, green, blue


def crop_boxes(width: int, height: int, fit: ResizeRules) -> list[Box]:
    """The parts of an image that are shown, one box an image: the middle, the whole, or several that cover it.

    `cover-many` lays as few frames of the asked shape as cover the longer side, evenly spaced, at most MOST_CROPS.
    """
    if fit.how in ("pad", "squash"):
        return [(0, 0, width, height)]
    scale = min(width / fit.shape.width_px, height / fit.shape.height_px)
    w = min(width, max(1, round(fit.shape.width_px * scale)))
    h = min(height, max(1, round(fit.shape.height_px * scale)))
    count = 1
    if fit.how == "cover-many":
        count = min(MOST_CROPS, max(math.ceil(width / w - 1e-9), math.ceil(height / h - 1e-9)))
    if count == 1:
        left, top = (width - w) // 2, (height - h) // 2
        return [(left, top, left + w, top + h)]
    steps = [k / (count - 1) for k in range(count)]
    corners = [(round((width - w) * t), round((height - h) * t)) for t in steps]
    return [(left, top, left + w, top + h) for left, top in corners]


def shrink_for(fit: ResizeRules, width: int, height: int) -> int:
    """By how much a JPEG of this size may be divided by its decoder: 1, 2, 4 or 8.

    SHRINK_ABOVE times the frame must be left, and its edges and the crops must fall between the pixels. The images of a
    photograph are then within 2 of 255 of those of the whole. With 2, which divides the brightness alone if the colors are
    at half size already, one value in 20,000 is not, and both are as near to the picture before compression (LOG.md).
    """
    wanted = SHRINK_ABOVE * max(fit.shape.height_px, fit.shape.width_px)
    boxes = crop_boxes(width, height, fit)
    edges = [width, height, *(edge for box in boxes for edge in box)]
    for by in SHRINKS:
        even = all(edge % by == 0 for edge in edges)
        if even and min(width, height) >= by * wanted:
            small = [tuple(edge // by for edge in box) for box in boxes]
            if crop_boxes(width // by, height // by, fit) == small:
                return by
    return 1


def resize_pixels(pixels: Pixels, fit: ResizeRules) -> list[Pixels]:
    """Images `[H, W, C]` of one image `[h, w, 1 to 4]`, as many as `crop_boxes` gives; uint8.

    Resampling is Lanczos, antialiased.
    """
    flat = _flatten(pixels, fit)
    boxes = crop_boxes(flat.shape[1], flat.shape[0], fit)
    return [_frame(flat[top:bottom, left:right], fit) for left, top, right, bottom in boxes]


def resize_image(image: Image.Image, shape: ImageShape, how: str) -> Pixels:
    """One image of an image, on white, or black around it: for sheets and comparisons."""
    return resize_pixels(pixels_of(image), ResizeRules(shape, how))[0]


def _flatten(pixels: Pixels, fit: ResizeRules) -> Pixels:
    """The pixels in as many channels as are asked for; transparent ones on the background."""
    channels, wanted = pixels.shape[2], fit.shape.channels
    if channels == wanted:
        return pixels
    image, mode = to_pil(pixels), MODES[wanted]
    if channels in (2, 4) and wanted != 4:
        ground = Image.new("RGBA", image.size, fit.background)
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return pixels_of(image.convert(mode))


def _frame(part: Pixels, fit: ResizeRules) -> Pixels:
    """A part of an image `[h, w, C]` as an image of the asked shape."""
    height, width, channels = fit.shape.height_px, fit.shape.width_px, fit.shape.channels
    size = (width, height)
    if fit.how == "pad":
        scale = min(width / part.shape[1], height / part.shape[0])
        size = (
            max(1, min(width, round(part.shape[1] * scale))),
            max(1, min(height, round(part.shape[0] * scale))),
        )
    pixels = part
    if (part.shape[1], part.shape[0]) != size:
        writable = part if part.flags.writeable else part.copy()  # else torch warns
        pixels = resample(torch.from_numpy(writable), size, fit.linear_light).numpy()
    if size == (width, height):
        return pixels
    around = Image.new("RGB", (1, 1), fit.padding).convert(MODES[channels])
    if channels == 4:
        around.putalpha(0)
    out = np.empty((height, width, channels), np.uint8)
    out[:] = np.asarray(around).reshape(channels)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    out[top : top + size[1], left : left + size[0]] = pixels
    return out


@lru_cache(maxsize=1)
def has_lanczos() -> bool:
    """Whether this torch can resample as Pillow does, several times faster (2.15 can, 2.11 could not)."""
    try:
        tiny = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
        F.interpolate(tiny, size=(4, 4), mode="lanczos", antialias=True)
    except (NotImplementedError, RuntimeError, ValueError):
        return False
    return True


def resample(pixels: Tensor, size: tuple[int, int], linear_light: bool = False) -> Tensor:
    """uint8 `[H, W, C]` at another size (width, height): Lanczos over three lobes, antialiased, edges not beyond.

    With alpha, colors count as much as they show. `linear_light` averages light instead of sRGB's numbers, so that
    fine bright detail keeps its brightness.
    """
    if pixels.shape[2] == 4 or linear_light:
        return _resampled_light(pixels, size, linear_light)
    if has_lanczos():
        planes = pixels.permute(2, 0, 1)[None]
        return F.interpolate(planes, size=(size[1], size[0]), mode="lanczos", antialias=True)[0].permute(
            1, 2, 0
        )
    image = Image.fromarray(pixels.numpy().squeeze(2) if pixels.shape[2] == 1 else pixels.numpy())
    scaled = np.array(image.resize(size, Image.Resampling.LANCZOS))
    return torch.from_numpy(scaled.reshape(size[1], size[0], pixels.shape[2]))


def _resampled_light(pixels: Tensor, size: tuple[int, int], linear_light: bool) -> Tensor:
    color = _light_of_levels()[pixels[..., :3].long()] if linear_light else pixels[..., :3].float() / 255
    if pixels.shape[2] != 4:
        planes = _resample_floats(color, size)
    else:
        alpha = pixels[..., 3:].float() / 255
        planes = _resample_floats(torch.cat([color * alpha, alpha], 2), size)
        alpha = planes[..., 3:].clamp(0, 1)
        planes = torch.cat([planes[..., :3] / alpha.clamp_min(1 / 512), alpha], 2)
    color = planes[..., :3].clamp(0, 1)
    if linear_light:
        color = encode_srgb(color)
    if pixels.shape[2] == 4:
        color = torch.cat([color, planes[..., 3:]], 2)
    return color.mul(255).round().to(torch.uint8)


@lru_cache(maxsize=1)
def _light_of_levels() -> Tensor:
    """The linear light of sRGB's 256 levels."""
    return decode_srgb(torch.arange(256, dtype=torch.float64) / 255).float()


def _resample_floats(values: Tensor, size: tuple[int, int]) -> Tensor:
    if has_lanczos():
        planes = values.permute(2, 0, 1)[None].contiguous()
        wide = F.interpolate(planes, size=(size[1], size[0]), mode="lanczos", antialias=True)
        return wide[0].permute(1, 2, 0)
    scaled = [
        np.array(Image.fromarray(plane.numpy(), "F").resize(size, Image.Resampling.LANCZOS))
        for plane in values.unbind(2)
    ]
    return torch.from_numpy(np.stack(scaled, 2))
