"""The verdict on made cases: images whose fault is known, against what a person would say.

    python -m benchmarks.judging [--draws 5] [--sizes 250/250 ...] [--data flowers digits letters FOLDER] [--cases NAME ...]

Each draw splits a dataset anew into training, held-out and unseen images; a case makes its images of the unseen ones, or of
the training images. A size is generated/held-out images. `flowers` has 36 labeled modes, `digits` ten; the ten `letters`
(drawn here) have labels that ganpipe is not told; a folder of images has none, and the cases that need them are left out.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from ganpipe.compute.device import choose_compute
from ganpipe.data.shards import PreparedData, Split
from ganpipe.evaluation.extractors import Extracted, choose_extractor
from ganpipe.evaluation.feature_cache import FeatureExtractor
from ganpipe.evaluation.judge import ImageSet, Judge
from ganpipe.evaluation.sampling import read_folder
from ganpipe.evaluation.verdict import Evaluation
from ganpipe.imaging.image import ImageShape
from ganpipe.settings.schema import EvaluationSettings

SIDE_PX = 32
NEIGHBORS = 5
COMPUTE = choose_compute("auto", "auto")


@dataclass(frozen=True)
class Pool:
    """All images of a dataset, and their labels."""

    name: str
    pixels: Tensor
    labels: np.ndarray
    label_names: tuple[str, ...]


def flowers() -> Pool:
    """4,320 painted flowers of 36 modes."""
    from ganpipe.samples.flowers import IMAGES, MODES, draw_flower, mode_of

    names = tuple(mode.label for mode in MODES)
    pixels = np.stack([np.asarray(draw_flower(k, size_px=SIDE_PX)) for k in range(IMAGES)])
    labels = np.array([names.index(mode_of(k).label) for k in range(IMAGES)])
    return Pool("flowers", torch.from_numpy(pixels), labels, names)


def digits() -> Pool:
    """1,797 handwritten digits, 8×8, enlarged."""
    from sklearn.datasets import load_digits

    found = load_digits()
    small = (found.images * (255 / 16)).round().astype(np.uint8)
    pixels = np.stack(
        [np.asarray(Image.fromarray(x).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)) for x in small]
    )
    return Pool("digits", torch.from_numpy(pixels)[..., None], found.target, tuple("0123456789"))


def letters(count: int = 4_320) -> Pool:
    """Ten letters in Pillow's own font: place, angle, size and two colors vary. Their labels are withheld."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(10, size=count)
    pixels = np.stack([np.asarray(_letter("ABEGKMRSTX"[kind], rng)) for kind in kinds])
    return Pool("letters", torch.from_numpy(pixels), kinds, ())


def _letter(text: str, rng: np.random.Generator) -> Image.Image:
    paper, ink = (tuple(int(c) for c in part) for part in rng.integers((150, 0), (256, 110), size=(3, 2)).T)
    image, size = Image.new("RGB", (128, 128), paper), rng.uniform(70, 100)
    place = tuple(64 + rng.uniform(-12, 12, size=2))
    ImageDraw.Draw(image).text(place, text, fill=ink, font=ImageFont.load_default(size), anchor="mm")
    turned = image.rotate(rng.uniform(-20, 20), Image.Resampling.BICUBIC, fillcolor=paper)
    return turned.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)


def folder(path: Path) -> Pool:
    """The images of a folder, without labels."""
    pixels = read_folder(path, ImageShape(3, SIDE_PX, SIDE_PX))
    return Pool(path.name, pixels, np.zeros(len(pixels), int), ())


POOLS: dict[str, Callable[[], Pool]] = {"flowers": flowers, "digits": digits, "letters": letters}


@dataclass(frozen=True)
class Draw:
    """A split of a pool, by rows: `n` images are generated."""

    pool: Pool
    train: np.ndarray
    holdout: np.ndarray
    unseen: np.ndarray
    n: int
    rng: np.random.Generator

    @property
    def fresh(self) -> np.ndarray:
        """Rows of n unseen images."""
        return self.unseen[: self.n]

    def of_kinds(self, share: float) -> np.ndarray:
        """Rows of n unseen images of a share of the kinds."""
        kinds = np.unique(self.pool.labels)
        kept = self.rng.permutation(kinds)[: max(1, round(share * len(kinds)))]
        return self.unseen[np.isin(self.pool.labels[self.unseen], kept)][: self.n]

    def repeated(self, count: int) -> np.ndarray:
        """`count` unseen images, n times in all."""
        return np.resize(self.unseen[:count], self.n)


def _bytes(x: Tensor) -> Tensor:
    return x.round().clamp(0, 255).to(torch.uint8)


def _noise(x: Tensor, sigma: float) -> Tensor:
    return _bytes(x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))


def _blur(x: Tensor, sigma: float) -> Tensor:
    return _bytes(gaussian_blur(x.permute(0, 3, 1, 2).float(), [9, 9], [sigma, sigma]).permute(0, 2, 3, 1))


def _jpeg(x: Tensor, quality: int) -> Tensor:
    return torch.from_numpy(np.stack([_jpeg_one(image, quality) for image in x.numpy()]))


def _jpeg_one(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer)).reshape(image.shape)


def _checkerboard(x: Tensor, height: int) -> Tensor:
    signs = 1 - 2 * ((torch.arange(SIDE_PX)[:, None] + torch.arange(SIDE_PX)) % 2)
    return _bytes(x + height * signs[:, :, None])


ALTERED: dict[str, Callable[[Tensor], Tensor]] = {
    "as they are": lambda x: x,
    "mirrored": lambda x: x.flip(2),
    "shifted": lambda x: torch.roll(x, (1, 1), (1, 2)),
    "bright": lambda x: _bytes(x * 0.9 + 20),
    "jpeg": lambda x: _jpeg(x, 50),
    "blurred": lambda x: _blur(x, 1.0),
    "noisy": lambda x: _noise(x, 12),
    "checkerboard": lambda x: _checkerboard(x, 10),
    "noise": lambda x: torch.randint(0, 256, x.shape, generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    ),
    "gray": lambda x: torch.full_like(x, 128),
}


@dataclass(frozen=True)
class Part:
    """Images of a case: rows of the pool, altered."""

    rows: np.ndarray
    altered: str = "as they are"


def _mixed(draw: Draw, share: float, part: Part) -> list[Part]:
    """A share of `part` among unseen images."""
    count = round(share * draw.n)
    return [Part(part.rows[:count], part.altered), Part(draw.fresh[: draw.n - count])]


@dataclass(frozen=True)
class Case:
    """The verdicts that a person would accept, and the images."""

    expected: tuple[str, ...]
    make: Callable[[Draw], list[Part]]
    of_kinds: bool = False


def _copies(share: float, altered: str = "as they are") -> Callable[[Draw], list[Part]]:
    return lambda draw: _mixed(draw, share, Part(np.resize(draw.train, draw.n), altered))


def _spoiled(share: float, altered: str) -> Callable[[Draw], list[Part]]:
    return lambda draw: _mixed(draw, share, Part(draw.fresh[::-1], altered))


BAD = ("collapsed", "memorized")  # copies of copies: either is right
CASES: dict[str, Case] = {
    "unseen real images": Case(("good",), lambda d: [Part(d.fresh)]),
    "9 of 10 kinds": Case(("fair",), lambda d: [Part(d.of_kinds(0.9))], of_kinds=True),
    "8 of 10 kinds": Case(("fair",), lambda d: [Part(d.of_kinds(0.8))], of_kinds=True),
    "5 of 10 kinds": Case(("collapsed",), lambda d: [Part(d.of_kinds(0.5))], of_kinds=True),
    "2 of 10 kinds": Case(("collapsed",), lambda d: [Part(d.of_kinds(0.2))], of_kinds=True),
    "1 kind": Case(("collapsed",), lambda d: [Part(d.of_kinds(0.0))], of_kinds=True),
    "1 image repeated": Case(("collapsed",), lambda d: [Part(d.repeated(1))]),
    "20 images repeated": Case(("collapsed",), lambda d: [Part(d.repeated(20))]),
    "n/3 images repeated": Case(("collapsed",), lambda d: [Part(d.repeated(d.n // 3))]),
    "100% copies": Case(("memorized",), _copies(1)),
    "50% copies": Case(("memorized",), _copies(0.5)),
    "25% copies": Case(("memorized",), _copies(0.25)),
    "10% copies": Case(("memorized",), _copies(0.1)),
    "copies mirrored": Case(("memorized",), _copies(1, "mirrored")),
    "copies shifted": Case(("memorized",), _copies(1, "shifted")),
    "copies brighter": Case(("memorized",), _copies(1, "bright")),
    "copies JPEG 50": Case(("memorized",), _copies(1, "jpeg")),
    "20 copies repeated": Case(BAD, lambda d: [Part(np.resize(d.train[:20], d.n))]),
    "uniform noise": Case(("poor",), lambda d: [Part(d.fresh, "noise")]),
    "all gray": Case(("poor", "collapsed"), lambda d: [Part(d.fresh, "gray")]),
    "all blurred": Case(("fair", "poor"), _spoiled(1, "blurred")),
    "half blurred": Case(("fair",), _spoiled(0.5, "blurred")),
    "half noise": Case(("fair",), _spoiled(0.5, "noise")),
    "10% noise": Case(("fair",), _spoiled(0.1, "noise")),
    "noise of 12 levels": Case(("fair", "poor"), _spoiled(1, "noisy")),
    "checkerboard ±10": Case(("fair", "poor"), _spoiled(1, "checkerboard")),
}


class Bench:
    """A pool with the features of its images and of what is made of them; each is extracted once."""

    def __init__(self, pool: Pool, cache: Path | None = None) -> None:
        self.pool = pool
        self.features = FeatureExtractor(choose_extractor(EvaluationSettings()), SIDE_PX, COMPUTE, cache)
        self.known: dict[str, tuple[Tensor, np.ndarray, np.ndarray]] = {}

    def images(self, part: Part) -> ImageSet:
        """Images, features and labels of a part."""
        if part.altered not in self.known:
            pixels = ALTERED[part.altered](self.pool.pixels)
            found = self.features(pixels)
            self.known[part.altered] = pixels, found.deep.astype(np.float32), found.wide.astype(np.float32)
        pixels, deep, wide = self.known[part.altered]
        features = Extracted(deep[part.rows].astype(float), wide[part.rows].astype(float))
        return ImageSet(pixels[torch.from_numpy(part.rows.copy())], features, self.labels(part.rows))

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """Labels that ganpipe is told."""
        return self.pool.labels[rows] if self.pool.label_names else np.full(len(rows), -1)

    def case(self, parts: list[Part]) -> ImageSet:
        """The images of a case, in an order by chance."""
        sets = [self.images(part) for part in parts if len(part.rows)]
        order = np.random.default_rng(0).permutation(sum(len(s) for s in sets))
        deep, wide = (
            np.concatenate([getattr(s.features, name) for s in sets])[order] for name in ("deep", "wide")
        )
        return ImageSet(torch.cat([s.pixels for s in sets])[torch.from_numpy(order)], Extracted(deep, wide))

    def draw(self, seed: int, n: int, held_out: int, train: int) -> Draw:
        """A new split."""
        rng = np.random.default_rng(seed)
        parts = np.split(rng.permutation(len(self.pool.pixels)), [train, train + held_out])
        return Draw(self.pool, parts[0], parts[1], parts[2], n, rng)

    def judge(self, draw: Draw, measured_images: int) -> Judge:
        """A judge that measures so many training images, and searches all of them."""
        pixels, shape = self.pool.pixels, ImageShape(self.pool.pixels.shape[3], SIDE_PX, SIDE_PX)
        splits = [
            Split.of(pixels[torch.from_numpy(r)], torch.from_numpy(self.labels(r)))
            for r in (draw.train, draw.holdout)
        ]
        data = PreparedData(self.pool.name, "bench", shape, self.pool.label_names, splits[0], splits[1])
        measured = np.arange(min(measured_images, len(draw.train)))
        train, holdout = self.images(Part(draw.train[measured])), self.images(Part(draw.holdout))
        return Judge(train, holdout, data, measured, NEIGHBORS, COMPUTE, self.features, "vgg19")


def judged(
    bench: Bench, cases: list[str], size: str, given: argparse.Namespace
) -> dict[str, list[Evaluation]]:
    """Evaluations by case, one a draw; none if the case needs kinds and the pool has none."""
    n, held_out = map(int, size.split("/"))
    train = min(given.train, len(bench.pool.pixels) - held_out - n)
    kinds = len(np.unique(bench.pool.labels)) > 1
    found: dict[str, list[Evaluation]] = {name: [] for name in cases}
    for seed in range(given.seed, given.seed + given.draws):
        draw = bench.draw(seed, n, held_out, train)
        judge = bench.judge(draw, given.measured)
        for name in cases:
            if kinds or not CASES[name].of_kinds:
                found[name].append(judge.evaluate(bench.case(CASES[name].make(draw)), errors=False))
    return found


def show(found: dict[str, dict[str, list[Evaluation]]]) -> None:
    """One line a case: the verdicts of each column."""
    print(f"| case | expected | {' | '.join(found)} |")
    print("|---" * (2 + len(found)) + "|")
    right = {column: Counter[bool]() for column in found}
    for case in next(iter(found.values())):
        expected, cells = CASES[case].expected, []
        for column, results in found.items():
            verdicts = Counter(e.verdict for e in results[case])
            if verdicts:
                right[column][all(verdict in expected for verdict in verdicts)] += 1
            words = [f"{v} {n}" if v in expected else f"**{v} {n}**" for v, n in verdicts.most_common()]
            cells.append(", ".join(words) or "–")
        print(f"| {case} | {' or '.join(expected)} | {' | '.join(cells)} |")
    cells = [f"{counts[True]} of {counts.total()}" for counts in right.values()]
    print(f"| cases right in every draw | | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Judges every case and prints a table for each dataset, or each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the first draw")
    parser.add_argument("--sizes", nargs="+", default=["250/250"], help="generated/held-out images")
    parser.add_argument("--train", type=int, default=1_000, help="training images searched for copies")
    parser.add_argument("--measured", type=int, default=1_000, help="of them, whose features are measured")
    parser.add_argument("--data", nargs="+", default=list(POOLS), help=f"{', '.join(POOLS)}, or a folder")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--cache", type=Path, help="folder that keeps features")
    given = parser.parse_args()
    started = time.monotonic()
    found = {}
    for name in given.data:
        bench = Bench(POOLS[name]() if name in POOLS else folder(Path(name)), given.cache)
        for size in given.sizes:
            found[f"{bench.pool.name} {size}"] = judged(bench, given.cases, size, given)
    show(found)
    print(f"{time.monotonic() - started:.0f} s, {torch.get_num_threads()} threads", flush=True)


if __name__ == "__main__":
    main()
