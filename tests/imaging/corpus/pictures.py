"""The pixels that the corpus stores, and how they are seen."""

from __future__ import annotations

import numpy as np

from tests.imaging.icc_profiles import srgb_of_light

Random = np.random.Generator
Shown = np.ndarray  # what is seen: [H, W] or [H, W, 3] of any type, in 0…255


def noise(rng: Random, *shape: int, levels: int = 256) -> np.ndarray:
    """uint8 `[H, W, …]` below `levels`."""
    return rng.integers(0, levels, shape or (10, 14, 3), dtype=np.uint8)


def deep_noise(rng: Random, *shape: int) -> np.ndarray:
    """uint16 `[H, W, …]` of all 65536 values."""
    return rng.integers(0, 65536, shape or (10, 14), dtype=np.uint16)


def gradient(rng: Random, height_px: int = 24, width_px: int = 40, channels: int = 3) -> np.ndarray:
    """uint8 `[H, W, C]` between four quiet colors in the corners, which lossy formats keep."""
    corners = rng.uniform(90, 165, (2, 2, 1)) + rng.uniform(-30, 30, (2, 2, channels))
    y, x = np.linspace(0, 1, height_px)[:, None, None], np.linspace(0, 1, width_px)[None, :, None]
    top, bottom = ((1 - x) * corners[k, 0] + x * corners[k, 1] for k in range(2))
    return ((1 - y) * top + y * bottom).round().astype(np.uint8)


def patches(rng: Random, height_px: int = 30, width_px: int = 44, channels: int = 3) -> np.ndarray:
    """uint8 `[H, W, C]` of squares of 16 pixels, of one color each: of a block of a JPEG one number remains."""
    colors = noise(rng, -(-height_px // 16), -(-width_px // 16), channels)
    return colors.repeat(16, axis=0).repeat(16, axis=1)[:height_px, :width_px]


def over_white(color: np.ndarray, alpha: np.ndarray) -> Shown:
    """Colors `[H, W]` or `[H, W, 3]` seen through alpha `[H, W]` in 0…255, in front of white."""
    share = (alpha if color.ndim == 2 else alpha[..., None]) / 255.0
    return color * share + 255.0 * (1 - share)


def hidden(color: np.ndarray, where: np.ndarray) -> Shown:
    """White where `[H, W]` nothing shows."""
    return over_white(color, np.where(where, 0, 255))


def printed(inks: np.ndarray) -> Shown:
    """Computes the colors of inks `[H, W, 4]` in 0…255 without a profile: each takes its share of the light."""
    light = 255.0 - inks
    return light[..., :3] * light[..., 3:] / 255.0


def linear_seen(light: np.ndarray) -> Shown:
    """Light in [0, 1] as sRGB in 0…255."""
    return srgb_of_light(light) * 255
