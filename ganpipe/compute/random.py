"""Random numbers as functions of (seed, stream, counter), so that one counter resumes all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Keys of independent streams drawn from the same seed.
ORDER, MIRROR, LATENTS, GRID = 1, 2, 3, 4


G_ORDER, G_MIRROR, G_LATENTS, DRAWN, NOISE, LABELS, DIRECTION, MIX, SIGNAL, MEAN = (
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
)
G_RANDOM, PATH, FIXED_NOISE, PROJECTION = 15, 16, 17, 18  # of models with styles


def generator_at(seed: int, stream: int, counter: int) -> torch.Generator:
    """A CPU generator for one use at one moment.

    The 64-bit seed mixes the three numbers with odd constants (splitmix64's), so that neighbors differ in
    every bit.
    """
    mixed = seed
    for value in (stream, counter):
        mixed = ((mixed ^ value) * 0xBF58476D1CE4E5B9 + 0x9E3779B97F4A7C15) & (2**64 - 1)
        mixed ^= mixed >> 31
    return torch.Generator().manual_seed(mixed & (2**63 - 1))


def latents(seed: int, stream: int, counter: int, count: int, z_dim: int, device: torch.device) -> Tensor:
    """Standard normal `z: [count, z_dim]`, the same on every device."""
    return torch.randn(count, z_dim, generator=generator_at(seed, stream, counter)).to(device)


def draw_labels(
    counts: Sequence[int], seed: int, counter: int, count: int, device: torch.device
) -> Tensor | None:
    """Labels `[count]` as often as they are in the training images; None for an unconditional model."""
    if not counts:
        return None
    generator = generator_at(seed, LABELS, counter)
    return torch.multinomial(torch.tensor(counts, dtype=torch.float64), count, True, generator=generator).to(
        device
    )


def uniform(seed: int, stream: int, counter: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Uniform numbers in [0, 1), the same on every device."""
    return torch.rand(shape, generator=generator_at(seed, stream, counter)).to(device)


def normal_on_device(
    seed: int, stream: int, counter: int, shape: tuple[int, ...], device: torch.device
) -> Tensor:
    """Standard normal numbers made on the device: copying whole images of noise would be slow."""
    generator = torch.Generator(device).manual_seed(generator_at(seed, stream, counter).initial_seed())
    return torch.randn(shape, generator=generator, device=device)


class InfiniteSampler:
    """Rows of a dataset in endless order: every epoch is a permutation fixed by (seed, epoch)."""

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
