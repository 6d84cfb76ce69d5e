"""Exact conversions between uint8 pixels and a network's floats."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.imaging.image import ImageShape, Pixels


def to_float(pixels: Tensor) -> Tensor:
    """uint8 `[N, H, W, C]` → float32 `[N, C, H, W]` in `[-1, 1]`, channels last in memory."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Float `[N, C, H, W]` in `[-1, 1]` → uint8 `[N, H, W, C]`: the exact inverse of `to_float`."""
    return images.float().add(1.0).mul(127.5).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def to_pixels(image: Tensor) -> Pixels:
    """Float `[1, C, H, W]` in `[0, 1]` → uint8 `[H, W, C]`."""
    pixels: Pixels = (
        image[0].float().mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    )
    return pixels


def from_pixels(pixels: Pixels) -> Tensor:
    """The inverse."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255


def composite_on_white(pixels: Tensor) -> Tensor:
    """Composites uint8 `[N, H, W, 4]` on white to `[N, H, W, 3]`; returns images without alpha unchanged."""
    if pixels.shape[3] != 4:
        return pixels
    color, alpha = pixels[..., :3].float(), pixels[..., 3:].float() / 255
    return (color * alpha + 255 * (1 - alpha)).round().to(torch.uint8)


def with_shape(pixels: Tensor, shape: ImageShape) -> Tensor:
    """uint8 `[N, H, W, C]` scaled to the shape's size and channels: gray repeated, alpha put on white or opaque."""
    if pixels.shape[3] != shape.channels:
        color = composite_on_white(pixels).expand(-1, -1, -1, 3)
        opaque = torch.full_like(color[..., :1], 255)
        pixels = torch.cat([color, opaque], 3) if shape.channels == 4 else color
    if tuple(pixels.shape[1:3]) == (shape.height_px, shape.width_px):
        return pixels
    images = pixels.permute(0, 3, 1, 2).float()
    size = (shape.height_px, shape.width_px)
    scaled = F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
    return scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
