"""The parameters of a stylized image, resolved from settings and preset."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from ganpipe.errors import GanpipeError, nearest
from ganpipe.settings.schema import StyleSettings
from ganpipe.vgg19.weights import LAYERS

DEEPER_COUNTS = 0.3  # weight relative to the layer above: more, and flat areas keep the photo's colors and textures (LOG.md)
FIRST_PX = 128  # longer edge at the first scale, about: below, shapes of the content get lost; above, large strokes (LOG.md)


@dataclass(frozen=True)
class StylePreset:
    """Size and steps of a style preset."""

    long_edge_px: int
    steps: int  # at the first scale
    last_steps: int  # at the last scale
    ema: float  # of the iterates, which is the result: over few last steps a long one holds it back
    stop_below: float
    feedforward_images: int
    tile_px: int = 0  # so that 6 GiB are enough; 0: tiles only if an image does not fit into memory


STYLE_PRESETS = {
    "draft": StylePreset(160, 60, 40, ema=0.8, stop_below=0.01, feedforward_images=2_000),
    "standard": StylePreset(256, 100, 40, ema=0.9, stop_below=0.005, feedforward_images=4_000),
    "best": StylePreset(512, 200, 100, ema=0.95, stop_below=0.002, feedforward_images=10_000),
    "screen": StylePreset(1024, 80, 10, ema=0.75, stop_below=0.005, feedforward_images=2_500),
    "print": StylePreset(2048, 80, 5, ema=0.75, stop_below=0.005, feedforward_images=2_500, tile_px=1024),
}


@dataclass(frozen=True)
class StyleParams:
    """The parameters resolved from settings and preset. Settings that only change speed (batch, tiles) are left out."""

    long_edge_px: int
    scales: int
    steps: int  # at the first scale
    last_share: float  # of the steps at the first scale that are made at the last one
    stop_below: float
    ema: float
    statistics: str
    init: str
    optimizer: str
    content_layers: tuple[str, ...]
    style_layers: tuple[tuple[str, float], ...]  # with weights that sum to 1
    content_weight: float
    style_weight: float
    variation_weight: float
    style_scale: float
    style_scales: tuple[float, ...]  # relative to style_scale
    style_rotations: tuple[float, ...]  # degrees
    color_mode: str
    lr: float
    seed: int

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers that the losses use, shallow first."""
        wanted = {name for name, _ in self.style_layers} | set(self.content_layers)
        return tuple(layer.name for layer in LAYERS if layer.name in wanted)

    @property
    def last(self) -> str:
        """The deepest layer in use."""
        return self.layers[-1]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for keys and origins.

        What changes nothing is left out: images of versions without it stay up to date.
        """
        unchanged = {"style_scales": (1.0,), "style_rotations": (0.0,), "last_share": 1.0}
        return {name: value for name, value in asdict(self).items() if value != unchanged.get(name)}

    def steps_at(self, scale: int, scales: int) -> int:
        """Optimizer steps at a scale, 0 the first: a geometric sequence."""
        return max(1, round(self.steps * self.last_share ** (scale / max(1, scales - 1))))


def resolve_params(settings: StyleSettings) -> StyleParams:
    """Resolves the settings and their preset.

    Raises:
        GanpipeError: a layer does not exist, both weights are 0, or scales or rotations of the style are no numbers.
    """
    effort = STYLE_PRESETS[settings.preset]
    steps = settings.steps or effort.steps
    last_steps = settings.last_steps or settings.steps or effort.last_steps
    long_edge_px = settings.long_edge_px or effort.long_edge_px
    chosen: dict[str, Any] = {
        "long_edge_px": long_edge_px,
        "scales": settings.scales or max(1, 1 + round(2 * math.log2(long_edge_px / FIRST_PX))),
        "steps": steps,
        "last_share": last_steps / steps,
        "stop_below": effort.stop_below if settings.stop_below < 0 else settings.stop_below,
        "ema": effort.ema,
        "content_layers": _layers("style.content_layers", settings.content_layers),
        "style_layers": _weigh(_layers("style.style_layers", settings.style_layers)),
        "style_scales": _numbers("style.style_scales", settings.style_scales, 0.05, 8),
        "style_rotations": _numbers("style.style_rotations", settings.style_rotations, -360, 360),
        # 0.5 leaves the weights as they are; 0 leaves nothing of the style, 1 nothing of the content.
        "content_weight": settings.content_weight * 2 * (1 - settings.strength),
        "style_weight": settings.style_weight * 2 * settings.strength,
    }
    if chosen["content_weight"] == chosen["style_weight"] == 0:
        raise GanpipeError("style.content_weight and style.style_weight are both 0: raise one of them.")
    return StyleParams(
        **chosen, **{f.name: getattr(settings, f.name) for f in fields(StyleParams) if f.name not in chosen}
    )


def tile_px_of(settings: StyleSettings) -> int:
    """Edge of the tiles that the settings or their preset ask for; 0: none asked for."""
    return settings.tile_px or STYLE_PRESETS[settings.preset].tile_px


def _layers(key: str, text: str) -> tuple[str, ...]:
    names = [layer.name for layer in LAYERS]
    asked = [part.strip() for part in text.split("+") if part.strip()]
    if not asked:
        raise GanpipeError(f"{key} names no layer; it may be, for example, relu4_2.")
    for name in asked:
        if name not in names:
            raise GanpipeError(f"{key} has a layer {name}, which VGG19 does not have: {nearest(name, names)}")
    return tuple(name for name in names if name in asked)


def _numbers(key: str, text: str, least: float, most: float) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split("+"))
    except ValueError:
        numbers = ()
    if not numbers or not all(least <= number <= most for number in numbers):
        raise GanpipeError(f"{key} is {text!r}; it takes numbers from {least:g} to {most:g}, joined by +.")
    return numbers


def _weigh(layers: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    raw = [DEEPER_COUNTS**k for k in range(len(layers))]
    return tuple((name, round(w / sum(raw), 6)) for name, w in zip(layers, raw, strict=True))
