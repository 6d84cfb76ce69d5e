"""Batches of real images, latents and labels, as functions of (seed, position)."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from ganpipe.compute.random import (
    MIRROR,
    ORDER,
    InfiniteSampler,
    generator_at,
)
from ganpipe.data.shards import Split
from ganpipe.imaging.tensors import to_float

ALL = slice(None)
RESIDENT_SHARE = 0.5  # of the device's free memory that the images may take


class ImageBatches:
    """Batches of real images: from the device's memory if they fit, otherwise prefetched from the mapped shards."""

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
