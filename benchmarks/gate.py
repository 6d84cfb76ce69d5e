"""The promotion gate: wrong promotions over self-comparisons, and power, on painted flowers with a known fault.

    python -m benchmarks.gate [--trials 200] [--pool 6000] [--sizes 1000/1000 500/500 250/250 1000/60]

Champion and challenger are disjoint draws of real flowers, some of them blurred, noisy, repeated or of fewer kinds; so are
the training and held-out images of each trial. The verdict is left out: only the energy test and the rules beside it
decide. A size is generated/held-out images.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from ganpipe.compute.device import choose_compute
from ganpipe.evaluation.extractors import Extracted, Features, choose_extractor, extract
from ganpipe.evaluation.gate import Kinds, compare_features, decide, predict_kinds
from ganpipe.evaluation.mode_coverage import ModeCounter
from ganpipe.samples.flowers import MODES, draw_flower
from ganpipe.settings.schema import EvaluationSettings

SIZE_PX = 32
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


def make_pool(count: int) -> Pool:
    """`count` flowers to draw from, and 800 more to standardise and classify with."""
    from torchvision.transforms.functional import gaussian_blur

    total, compute = count + TRAIN, choose_compute("cpu", "fp32")
    network = choose_extractor(EvaluationSettings()).load(compute)
    pixels = torch.from_numpy(np.stack([np.asarray(draw_flower(k, size_px=SIZE_PX)) for k in range(total)]))
    images = pixels.permute(0, 3, 1, 2).float()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * 24
    made = {
        "real": images,
        "blurred": gaussian_blur(images, [5, 5], [1.0, 1.0]),
        "noisy": images + noise,
    }
    seen = {
        name: extract(network, x.round().clamp(0, 255).byte().permute(0, 2, 3, 1), SIZE_PX, compute)
        for name, x in made.items()
    }
    true, names = np.arange(total) % len(MODES), tuple(mode.label for mode in MODES)
    train, rest = slice(0, TRAIN), slice(TRAIN, total)
    real, blurred, noisy = (Extracted(seen[k].deep[rest], seen[k].wide[rest]) for k in made)
    learned = Extracted(seen["real"].deep[train], seen["real"].wide[train])
    kinds: dict[str, Rows] = {}
    counter = ModeCounter(learned.wide, true[train], real.wide, true[rest], names)
    for name, other in (("blurred", blurred), ("noisy", noisy)):
        found = predict_kinds(real, other, counter)
        assert found is not None
        kinds |= {"real": found.champion, name: found.challenger}
    features = {"real": real.deep, "blurred": blurred.deep, "noisy": noisy.deep}
    return Pool(features, kinds, true[rest], names, learned.deep)


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
    given = parser.parse_args()
    started, pool = time.monotonic(), make_pool(given.pool)
    print(f"{given.pool + TRAIN} flowers, three times: {time.monotonic() - started:.0f} s\n")
    print(
        "| case | generated/held out | promoted | kept | undecided | seconds each |\n|---|---|---|---|---|---|"
    )
    for name, sides in CASES.items():
        for size in given.sizes:
            n, m = map(int, size.split("/"))
            rng, started = np.random.default_rng(0), time.monotonic()
            counts = Counter(trial(pool, sides, n, m, rng) for _ in range(given.trials))
            seconds = (time.monotonic() - started) / given.trials
            shown = (f"{counts[word] / given.trials:.1%}" for word in ("promoted", "kept", "undecided"))
            print(f"| {name} | {size} | {' | '.join(shown)} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
