"""The sheet of the generated images that are likeliest copies, each beside its nearest training image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ganpipe.data.shards import PreparedData
from ganpipe.evaluation.verdict import Suspect
from ganpipe.imaging.decode import over_white
from ganpipe.imaging.grid import to_pil
from ganpipe.imaging.image import Pixels
from ganpipe.imaging.provenance import save_png
from ganpipe.reports.fonts import font

COLUMNS, TILE_PX, GAP_PX, CAPTION_PX = 5, 128, 12, 38
DARK, LIGHT, GRAY = (24, 24, 28), (235, 235, 235), (165, 165, 172)


def save_suspects(
    suspects: Sequence[Suspect], fake: Tensor, data: PreparedData, path: Path, origin: dict[str, Any]
) -> Path:
    """Saves the suspects among the images `fake: [N, H, W, C]`, left in each pair, with their distances below."""
    rows = torch.tensor([suspect.row for suspect in suspects], dtype=torch.long)
    near = data.train.rows(rows)[0]
    pair_w, pair_h = 2 * TILE_PX + 2 + GAP_PX, TILE_PX + CAPTION_PX + GAP_PX
    lines = -(-len(suspects) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * pair_w + GAP_PX, lines * pair_h + GAP_PX), DARK)
    draw = ImageDraw.Draw(sheet)
    for k, suspect in enumerate(suspects):
        x, y = GAP_PX + k % COLUMNS * pair_w, GAP_PX + k // COLUMNS * pair_h
        for column, pixels in enumerate((fake[suspect.image], near[k])):
            sheet.paste(_tile(pixels.numpy()), (x + column * (TILE_PX + 2), y))
        text = y + TILE_PX + 5
        draw.text((x, text), f"features {suspect.by_features:.2f} ×", LIGHT, font(12))
        draw.text((x, text + 15), f"thumbnail {suspect.by_thumbnail:.2f} ×", GRAY, font(12))
    return save_png(sheet, path, origin | {"kind": "nearest training images"})


def _tile(pixels: Pixels) -> Image.Image:
    """The whole image in a square tile; small ones are enlarged by a whole factor."""
    image = over_white(to_pil(pixels)).convert("RGB")
    times = max(1, TILE_PX // max(image.size))
    image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    image.thumbnail((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)
    tile = Image.new("RGB", (TILE_PX, TILE_PX), DARK)
    tile.paste(image, ((TILE_PX - image.width) // 2, (TILE_PX - image.height) // 2))
    return tile
