"""Samples images from a generator or reads them from a folder, for evaluation and sample grids."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganpipe.compute.device import Compute
from ganpipe.compute.random import GRID, LATENTS, draw_labels, generator_at, latents
from ganpipe.data.anchor import reference_rows
from ganpipe.data.resize import resize_image
from ganpipe.data.shards import PreparedData, Split
from ganpipe.errors import GanpipeError
from ganpipe.files import escape_control
from ganpipe.imaging.decode import decode_image, read_image_file
from ganpipe.imaging.grid import grid, row_of_sheets
from ganpipe.imaging.image import ImageShape, RejectedImage
from ganpipe.imaging.paths import folder_images
from ganpipe.imaging.provenance import save_png
from ganpipe.imaging.tensors import to_uint8
from ganpipe.models.registry import sample
from ganpipe.settings.schema import EvaluationSettings

log = logging.getLogger(__name__)


def generate_pixels(
    G: nn.Module,
    z_dim: int,
    label_counts: Sequence[int],
    count: int,
    seed: int,
    compute: Compute,
    stream: int = LATENTS,
) -> Tensor:
    """Generates uint8 images `[count, H, W, C]` from seeded latents, with labels as frequent as in the data."""
    z = latents(seed, stream, 0, count, z_dim, compute.device)
    labels = draw_labels(label_counts, seed, 0, count, compute.device)
    return to_uint8(sample(G, z, labels)).cpu()


def grid_pixels(
    G: nn.Module, z_dim: int, label_counts: Sequence[int], count: int, seed: int, compute: Compute
) -> Tensor:
    """Generates uint8 images `[count, H, W, C]` from the fixed latents of the training grids."""
    return generate_pixels(G, z_dim, label_counts, count, seed, compute, GRID)


def read_folder(folder: Path, shape: ImageShape) -> Tensor:
    """Reads the images of a folder as uint8 `[N, H, W, C]`, cropped to the dataset's shape.

    Raises:
        GanpipeError: no image is found, or one cannot be read.
    """
    found = folder_images(folder)
    if found.left_out:
        log.warning(
            "%d files and folders of %s were left out.", len(found.left_out), escape_control(str(folder))
        )
    pixels = []
    for path in found.paths:
        try:
            pixels.append(resize_image(decode_image(read_image_file(path)), shape, "crop"))
        except RejectedImage as rejected:
            raise GanpipeError(f"{path} cannot be evaluated: {rejected.sentence}.") from None
    return torch.from_numpy(np.stack(pixels))


def random_rows(split: Split, most: int, seed: int) -> Tensor:
    """Indices of at most `most` images, drawn without replacement."""
    return torch.randperm(len(split), generator=generator_at(seed, LATENTS, 1))[:most]


def sample_grid(
    fake: Tensor, data: PreparedData, settings: EvaluationSettings, path: Path, origin: dict[str, Any]
) -> Path:
    """Saves generated images beside held-out real ones, `evaluation.grid_images` of each: the same in all versions."""
    n = min(settings.grid_images, len(fake))
    real = data.holdout.rows(reference_rows(data, n))[0].numpy()
    columns = math.ceil(math.sqrt(n))
    titles = (f"generated ({data.name})", "real, held out")
    sheet = row_of_sheets([grid(fake[:n].numpy(), columns), grid(real, columns)], titles)
    return save_png(sheet, path, origin | {"kind": "sample grid"})
