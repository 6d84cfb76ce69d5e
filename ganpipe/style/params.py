"""The parameters of a stylized image, resolved from settings and preset."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from ganpipe.errors import GanpipeError, nearest
from ganpipe.settings.schema import StyleSettings
from ganpipe.vgg19.weights import LAYERS

DEEPER_COUNTS = 0.7  # weight relative to the layer above: brush strokes survive beside large shapes; chosen by eye (LOG.md)


@dataclass(frozen=True)
class StylePreset:
    """Size, steps and statistics of a style preset."""

    long_edge_px: int
    scales: int
    steps: int  # at each scale
    statistics: str
    ema: float  # of the iterates; the average is the result
    stop_below: float
    feedforward_images: int


STYLE_PRESETS = {
    "draft": StylePreset(
        160, scales=3, steps=40, statistics="covariance", ema=0.8, stop_below=0.01, feedforward_images=2_000
    ),
    "standard": StylePreset(
        256, scales=4, steps=60, statistics="covariance", ema=0.9, stop_below=0.005, feedforward_images=6_000
    ),
    "best": StylePreset(
        512,
        scales=5,
        steps=150,
        statistics="wasserstein",
        ema=0.95,
        stop_below=0.002,
        feedforward_images=40_000,
    ),
}


@dataclass(frozen=True)
class StyleParams:
    """The parameters resolved from settings and preset. Settings that only change speed (batch, tiles) are left out."""

    long_edge_px: int
    scales: int
    steps: int
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
        """Plain values, for keys and origins."""
        return asdict(self)


def resolve_params(settings: StyleSettings) -> StyleParams:
    """Resolves the settings and their preset.

    Raises:
        GanpipeError: a layer does not exist, or both weights are 0.
    """
    effort = STYLE_PRESETS[settings.preset]
    chosen: dict[str, Any] = {
        "long_edge_px": settings.long_edge_px or effort.long_edge_px,
        "scales": settings.scales or effort.scales,
        "steps": settings.steps or effort.steps,
        "stop_below": effort.stop_below if settings.stop_below < 0 else settings.stop_below,
        "ema": effort.ema,
        "statistics": effort.statistics if settings.statistics == "preset" else settings.statistics,
        "content_layers": _layers("style.content_layers", settings.content_layers),
        "style_layers": _weigh(_layers("style.style_layers", settings.style_layers)),
        # 0.5 leaves the weights as they are; 0 leaves nothing of the style, 1 nothing of the content.
        "content_weight": settings.content_weight * 2 * (1 - settings.strength),
        "style_weight": settings.style_weight * 2 * settings.strength,
    }
    if chosen["content_weight"] == chosen["style_weight"] == 0:
        raise GanpipeError("style.content_weight and style.style_weight are both 0: raise one of them.")
    return StyleParams(
        **chosen, **{f.name: getattr(settings, f.name) for f in fields(StyleParams) if f.name not in chosen}
    )


def _layers(key: str, text: str) -> tuple[str, ...]:
    names = [layer.name for layer in LAYERS]
    asked = [part.strip() for part in text.split("+") if part.strip()]
    if not asked:
        raise GanpipeError(f"{key} names no layer; it may be, for example, relu4_2.")
    for name in asked:
        if name not in names:
            raise GanpipeError(f"{key} has a layer {name}, which VGG19 does not have: {nearest(name, names)}")
    return tuple(name for name in names if name in asked)


def _weigh(layers: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    raw = [DEEPER_COUNTS**k for k in range(len(layers))]
    return tuple((name, round(w / sum(raw), 6)) for name, w in zip(layers, raw, strict=True))
