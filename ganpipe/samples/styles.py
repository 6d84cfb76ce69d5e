"""Two style images drawn by ganpipe, so that style transfer needs no download."""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

from ganpipe.imaging.provenance import save_png

SIZE_PX = 512


def draw_swirl(size_px: int = SIZE_PX, seed: int = 7) -> Image.Image:
    """Draws long brush strokes along a flow field of vortices: night blues, with yellow where the field turns."""
    rng = random.Random(seed)
    image = Image.new("RGB", (size_px, size_px), (24, 38, 84))
    draw = ImageDraw.Draw(image)
    vortices = [(rng.random(), rng.random(), rng.choice((-1, 1)), rng.uniform(0.10, 0.22)) for _ in range(7)]

    def flow(x: float, y: float) -> tuple[float, float]:
        angle, near = 0.35 * math.sin(5 * x) + 0.25 * math.cos(7 * y), 0.0
        dx, dy = math.cos(angle), math.sin(angle)
        for vx, vy, turn, reach in vortices:
            weight = math.exp(-((x - vx) ** 2 + (y - vy) ** 2) / reach**2)
            distance = math.hypot(x - vx, y - vy) + 1e-6
            dx += 3 * weight * turn * -(y - vy) / distance
            dy += 3 * weight * turn * (x - vx) / distance
            near = max(near, weight)
        return math.atan2(dy, dx), near

    for width, strokes in ((9, 2600), (5, 5200), (3, 5200)):
        for _ in range(strokes):
            x, y = rng.random(), rng.random()
            path = [(x * size_px, y * size_px)]
            _, near = flow(x, y)
            for _ in range(9):
                angle, _ = flow(x, y)
                x, y = x + 0.009 * math.cos(angle), y + 0.009 * math.sin(angle)
                path.append((x * size_px, y * size_px))
            draw.line(path, fill=_stroke_color(near, rng), width=width, joint="curve")
    return image.filter(ImageFilter.GaussianBlur(0.5))


def _stroke_color(near: float, rng: random.Random) -> tuple[int, int, int]:
    if rng.random() < 0.15 + 0.75 * near**2:
        hue, saturation, value = rng.uniform(0.11, 0.15), rng.uniform(0.45, 0.9), rng.uniform(0.75, 1.0)
    else:
        hue, saturation, value = rng.uniform(0.55, 0.65), rng.uniform(0.35, 0.9), rng.uniform(0.25, 0.9)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_glass(size_px: int = SIZE_PX, seed: int = 3) -> Image.Image:
    """Draws stained glass: shards of warm and cool color between dark leading, each shaded from edge to edge."""
    rng = random.Random(seed)
    image = Image.new("RGB", (size_px, size_px), (20, 16, 18))
    draw = ImageDraw.Draw(image)
    cells = 13
    step = size_px / cells

    def corner(i: int, j: int) -> tuple[float, float]:
        own = random.Random(f"{seed}/{i}/{j}")
        return (i + own.uniform(-0.38, 0.38)) * step, (j + own.uniform(-0.38, 0.38)) * step

    palette = (0.02, 0.06, 0.11, 0.13, 0.46, 0.52, 0.60, 0.93)
    for i in range(-1, cells + 1):
        for j in range(-1, cells + 1):
            a, b, c, d = corner(i, j), corner(i + 1, j), corner(i + 1, j + 1), corner(i, j + 1)
            for shard in ((a, b, c), (a, c, d)) if rng.random() < 0.5 else ((a, b, d), (b, c, d)):
                hue, value = rng.choice(palette), rng.uniform(0.65, 1.0)
                middle = (sum(p[0] for p in shard) / 3, sum(p[1] for p in shard) / 3)
                for inset in range(5):
                    t = 0.06 + 0.14 * inset
                    points = [(x + (middle[0] - x) * t, y + (middle[1] - y) * t) for x, y in shard]
                    rgb = colorsys.hsv_to_rgb(hue, 0.9 - 0.09 * inset, value * (0.72 + 0.07 * inset))
                    draw.polygon(points, fill=tuple(round(255 * v) for v in rgb))
                draw.line([*shard, shard[0]], fill=(20, 16, 18), width=5)
    return image.filter(ImageFilter.GaussianBlur(0.6))


STYLES: dict[str, Callable[[], Image.Image]] = {"swirl": draw_swirl, "glass": draw_glass}


def sample_styles(folder: Path) -> list[Path]:
    """Draws the sample styles into `folder` as PNG files, if missing; returns their paths."""
    paths = []
    for name, draw_style in STYLES.items():
        path = folder / f"{name}.png"
        if not path.exists():
            save_png(draw_style(), path, {"kind": "painted style", "name": name})
        paths.append(path)
    return paths
