"""Batches of real images, latents and labels, as functions of (seed, position)."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from ganpipe.compute.distributed import Distributed
from ganpipe.compute.random import (
    DIRECTION,
    DRAWN,
    G_LATENTS,
    G_MIRROR,
    G_ORDER,
    LATENTS,
    MIRROR,
    MIX,
    NOISE,
    ORDER,
    InfiniteSampler,
    generator_at,
    latents,
    normal_on_device,
    uniform,
)
from ganpipe.data.shards import PreparedData, Split
from ganpipe.imaging.tensors import to_float
from ganpipe.models.registry import count_classes
from ganpipe.settings.schema import Settings
from ganpipe.training.augment import DRAWS
from ganpipe.training.gan import Batch
from ganpipe.training.gradient_penalties import select_penalty
from ganpipe.training.losses import LOSSES

ALL = slice(None)
RESIDENT_SHARE = 0.5  # of the device's free memory that the images may take


class ImageBatches:
    """Batches of real images: from the device's memory where they fit, else read ahead from the mapped shards."""

    def __init__(
        self,
        split: Split,
        seed: int,
        mirror: bool,
        device: torch.device,
        streams: tuple[int, int] = (ORDER, MIRROR),
    ) -> None:
        self.seed, self.mirror, self.device, self.mirror_stream = seed, mirror, device, streams[1]
        self.order = InfiniteSampler(len(split), seed, streams[0])
        self.resident = device.type != "cpu" and fits(split.nbytes, device)
        self.split = split.to(device) if self.resident else split
        self._reader = ThreadPoolExecutor(1) if device.type != "cpu" and not self.resident else None
        self._ahead: dict[tuple[int, int], Future[tuple[Tensor, Tensor]]] = {}

    def batch(self, position: int, count: int, part: slice = ALL) -> tuple[Tensor, Tensor]:
        """Images `[n, C, H, W]` in `[-1, 1]` and their labels `[n]` (-1: none): a part of the batch of `count` there."""
        start, stop, _ = part.indices(count)
        read = self._read_ahead if self._reader else self._read
        pixels, labels = read(position + start, stop - start, count)
        images = to_float(pixels.to(self.device, non_blocking=True))
        if self.mirror:
            generator = generator_at(self.seed, self.mirror_stream, position)
            flip = (torch.rand(count, generator=generator) < 0.5)[part]
            images = torch.where(flip.to(self.device)[:, None, None, None], images.flip(3), images)
        return images, labels.to(self.device, non_blocking=True)

    def _read(self, position: int, count: int, stride: int = 0) -> tuple[Tensor, Tensor]:
        rows = self.order.rows(position, count)
        return self.split.rows(rows.to(self.device) if self.resident else rows)

    def _read_ahead(self, position: int, count: int, stride: int) -> tuple[Tensor, Tensor]:
        """This batch, and the one `stride` positions later already under way in a thread."""
        assert self._reader is not None

        def read(start: int) -> tuple[Tensor, Tensor]:
            pixels, labels = self._read(start, count)
            return (
                (pixels.pin_memory(), labels.pin_memory()) if self.device.type == "cuda" else (pixels, labels)
            )

        now = self._ahead.pop((position, count), None) or self._reader.submit(read, position)
        self._ahead = {(position + stride, count): self._reader.submit(read, position + stride)}
        return now.result()


def fits(nbytes: int, device: torch.device) -> bool:
    """Whether images of so many bytes may live in the device's memory."""
    return nbytes <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]


class BatchStream:
    """Everything that a step sees, as a function of (seed, position): this process's part of each batch."""

    def __init__(
        self, data: PreparedData, settings: Settings, device: torch.device, world: Distributed
    ) -> None:
        self.settings, self.device, self.world, self.shape = settings, device, world, data.shape
        options, loss = settings.training, settings.loss
        self.images = ImageBatches(data.train, options.seed, options.horizontal_flip, device)
        pairs = LOSSES[loss.name].pairs
        self.g_images = (
            ImageBatches(data.train, options.seed, options.horizontal_flip, device, (G_ORDER, G_MIRROR))
            if options.separate_g_batch and pairs
            else None
        )
        self.classes = count_classes(settings.model, data.label_names, data.labelled)
        self.penalty = select_penalty(loss)

    def batch(self, position: int, count: int, step: int) -> Batch:
        """The batch of `count` images at `position`; `step` says whether the lazy penalty is due."""
        options, loss = self.settings.training, self.settings.loss
        seed, device, part = options.seed, self.device, self.world.share(count)
        z_dim, shape = self.settings.model.z_dim, self.shape
        size = (shape.channels, shape.height_px, shape.width_px)
        real, labels = self.images.batch(position, count, part)
        fresh = options.separate_g_batch
        g_real, g_labels = self.g_images.batch(position, count, part) if self.g_images else (None, labels)
        penalised = self.penalty != "none" and step % loss.penalty_every == 0
        directed = penalised and loss.penalty_method == "finite-difference" and self.penalty != "interpolated"
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
                normal_on_device(seed, NOISE, position, (count, 4, *size), device)[part]
                if options.instance_noise > 0
                else None
            ),
            directions=normal_on_device(seed, DIRECTION, position, (count, 2, *size), device)[part]
            if directed
            else None,
            mix=uniform(seed, MIX, position, (count,), device)[part]
            if self.penalty == "interpolated"
            else None,
        )
