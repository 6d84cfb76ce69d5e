"""Training crops of the contents, at the size at which they will be stylized, as a function of (seed, position)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor

from ganpipe.compute.random import InfiniteSampler, generator_at
from ganpipe.style.optimize import resize

BATCH_IMAGES = 2  # reaches a lower loss than 4 after as many images; 1 gained no more
KEPT_BYTES = 256 * 2**20  # of the contents, in memory; the others are loaded each time they are drawn

# Keys of independent streams drawn from the same seed, after those of `training.stream`; 104 is the feed-forward network's noise.
CONTENTS, STYLES, CROPS = 101, 102, 103

Content = Tensor | Callable[[], Tensor]


@dataclass(frozen=True)
class Crop:
    """A batch: `images: [N, 3, size, size]`, the style index of each, `[N]`, and the seed of the noise."""

    images: Tensor
    styles: Tensor
    noise_seed: int


class Crops:
    """Batches as a function of (seed, position): contents and styles in endless random order, cut and flipped at random.

    One batch is prepared ahead, in a thread. Contents stay in memory up to KEPT_BYTES.
    """

    def __init__(self, contents: Sequence[Content], styles: int, size: int, seed: int, total: int) -> None:
        self.contents, self.size, self.seed, self.total = contents, size, seed, total
        self.content_order = InfiniteSampler(len(contents), seed, CONTENTS)
        self.style_order = InfiniteSampler(styles, seed, STYLES)
        self.kept: dict[int, Tensor] = {}
        self.room = KEPT_BYTES
        self.reader = ThreadPoolExecutor(1)
        self.ahead: dict[int, Future[Crop]] = {}

    def __enter__(self) -> Crops:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reader.shutdown(cancel_futures=True)

    def batch(self, position: int) -> Crop:
        """Returns the batch at `position`, and starts to load the next one."""
        now = self.ahead.pop(position, None) or self.reader.submit(self._read, position)
        after = position + BATCH_IMAGES
        self.ahead = {after: self.reader.submit(self._read, after)} if after < self.total else {}
        return now.result()

    def _read(self, position: int) -> Crop:
        count = min(BATCH_IMAGES, self.total - position)
        rows = self.content_order.rows(position, count).tolist()
        generator = generator_at(self.seed, CROPS, position)
        draws = torch.rand(count, 3, generator=generator).tolist()
        crops = [self._cut(self._load_content(row), *draw) for row, draw in zip(rows, draws, strict=True)]
        noise_seed = int(torch.randint(2**31, (), generator=generator))
        return Crop(torch.cat(crops), self.style_order.rows(position, count), noise_seed)

    def _load_content(self, row: int) -> Tensor:
        """Loads content `row` as `[1, 3, H, W]`, enlarged if an edge is shorter than a crop."""
        if row in self.kept:
            return self.kept[row]
        content = self.contents[row]
        image = content if isinstance(content, Tensor) else content()
        enlarged = self._enlarge_to_crop(image.detach().cpu().float().reshape(1, *image.shape[-3:]))
        if self.room >= enlarged.nbytes:
            self.kept[row], self.room = enlarged, self.room - enlarged.nbytes
        return enlarged

    def _enlarge_to_crop(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        scale = max(1.0, self.size / min(height, width))
        return resize(image, (max(self.size, round(height * scale)), max(self.size, round(width * scale))))

    def _cut(self, image: Tensor, down: float, across: float, flip: float) -> Tensor:
        top = int(down * (image.shape[2] - self.size + 1))
        left = int(across * (image.shape[3] - self.size + 1))
        crop = image[:, :, top : top + self.size, left : left + self.size]
        return crop.flip(3) if flip < 0.5 else crop
