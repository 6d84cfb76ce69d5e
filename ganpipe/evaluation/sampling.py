"""Images to evaluate: sampled from a generator or read from a folder; and the sample grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganpipe.compute.device import Compute
from ganpipe.compute.random import GRID, LATENTS, draw_labels, generator_at, latents
from ganpipe.data.resize import resize_image
from ganpipe.data.shards import PreparedData, Split
from ganpipe.errors import GanpipeError
from ganpipe.imaging.decode import decode_image, read_image_file
from ganpipe.imaging.grid import grid, side_by_side
from ganpipe.imaging.image import ImageShape, RejectedImage
from ganpipe.imaging.paths import image_paths
from ganpipe.imaging.provenance import save_png
from ganpipe.imaging.tensors import to_uint8
from ganpipe.models.registry import sample
from ganpipe.settings.schema import EvaluationSettings


def generate_pixels(
    G: nn.Module,
    z_dim: int,
    label_counts: Sequence[int],
    count: int,
    seed: int,
    compute: Compute,
    stream: int = LATENTS,
) -> Tensor:
    """uint8 images `[count, H, W, C]` from latents, and labels as often as in the data, that depend on the seed."""
    z = latents(seed, stream, 0, count, z_dim, compute.device)
    labels = draw_labels(label_counts, seed, 0, count, compute.device)
    return to_uint8(sample(G, z, labels)).cpu()


def fixed_pixels(
    G: nn.Module, z_dim: int, label_counts: Sequence[int], count: int, seed: int, compute: Compute
) -> Tensor:
    """uint8 images `[count, H, W, C]` for the latents of the training grids."""
    return generate_pixels(G, z_dim, label_counts, count, seed, compute, GRID)


def read_folder(folder: Path, shape: ImageShape) -> Tensor:
    """The images of a folder as uint8 `[N, H, W, C]` of the dataset's shape.

    Raises:
        GanpipeError: no image, or one that cannot be read.
    """
    pixels = []
    for path in image_paths([folder]):
        try:
            pixels.append(resize_image(decode_image(read_image_file(path)), shape, "crop"))
        except RejectedImage as rejected:
            raise GanpipeError(f"{path} cannot be evaluated: {rejected.sentence}.") from None
    return torch.from_numpy(np.stack(pixels))


def random_subset(split: Split, most: int, seed: int) -> Split:
    """At most `most` images, sampled without replacement."""
    rows = torch.randperm(len(split), generator=generator_at(seed, LATENTS, 1))[:most]
    return Split.of(*split.rows(rows))


def sample_grid(
    fake: Tensor, data: PreparedData, settings: EvaluationSettings, path: Path, origin: dict[str, Any]
) -> Path:
    """Generated images beside held-out real ones, as many of each as `evaluation.grid_images`."""
    n = min(settings.grid_images, len(fake))
    real = random_subset(data.holdout, n, settings.seed).pixels.numpy()
    columns = math.ceil(math.sqrt(n))
    titles = (f"generated ({data.name})", "real, held out")
    sheet = side_by_side(grid(fake[:n].numpy(), columns), grid(real, columns), titles)
    return save_png(sheet, path, origin | {"kind": "sample grid"})
