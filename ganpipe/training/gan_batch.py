"""The batch of one GAN step, as a function of (seed, position)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ganpipe.compute.distributed import Distributed
from ganpipe.compute.random import (
    DIRECTION,
    DRAWN,
    G_LATENTS,
    G_MIRROR,
    G_ORDER,
    G_RANDOM,
    LATENTS,
    MIX,
    NOISE,
    PATH,
    latents,
    normal_on_device,
    uniform,
)
from ganpipe.data.shards import PreparedData
from ganpipe.models.registry import MODELS
from ganpipe.settings.schema import Settings
from ganpipe.training.augment import DRAWS
from ganpipe.training.batches import ImageBatches
from ganpipe.training.gradient_penalties import select_penalty
from ganpipe.training.losses import LOSSES

# Which part of `Batch.draws` and `Batch.noise` belongs to whom.
D_REAL, D_FAKE, G_FAKE, G_REAL = range(4)


@dataclass(frozen=True)
class Batch:
    """All that one step sees. `None` stands for what the settings do not use.

    `draws: [N, 4, DRAWS]`, `noise: [N, 4, V]`: for D's real and fake, and G's fake and real images, which have at most V
    values each. `directions: [N, 2, V]`: of the finite difference at real and fake. `mix: [N]`: places of the interpolated
    penalty between real and fake. `labels`, `g_labels`: of the real images, and of the fake ones made beside them.
    `random: [N, 1 or 2, numbers]`: what a `Styled` G draws for D's and, if they are others, for G's fake images.
    `path: [N, C, H, W]`: images of noise y, along which path lengths are measured.
    """

    real: Tensor
    z: Tensor
    labels: Tensor | None = None
    g_real: Tensor | None = None
    g_z: Tensor | None = None
    g_labels: Tensor | None = None
    draws: Tensor | None = None
    noise: Tensor | None = None
    directions: Tensor | None = None
    mix: Tensor | None = None
    random: Tensor | None = None
    path: Tensor | None = None

    def __len__(self) -> int:
        return len(self.z)

    def d_inputs(self) -> tuple[Any, ...]:
        """The inputs of G for the fake images that D sees: latents, labels, and what it draws itself."""
        return (self.z, self.labels) if self.random is None else (self.z, self.labels, self.random[:, 0])

    def g_inputs(self) -> tuple[Any, ...]:
        """The same for the step of G."""
        z = self.z if self.g_z is None else self.g_z
        labels = self.labels if self.g_labels is None else self.g_labels
        return (z, labels) if self.random is None else (z, labels, self.random[:, -1])

    def split(self, count: int) -> list[Batch]:
        """Parts of at most `count` images."""
        starts = [start for start in range(0, len(self), count) if len(self) - start > 1 or start == 0]
        ends = [*starts[1:], len(self)]  # a last part of one image joins the one before: batch norm needs two
        return [self.part(slice(start, end)) for start, end in zip(starts, ends, strict=True)]

    def part(self, where: slice) -> Batch:
        """Some of the images with all that belongs to them."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v[where] for k, v in values.items() if v is not None})


class GanBatches:
    """Everything that a step sees, as a function of (seed, position): this process's part of each batch.

    `values`: what D is shown of an image has at most so many values; 0: as many as the image.
    """

    def __init__(
        self,
        data: PreparedData,
        settings: Settings,
        classes: int,
        device: torch.device,
        distributed: Distributed,
        values: int = 0,
    ) -> None:
        self.settings, self.device, self.distributed = settings, device, distributed
        self.values = values or data.shape.numel
        self.size = (data.shape.channels, data.shape.height_px, data.shape.width_px)
        options, loss = settings.training, settings.loss
        self.images = ImageBatches(data.train, options.seed, options.horizontal_flip, device)
        pairs = LOSSES[loss.name].pairs
        self.g_images = (
            ImageBatches(data.train, options.seed, options.horizontal_flip, device, (G_ORDER, G_MIRROR))
            if options.separate_g_batch and pairs
            else None
        )
        self.classes = classes
        self.penalty = select_penalty(loss)
        random_numbers = MODELS[settings.model.name].random_numbers
        self.random_numbers = random_numbers(settings.model, data.shape) if random_numbers else 0

    def batch(self, position: int, count: int, step: int) -> Batch:
        """The batch of `count` images at `position`; `step` says whether the lazy penalty is due."""
        options, loss = self.settings.training, self.settings.loss
        seed, device, part = options.seed, self.device, self.distributed.share(count)
        z_dim = self.settings.model.z_dim
        real, labels = self.images.batch(position, count, part)
        fresh = options.separate_g_batch
        g_real, g_labels = self.g_images.batch(position, count, part) if self.g_images else (None, labels)
        penalized = self.penalty != "none" and step % loss.penalty_every == 0
        measured = loss.path_length_weight > 0 and step % loss.path_length_every == 0
        directed = penalized and loss.penalty_method == "finite-difference" and self.penalty != "interpolated"
        return Batch(
            real=real,
            z=latents(seed, LATENTS, position, count, z_dim, device)[part],
            labels=labels if self.classes else None,
            g_real=g_real,
            g_z=latents(seed, G_LATENTS, position, count, z_dim, device)[part] if fresh else None,
            g_labels=g_labels if self.classes and fresh else None,
            draws=(
                uniform(seed, DRAWN, position, (count, 4, DRAWS), device)[part]
                if self.settings.augment.mode != "none"
                else None
            ),
            noise=(
                normal_on_device(seed, NOISE, position, (count, 4, self.values), device)[part]
                if options.instance_noise > 0
                else None
            ),
            directions=normal_on_device(seed, DIRECTION, position, (count, 2, self.values), device)[part]
            if directed
            else None,
            mix=uniform(seed, MIX, position, (count,), device)[part]
            if self.penalty == "interpolated"
            else None,
            random=normal_on_device(
                seed, G_RANDOM, position, (count, 1 + fresh, self.random_numbers), device
            )[part]
            if self.random_numbers
            else None,
            path=normal_on_device(seed, PATH, position, (count, *self.size), device)[part]
            if measured
            else None,
        )
