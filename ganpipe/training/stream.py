"""Everything random in training as a function of (seed, position), so that one counter resumes all of it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from ganpipe.data.shards import PreparedData, Split
from ganpipe.losses import LOSSES, penalty_of
from ganpipe.models import classes_of
from ganpipe.settings.schema import Settings
from ganpipe.tensors import to_float
from ganpipe.training.augment import DRAWS
from ganpipe.training.parallel import World
from ganpipe.training.step import Batch

# Keys of independent streams drawn from the same seed.
ORDER, MIRROR, LATENTS, GRID = 1, 2, 3, 4
G_ORDER, G_MIRROR, G_LATENTS, DRAWN, NOISE, LABELS, DIRECTION, MIX, SIGNAL = 5, 6, 7, 8, 9, 10, 11, 12, 13
ALL = slice(None)
RESIDENT_SHARE = 0.5  # of the device's free memory that the images may take


def generator_at(seed: int, stream: int, counter: int) -> torch.Generator:
    """A CPU generator for one use at one moment.

    The 64-bit seed mixes the three numbers with odd constants (splitmix64's), so that neighbours differ in
    every bit.
    """
    mixed = seed
    for value in (stream, counter):
        mixed = ((mixed ^ value) * 0xBF58476D1CE4E5B9 + 0x9E3779B97F4A7C15) & (2**64 - 1)
        mixed ^= mixed >> 31
    return torch.Generator().manual_seed(mixed & (2**63 - 1))


class EndlessOrder:
    """Rows of a data set without end: every epoch is a permutation drawn from (seed, epoch)."""

    def __init__(self, count: int, seed: int, stream: int) -> None:
        self.count, self.seed, self.stream = count, seed, stream
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def rows(self, position: int, count: int) -> Tensor:
        """Rows of the images that stand at `position` … `position + count - 1` of the endless order."""
        parts = []
        while count:
            epoch, offset = divmod(position, self.count)
            if epoch != self._epoch:
                generator = generator_at(self.seed, self.stream, epoch)
                self._epoch, self._order = epoch, torch.randperm(self.count, generator=generator)
            part = self._order[offset : offset + count]
            parts.append(part)
            position, count = position + len(part), count - len(part)
        return torch.cat(parts)


class EndlessImages:
    """Batches of real images: from the device's memory where they fit, else read ahead from the mapped shards."""

    def __init__(
        self, split: Split, seed: int, mirror: bool, device: torch.device, streams: tuple[int, int] = (ORDER, MIRROR)
    ) -> None:  # fmt: skip
        self.seed, self.mirror, self.device, self.mirror_stream = seed, mirror, device, streams[1]
        self.order = EndlessOrder(len(split), seed, streams[0])
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


def latents(seed: int, stream: int, counter: int, count: int, z_dim: int, device: torch.device) -> Tensor:
    """Standard normal `z: [count, z_dim]`, the same on every device."""
    return torch.randn(count, z_dim, generator=generator_at(seed, stream, counter)).to(device)


def drawn_labels(
    counts: Sequence[int], seed: int, counter: int, count: int, device: torch.device
) -> Tensor | None:
    """Labels `[count]` as often as they are in the training images; None where the model is told none."""
    if not counts:
        return None
    generator = generator_at(seed, LABELS, counter)
    return torch.multinomial(torch.tensor(counts, dtype=torch.float64), count, True, generator=generator).to(
        device
    )


def uniform(seed: int, stream: int, counter: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Uniform numbers in [0, 1), the same on every device."""
    return torch.rand(shape, generator=generator_at(seed, stream, counter)).to(device)


def normal_there(
    seed: int, stream: int, counter: int, shape: tuple[int, ...], device: torch.device
) -> Tensor:
    """Standard normal numbers drawn on the device itself: whole images of noise would be slow to send there."""
    generator = torch.Generator(device).manual_seed(generator_at(seed, stream, counter).initial_seed())
    return torch.randn(shape, generator=generator, device=device)


class Stream:
    """Everything that a step sees, as a function of (seed, position): this process's part of each batch."""

    def __init__(self, data: PreparedData, settings: Settings, device: torch.device, world: World) -> None:
        self.settings, self.device, self.world, self.shape = settings, device, world, data.shape
        options, loss = settings.training, settings.loss
        self.images = EndlessImages(data.train, options.seed, options.horizontal_flip, device)
        pairs = LOSSES[loss.name].pairs
        self.g_images = (
            EndlessImages(data.train, options.seed, options.horizontal_flip, device, (G_ORDER, G_MIRROR))
            if options.separate_g_batch and pairs
            else None
        )
        self.classes = classes_of(settings.model, data.label_names, data.labelled)
        self.penalty = penalty_of(loss)

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
                normal_there(seed, NOISE, position, (count, 4, *size), device)[part]
                if options.instance_noise > 0
                else None
            ),
            directions=normal_there(seed, DIRECTION, position, (count, 2, *size), device)[part]
            if directed
            else None,
            mix=uniform(seed, MIX, position, (count,), device)[part]
            if self.penalty == "interpolated"
            else None,
        )
