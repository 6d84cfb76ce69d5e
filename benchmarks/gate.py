"""The promotion gate: wrong promotions over self-comparisons, and power, on painted flowers with a known fault.

    python -m benchmarks.gate [--trials 200] [--pool 6000] [--sizes 1000/1000 500/500 250/250 1000/60] [--models A B]

Champion and challenger are disjoint draws of real flowers, some of them blurred, noisy, repeated or of fewer kinds; so are
the training and held-out images of each trial. The verdict is left out: only the energy test and the rules beside it
decide. A size is generated/held-out images. A and B are folders of images that two models trained on sample:flowers made.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ganpipe.compute.device import choose_compute
from ganpipe.data.resize import resize_image
from ganpipe.evaluation.extractors import Features, choose_extractor
from ganpipe.evaluation.feature_cache import FeatureExtractor
from ganpipe.evaluation.gate import Kinds, compare_features, decide
from ganpipe.evaluation.mode_coverage import ModeCounter
from ganpipe.evaluation.sampling import read_folder
from ganpipe.imaging.image import ImageShape
from ganpipe.samples.flowers import MODES, draw_flower
from ganpipe.settings.schema import EvaluationSettings

SIZE_PX = 32
SHAPE = ImageShape(3, SIZE_PX, SIZE_PX)
TRAIN = 800
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """Features of flowers as they are, blurred and noisy, with true kinds and those that a classifier sees."""

    features: dict[str, Features]
    kinds: dict[str, Rows]
    true_kinds: Rows
    names: tuple[str, ...]
    train: Features


Draw = tuple[Features, Rows]  # features and the kinds that a classifier sees


def faulty(pool: Pool, rows: Rows, fault: str = "blurred", share: float = 0.0) -> Draw:
    """Images of which a share has a fault."""
    cut = round(share * len(rows))
    parts = [(fault, rows[:cut]), ("real", rows[cut:])]
    return (
        np.concatenate([pool.features[name][some] for name, some in parts]),
        np.concatenate([pool.kinds[name][some] for name, some in parts]),
    )


def repeated(pool: Pool, rows: Rows, count: int) -> Draw:
    """`count` of the images, again and again."""
    return faulty(pool, np.resize(rows[:count], len(rows)))


def of_kinds(pool: Pool, rows: Rows, count: int) -> Draw:
    """Images of the first `count` kinds only, some of them twice."""
    return faulty(pool, np.resize(rows[pool.true_kinds[rows] < count], len(rows)))


Side = Callable[[Pool, Rows], Draw]


def faults(fault: str, share: float) -> Side:
    """Draws images of which a share has a fault."""
    return partial(faulty, fault=fault, share=share)


def drawn(pool: Pool, rows: Rows, model: str, half: int) -> Draw:
    """As many images of every second one of a model."""
    mine = np.arange(half, len(pool.features[model]), 2)
    if len(mine) < len(rows):
        raise SystemExit(f"{model} has {len(mine) * 2} images; {2 * len(rows)} are needed.")
    chosen = np.random.default_rng(rows[0]).permutation(mine)[: len(rows)]
    return pool.features[model][chosen], pool.kinds[model][chosen]


def model_cases(a: str, b: str) -> dict[str, tuple[Side, Side]]:
    """Comparisons of two models, each with itself and with the other."""
    sides = {(name, half): partial(drawn, model=name, half=half) for name in (a, b) for half in (0, 1)}
    return {
        f"itself: {a}": (sides[a, 0], sides[a, 1]),
        f"itself: {b}": (sides[b, 0], sides[b, 1]),
        f"{a} → {b}": (sides[a, 0], sides[b, 1]),
        f"{b} → {a}": (sides[b, 0], sides[a, 1]),
    }


CASES: dict[str, tuple[Side, Side]] = {
    "itself: real": (faulty, faulty),
    "itself: 20% blurred": (faults("blurred", 0.2), faults("blurred", 0.2)),
    "better: 20 → 10% blurred": (faults("blurred", 0.2), faults("blurred", 0.1)),
    "better: 20 → 10% noisy": (faults("noisy", 0.2), faults("noisy", 0.1)),
    "worse: 10 → 20% blurred": (faults("blurred", 0.1), faults("blurred", 0.2)),
    "worse: 15% blurred → 28 of 36 kinds": (faults("blurred", 0.15), partial(of_kinds, count=28)),
    "worse: 20% blurred → 34 of 36 kinds": (faults("blurred", 0.2), partial(of_kinds, count=34)),
    "worse: 40% blurred → 100 repeated": (faults("blurred", 0.4), partial(repeated, count=100)),
}


def make_pool(count: int, folders: list[Path], cache: Path | None) -> Pool:
    """`count` flowers to draw from, and 800 more to standardise and classify with; the images of folders by their name."""
    from torchvision.transforms.functional import gaussian_blur

    total, compute = count + TRAIN, choose_compute("cpu", "fp32")
    features = FeatureExtractor(choose_extractor(EvaluationSettings()), SIZE_PX, compute, cache)
    # As sample:flowers is prepared: painted at 128 pixels and made smaller. Models have learned from such images.
    prepared = [resize_image(draw_flower(k), SHAPE, "crop") for k in range(total)]
    pixels = torch.from_numpy(np.stack(prepared))
    images = pixels.permute(0, 3, 1, 2).float()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * 24
    made = {
        "real": images,
        "blurred": gaussian_blur(images, [5, 5], [1.0, 1.0]),
        "noisy": images + noise,
    }
    seen = {name: features(x.round().clamp(0, 255).byte().permute(0, 2, 3, 1)) for name, x in made.items()}
    true, names = np.arange(total) % len(MODES), tuple(mode.label for mode in MODES)
    train, rest = slice(0, TRAIN), slice(TRAIN, total)
    learned, real = seen["real"].rows(np.arange(TRAIN)), seen["real"].rows(np.arange(TRAIN, total))
    counter = ModeCounter(learned.wide, true[train], real.wide, true[rest], names)
    found = {name: some.rows(np.arange(TRAIN, total)) for name, some in seen.items()}
    found |= {path.name: features(read_folder(path, SHAPE)) for path in folders}
    kinds = {name: counter.predict(some.wide) for name, some in found.items()}
    return Pool({name: some.deep for name, some in found.items()}, kinds, true[rest], names, learned.deep)


def trial(pool: Pool, sides: tuple[Side, Side], n: int, m: int, rng: np.random.Generator) -> str:
    """The outcome of one comparison."""
    rows = rng.permutation(len(pool.true_kinds))[: 2 * n + m]
    (a, kinds_a), (b, kinds_b) = sides[0](pool, rows[:n]), sides[1](pool, rows[n : 2 * n])
    holdout = pool.features["real"][rows[2 * n :]]
    shares = np.bincount(pool.true_kinds, minlength=len(pool.names)) / len(pool.true_kinds)
    kinds = Kinds(pool.names, shares, kinds_a, kinds_b)
    return decide(compare_features(a, b, pool.train, holdout, 5, kinds), "good").outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--pool", type=int, default=6000)
    parser.add_argument("--sizes", nargs="+", default=["1000/1000", "500/500", "250/250", "1000/60"])
    parser.add_argument("--models", nargs=2, type=Path, default=[], metavar=("A", "B"))
    parser.add_argument("--cache", type=Path, help="folder that keeps features")
    given = parser.parse_args()
    started, pool = time.monotonic(), make_pool(given.pool, given.models, given.cache)
    cases = model_cases(*(path.name for path in given.models)) if given.models else CASES
    print(f"{given.pool + TRAIN} flowers, three times: {time.monotonic() - started:.0f} s\n")
    print(
        "| case | generated/held out | promoted | kept | undecided | seconds each |\n|---|---|---|---|---|---|"
    )
    for name, sides in cases.items():
        for size in given.sizes:
            n, m = map(int, size.split("/"))
            rng, started = np.random.default_rng(0), time.monotonic()
            counts = Counter(trial(pool, sides, n, m, rng) for _ in range(given.trials))
            seconds = (time.monotonic() - started) / given.trials
            shown = (f"{counts[word] / given.trials:.1%}" for word in ("promoted", "kept", "undecided"))
            print(f"| {name} | {size} | {' | '.join(shown)} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
