"""Tiles of an image, each with a halo as wide as a VGG19 layer's receptive field needs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from torch import Tensor

from ganpipe.vgg19.weights import BLOCKS, LAYERS

Features = dict[str, Tensor]
CELL_PX = 2 ** (
    len(BLOCKS) - 1
)  # pixels of a cell of the deepest block: tiles start and end on multiples of it
SHRINK = {layer.name: 2 ** (layer.block - 1) for layer in LAYERS}  # side in pixels of a cell of a layer


@dataclass(frozen=True)
class Span:
    """Pixels `start` to `stop` of an axis that belong to a tile, and `low` to `high` that it computes."""

    start: int
    stop: int
    low: int
    high: int

    def inner(self, shrink: int) -> slice:
        """The tile's own part of a map whose cells are `shrink` pixels wide."""
        end = None if self.stop == self.high else (self.stop - self.low) // shrink
        return slice((self.start - self.low) // shrink, end)


@dataclass(frozen=True)
class Tile:
    """A rectangle of the image with its halo."""

    rows: Span
    columns: Span

    def window(self, images: Tensor) -> Tensor:
        """The computed part of `images: [N, C, H, W]`."""
        return images[:, :, self.rows.low : self.rows.high, self.columns.low : self.columns.high]

    def inner(self, features: Features) -> Features:
        """The features of the window without its halo."""
        return {
            k: f[:, :, self.rows.inner(SHRINK[k]), self.columns.inner(SHRINK[k])] for k, f in features.items()
        }


def reach_px(last: str) -> int:
    """How many pixels away a cell of a layer can see, rounded up to whole cells of the deepest block."""
    layer = next(layer for layer in LAYERS if layer.name == last)
    reach = sum((layer.conv if b + 1 == layer.block else BLOCKS[b]) << b for b in range(layer.block))
    return -(-reach // CELL_PX) * CELL_PX


def spans(size: int, tile_px: int, halo_px: int) -> list[Span]:
    """Splits an axis of `size` pixels into spans of `tile_px` (whole cells) with halos; none is less than a cell."""
    tile_px = max(CELL_PX, tile_px // CELL_PX * CELL_PX)
    starts = [s for s in range(0, size, tile_px) if size - s >= CELL_PX or s == 0]
    ends = [*starts[1:], size]
    return [
        Span(s, e, max(0, s - halo_px), min(size, e + halo_px)) for s, e in zip(starts, ends, strict=True)
    ]


def tiles_of(height: int, width: int, tile_px: int, last: str) -> list[Tile]:
    """Splits an image into tiles; a single tile if `tile_px` is 0 or the image is no larger."""
    if not tile_px or max(height, width) <= tile_px:
        return [Tile(Span(0, height, 0, height), Span(0, width, 0, width))]
    halo = reach_px(last)
    return [Tile(r, c) for r, c in product(spans(height, tile_px, halo), spans(width, tile_px, halo))]
