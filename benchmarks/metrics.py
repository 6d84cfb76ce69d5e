"""The cost of the metrics of features, and whether their standard errors are right.

    python -m benchmarks.metrics [--sizes 1000 10000] [--dimensions 512]
    python -m benchmarks.metrics --errors [--draws 40] [--sizes 250 1000] [--blurred 0 0.2 1]

The first prints the seconds of CPU (all threads) and the peak of allocated memory of every row of METRICS, for as many
generated as held-out and training images. The second prints the mean standard error that is reported, over the standard
deviation of the value over draws from a pool of painted flowers; some of the generated ones are blurred. 1 is right.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from ganpipe.compute.device import choose_compute
from ganpipe.evaluation.extractors import Features, choose_extractor, extract
from ganpipe.evaluation.metrics import METRICS, measure_features, real_scores, standard_errors
from ganpipe.samples.flowers import draw_flower
from ganpipe.settings.schema import EvaluationSettings

SIZE_PX = 32
NEIGHBORS = 5
TRAIN = 1_000


def show_costs(sizes: list[int], dimensions: int) -> None:
    """Prints the table of seconds and MiB; features are normal, of different spread in each dimension."""
    rng = np.random.default_rng(0)
    spread = np.exp(rng.normal(size=dimensions))
    print("| metrics | " + " | ".join(f"{n:,}: s | MiB" for n in sizes) + " |")
    print("|---|" + "---|---|" * len(sizes))
    sets = [[rng.normal(size=(n, dimensions)) * spread for _ in range(3)] for n in sizes]
    for row in METRICS:
        cells = []
        for fake, train, real in sets:
            tracemalloc.start()
            started = time.process_time()
            row.measure(fake, train, real, NEIGHBORS)
            seconds = time.process_time() - started
            cells += [f"{seconds:.2f}", f"{tracemalloc.get_traced_memory()[1] / 2**20:.0f}"]
            tracemalloc.stop()
        print(f"| {', '.join(row.names)} | {' | '.join(cells)} |", flush=True)
    for n, (fake, train, real) in zip(sizes, sets, strict=True):
        started = time.process_time()
        measure_features(fake, train, real, NEIGHBORS)
        real_scores(n, train, real, NEIGHBORS)
        standard_errors(fake, train, real, NEIGHBORS)
        print(
            f"\nAll of {n:,}, with errors and the scores of real images: {time.process_time() - started:.1f} s"
        )


def flower_features(count: int, blur_px: float = 0.0) -> Features:
    """Features of painted flowers, blurred by so many pixels."""
    from torchvision.transforms.functional import gaussian_blur

    compute = choose_compute("cpu", "fp32")
    network = choose_extractor(EvaluationSettings()).load(compute)
    pixels = torch.from_numpy(np.stack([np.asarray(draw_flower(k, size_px=SIZE_PX)) for k in range(count)]))
    if blur_px:
        blurred = gaussian_blur(pixels.permute(0, 3, 1, 2).float(), [5, 5], [blur_px, blur_px])
        pixels = blurred.round().clamp(0, 255).byte().permute(0, 2, 3, 1)
    return extract(network, pixels, SIZE_PX, compute).deep


@dataclass(frozen=True)
class Pool:
    """Features of flowers as they are and blurred, to draw from, and of others to standardize with."""

    real: Features
    blurred: Features
    train: Features

    def draw(self, n: int, m: int, share: float, rng: np.random.Generator) -> tuple[Features, Features]:
        """`n` generated images, of which a share is blurred, and `m` held-out ones; none twice."""
        rows, cut = rng.permutation(len(self.real))[: n + m], round(share * n)
        fake = np.concatenate([self.blurred[rows[:cut]], self.real[rows[cut:n]]])
        return fake[rng.permutation(n)], self.real[rows[n:]]


def make_pool(count: int) -> Pool:
    """`count` flowers to draw from, and 1,000 more to standardize with."""
    real, blurred = (flower_features(count + TRAIN, blur_px) for blur_px in (0.0, 1.0))
    return Pool(real[TRAIN:], blurred[TRAIN:], real[:TRAIN])


def error_ratios(pool: Pool, n: int, m: int, share: float, draws: int, reported: int) -> dict[str, float]:
    """The mean reported error of the first draws over the standard deviation of the value over all of them."""
    rng = np.random.default_rng(0)
    sets = [pool.draw(n, m, share, rng) for _ in range(draws)]
    values = [measure_features(fake, pool.train, holdout, NEIGHBORS) for fake, holdout in sets]
    errors = [standard_errors(fake, pool.train, holdout, NEIGHBORS) for fake, holdout in sets[:reported]]
    spreads = {name: float(np.std([v[name] for v in values], ddof=1)) for name in values[0]}
    return {name: float(np.mean([e[name] for e in errors])) / max(spreads[name], 1e-12) for name in errors[0]}


def show_errors(sizes: list[int], pool: Pool, draws: int, reported: int, shares: list[float]) -> None:
    """Prints the ratio of every metric, for each mixture and pair of sizes."""
    cases = list(product(shares, sizes, sizes))
    found = [error_ratios(pool, n, m, share, draws, reported) for share, n, m in cases]
    print("| metric | " + " | ".join(f"{share:.0%} blurred, {n}/{m}" for share, n, m in cases) + " |")
    print("|---|" + "---|" * len(cases))
    for name in found[0]:
        print(f"| {name} | {' | '.join(f'{ratios[name]:.2f}' for ratios in found)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--errors", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--reported", type=int, default=8, help="draws whose errors are computed")
    parser.add_argument("--pool", type=int, default=8_000)
    parser.add_argument("--blurred", type=float, nargs="+", default=[0.0, 0.2, 1.0])
    given = parser.parse_args()
    if given.errors:
        pool, sizes = make_pool(given.pool), given.sizes or [250, 1_000]
        show_errors(sizes, pool, given.draws, given.reported, given.blurred)
    else:
        show_costs(given.sizes or [1_000, 10_000], given.dimensions)


if __name__ == "__main__":
    main()
