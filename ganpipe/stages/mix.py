"""Style mixing: images with the styles of source A, and coarse, middle or fine ones of source B.

Karras et al. 2019 (arXiv 1812.04948, section 3.1 and figure 3). The layers are cut into thirds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganpipe.compute.random import LATENTS, latents
from ganpipe.errors import GanpipeError
from ganpipe.imaging.grid import BACKGROUND, grid, row_of_sheets
from ganpipe.imaging.image import Pixels
from ganpipe.imaging.tensors import composite_on_white, to_uint8
from ganpipe.models.registry import Styled, truncate_mapping
from ganpipe.stages.generate import LoadedModel
from ganpipe.stages.latent_files import read_latent

GROUPS = ("coarse", "middle", "fine")
MOST_SOURCES = 16  # on one side
NUMBERS = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")

Source = int | Path  # the number of an image of `generate`, or a latent's file


def parse_sources(words: str, folder: Path) -> list[Source]:
    """Sources such as `0-3,7,cat.safetensors`; files are relative to `folder`.

    Raises:
        GanpipeError: there are too many, or none.
    """
    found: list[Source] = []
    for word in filter(None, words.split(",")):
        numbers = NUMBERS.fullmatch(word)
        if numbers is None:
            found.append(folder / Path(word).expanduser())
            continue
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        if last - first >= MOST_SOURCES:
            raise GanpipeError(
                f"{word} means {last - first + 1:,} images; at most {MOST_SOURCES} fit on a side."
            )
        found += range(first, last + 1)
    if not 1 <= len(found) <= MOST_SOURCES:
        raise GanpipeError(f"{words!r} names {len(found)} images; a side takes 1 to {MOST_SOURCES}.")
    return found


@dataclass(frozen=True)
class Styles:
    """The styles `[N, layers, w_dim]` of some sources, the noise `[N, pixels]`, and how an origin names them."""

    w: Tensor
    noise: Tensor
    names: list[Any]


def draw_sheet(
    model: LoadedModel,
    a: Sequence[Source],
    b: Sequence[Source],
    seed: int,
    label: str | None,
    truncation: float,
) -> tuple[Image.Image, dict[str, Any]]:
    """The sheet, and its origin: per group of layers a grid with A above, B at the left, and their mixtures.

    Raises:
        GanpipeError: the model has no styles, or a latent's file does not fit it.
    """
    if not isinstance(model.G, Styled):
        raise GanpipeError(
            f"{model.reference} is a {model.config['model']['name']}, which has no styles to mix; train one with "
            "--set model.name=stylegan2."
        )
    from_a, from_b = (_styles(model, model.G, sources, seed, label, truncation) for sources in (a, b))
    sheets = []
    for group in range(len(GROUPS)):
        mixed = mix_styles(from_a.w, from_b.w, group)
        sheets.append(_block(model.G, from_a, from_b, mixed))
    titles = [f"{group} styles of B (left), the others of A (above)" for group in GROUPS]
    own = {"a": from_a.names, "b": from_b.names} | ({} if label is None else {"label": label})
    return row_of_sheets(sheets, titles), model.origin("style mixing", seed, truncation) | own


def mix_styles(a: Tensor, b: Tensor, group: int) -> Tensor:
    """`[B, A, layers, w_dim]`: the styles `a: [A, layers, w_dim]` with a third of the layers from `b: [B, layers, w_dim]`."""
    layers = a.shape[1]
    first, last = (round(layers * share / len(GROUPS)) for share in (group, group + 1))
    mixed = a[None].repeat(len(b), 1, 1, 1)
    mixed[:, :, first:last] = b[:, None, first:last]
    return mixed


def _styles(
    model: LoadedModel, G: Styled, sources: Sequence[Source], seed: int, label: str | None, truncation: float
) -> Styles:
    found = [_style(model, G, source, seed, label, truncation) for source in sources]
    return Styles(
        torch.cat([f.w for f in found]),
        torch.cat([f.noise for f in found]),
        [n for f in found for n in f.names],
    )


@torch.no_grad()
def _style(
    model: LoadedModel, G: Styled, source: Source, seed: int, label: str | None, truncation: float
) -> Styles:
    if isinstance(source, Path):
        file = read_latent(source, model)
        latent = file.latent.per_layer(model.G)
        noise = G.fixed_noise if latent.noise is None else latent.noise
        return Styles(latent.value, noise, [file.as_origin()])
    z = latents(seed, LATENTS, source, 1, model.z_dim, model.compute.device)
    labels = model.labels(seed, range(source, source + 1), label)
    w = truncate_mapping(G, z, labels, truncation) if truncation != 1 else G.mapping(z, labels)
    return Styles(w[:, None].expand(-1, G.layers, -1), G.fixed_noise, [{"index": source}])


@torch.no_grad()
def _block(G: Styled, a: Styles, b: Styles, mixed: Tensor) -> Image.Image:
    rows = [_pixels(G, a.w, a.noise)]
    corner = np.full_like(rows[0][:1], BACKGROUND[0])
    lines = [np.concatenate([corner, rows[0]])]
    for source, noise, row in zip(b.w, b.noise, mixed, strict=True):
        lines += [_pixels(G, source[None], noise[None]), _pixels(G, row, a.noise)]
    return grid(np.concatenate(lines), columns=len(a.w) + 1)


def _pixels(G: Styled, w: Tensor, noise: Tensor) -> Pixels:
    pixels: Pixels = composite_on_white(to_uint8(G.synthesis(w, noise))).cpu().numpy()
    return pixels
