"""`sample:flowers`: images drawn by ganpipe, whose modes (petals × hue × background) are known.

Every image is a function of `(seed, index)` alone, so that the dataset can be drawn anywhere, in any
order, in parallel, and mode coverage of a GAN trained on it can be counted instead of guessed.
"""

from __future__ import annotations

import colorsys
import math
import random
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageDraw, ImageFilter

PETALS = (4, 6, 9)
HUES = {"red": 0.985, "amber": 0.115, "blue": 0.61, "violet": 0.79}
BACKGROUNDS = ("meadow", "sky", "dusk")
SIZE_PX = 128
IMAGES = 4320  # 36 modes × 120
SEED = 20261123
FLOWERS_VERSION = 1  # raise it when the images change

Point = tuple[float, float]
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Mode:
    """The mode of an image."""

    petals: int
    hue: str
    background: str

    @property
    def label(self) -> str:
        """Such as `6-amber-dusk`."""
        return f"{self.petals}-{self.hue}-{self.background}"


MODES = tuple(Mode(p, h, b) for p in PETALS for h in HUES for b in BACKGROUNDS)


def mode_of(index: int) -> Mode:
    """The mode of image `index`; modes alternate, so that all are equally frequent."""
    return MODES[index % len(MODES)]


def draw_flower(index: int, seed: int = SEED, size_px: int = SIZE_PX) -> Image.Image:
    """Draws image `index` in RGB, `size_px` × `size_px` pixels."""
    rng = random.Random(f"{seed}/{index}")
    mode = mode_of(index)
    large = Image.new("RGB", (2 * size_px, 2 * size_px))
    canvas = ImageDraw.Draw(large)
    _draw_background(canvas, mode.background, large.width, rng)
    large = large.filter(ImageFilter.GaussianBlur(1.2))
    canvas = ImageDraw.Draw(large)
    _draw_flower(canvas, mode, large.width, rng)
    return large.resize((size_px, size_px), Image.Resampling.BOX)


def _rgb(hue: float, saturation: float, value: float) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(
        hue % 1.0, min(1.0, max(0.0, saturation)), min(1.0, max(0.0, value))
    )
    return round(255 * red), round(255 * green), round(255 * blue)


def _mix(first: Color, second: Color, t: float) -> Color:
    return (
        round(first[0] + (second[0] - first[0]) * t),
        round(first[1] + (second[1] - first[1]) * t),
        round(first[2] + (second[2] - first[2]) * t),
    )


def _draw_background(canvas: ImageDraw.ImageDraw, name: str, side: int, rng: random.Random) -> None:
    jitter = rng.uniform(-0.05, 0.05)
    top, bottom = {
        "meadow": (_rgb(0.27, 0.45, 0.62 + jitter), _rgb(0.33, 0.75, 0.30 + jitter)),
        "sky": (_rgb(0.56, 0.42, 0.92 + jitter), _rgb(0.52, 0.12, 0.97)),
        "dusk": (_rgb(0.72, 0.62, 0.20 + jitter), _rgb(0.03, 0.55, 0.48 + jitter)),
    }[name]
    for row in range(side):
        canvas.line([(0, row), (side, row)], fill=_mix(top, bottom, row / side))
    if name == "meadow":
        for _ in range(70):
            x, y, length = rng.uniform(0, side), rng.uniform(0, side * 1.1), side * rng.uniform(0.06, 0.16)
            blade = _rgb(rng.uniform(0.24, 0.36), 0.7, rng.uniform(0.25, 0.65))
            canvas.line([(x, y), (x + rng.uniform(-0.4, 0.4) * length, y - length)], fill=blade, width=3)
    elif name == "sky":
        for _ in range(rng.randint(2, 4)):
            x, y, width = rng.uniform(0, side), rng.uniform(0, side), side * rng.uniform(0.10, 0.20)
            for _ in range(5):
                dx, dy, r = (
                    rng.uniform(-1, 1) * width,
                    rng.uniform(-0.2, 0.2) * width,
                    width * rng.uniform(0.3, 0.5),
                )
                canvas.ellipse(
                    [x + dx - r, y + dy - r * 0.6, x + dx + r, y + dy + r * 0.6], fill=(250, 252, 255)
                )
    else:
        for _ in range(30):
            x, y, r = rng.uniform(0, side), rng.uniform(0, side * 0.7), rng.uniform(1, 2.5)
            canvas.ellipse([x - r, y - r, x + r, y + r], fill=(255, 244, 214))
        ridge = [(side * i / 6, side * rng.uniform(0.78, 0.9)) for i in range(7)]
        canvas.polygon([(0, side), *ridge, (side, side)], fill=_rgb(0.75, 0.5, 0.13))


def _petal(center: Point, angle: float, length: float, width: float) -> list[Point]:
    """A teardrop from `center` outwards: narrow at the root, round at the tip."""
    outline = []
    for step in range(21):
        t = step / 20 * 2 - 1
        along = 1 - t * t
        across = math.sin(math.pi * t) * width * (0.35 + 0.65 * along)
        x = length * along
        outline.append(
            (
                center[0] + x * math.cos(angle) - across * math.sin(angle),
                center[1] + x * math.sin(angle) + across * math.cos(angle),
            )
        )
    return outline


def _draw_flower(canvas: ImageDraw.ImageDraw, mode: Mode, side: int, rng: random.Random) -> None:
    radius = side * rng.uniform(0.30, 0.40)
    center = (side * rng.uniform(0.44, 0.56), side * rng.uniform(0.42, 0.52))
    hue, bright = HUES[mode.hue] + rng.uniform(-0.02, 0.02), rng.uniform(0.82, 1.0)
    turn = rng.uniform(0, 2 * math.pi)

    foot = (center[0] + side * rng.uniform(-0.15, 0.15), side * 1.02)
    stem = _rgb(0.31, 0.7, rng.uniform(0.32, 0.45))
    canvas.line([center, foot], fill=stem, width=round(side * 0.025))
    middle = ((center[0] + foot[0]) / 2, (center[1] + radius + foot[1]) / 2)
    for sign in (-1, 1):
        leaf = _petal(middle, math.pi / 2 - sign * rng.uniform(0.9, 1.4), side * 0.2, side * 0.05)
        canvas.polygon(leaf, fill=_rgb(0.30, 0.65, rng.uniform(0.40, 0.55)))

    width = radius * {4: 0.46, 6: 0.33, 9: 0.21}[mode.petals]
    for k in range(mode.petals):
        angle = turn + 2 * math.pi * k / mode.petals + rng.uniform(-0.05, 0.05)
        length = radius * rng.uniform(0.94, 1.06)
        for scale, saturation, value in ((1.0, 0.95, 0.62), (0.93, 0.86, 1.0), (0.62, 0.62, 1.06)):
            color = _rgb(hue, saturation, bright * value)
            canvas.polygon(_petal(center, angle, length * scale, width * scale), fill=color)
    heart = radius * rng.uniform(0.20, 0.26)
    for scale, color in ((1.0, _rgb(0.09, 0.85, 0.45)), (0.82, _rgb(0.13, 0.8, 0.95))):
        r = heart * scale
        canvas.ellipse([center[0] - r, center[1] - r, center[0] + r, center[1] + r], fill=color)
    for k in range(9):
        angle, r = 2 * math.pi * k / 9, heart * 0.5
        x, y = center[0] + r * math.cos(angle), center[1] + r * math.sin(angle)
        canvas.ellipse([x - 2, y - 2, x + 2, y + 2], fill=_rgb(0.08, 0.9, 0.5))


def flower_png(index: int, seed: int = SEED) -> bytes:
    """Flower `index` as a PNG file."""
    buffer = BytesIO()
    draw_flower(index, seed).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
