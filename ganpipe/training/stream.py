"""Everything random in training as a function of (seed, nimg), so that one counter resumes all of it."""

from __future__ import annotations

import torch
from torch import Tensor

from ganpipe.images import to_float

# Keys of independent streams drawn from the same seed.
ORDER, MIRROR, LATENTS, GRID = 1, 2, 3, 4


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


class EndlessImages:
    """Batches of real images without end: every epoch is a permutation drawn from (seed, epoch)."""

    def __init__(self, pixels: Tensor, seed: int, mirror: bool, device: torch.device) -> None:
        self.pixels = pixels.to(device)
        self.seed, self.mirror, self.device = seed, mirror, device
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def indices(self, nimg: int, count: int) -> Tensor:
        """Rows of the images that stand at positions nimg … nimg + count - 1 of the endless order."""
        parts = []
        while count:
            epoch, offset = divmod(nimg, len(self.pixels))
            if epoch != self._epoch:
                order = torch.randperm(len(self.pixels), generator=generator_at(self.seed, ORDER, epoch))
                self._epoch, self._order = epoch, order
            part = self._order[offset : offset + count]
            parts.append(part)
            nimg, count = nimg + len(part), count - len(part)
        return torch.cat(parts)

    def batch(self, nimg: int, count: int) -> Tensor:
        """Images `[count, C, H, W]` in `[-1, 1]`."""
        rows = self.indices(nimg, count).to(self.device)
        images = to_float(self.pixels[rows])
        if not self.mirror:
            return images
        flip = torch.rand(count, generator=generator_at(self.seed, MIRROR, nimg)) < 0.5
        return torch.where(flip.to(self.device)[:, None, None, None], images.flip(3), images)


def latents(seed: int, stream: int, counter: int, count: int, z_dim: int, device: torch.device) -> Tensor:
    """Standard normal `z: [count, z_dim]`, the same on every device."""
    return torch.randn(count, z_dim, generator=generator_at(seed, stream, counter)).to(device)
