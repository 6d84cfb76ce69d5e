"""What the metrics of features cost, and whether their standard errors are right.

    python -m benchmarks.metrics [--sizes 1000 10000] [--dimensions 512]
    python -m benchmarks.metrics --errors [--draws 20] [--sizes 250 1000] [--pool 12000] [--blurred 0 0.2 1]

The first prints the seconds of CPU (all threads) and the peak of allocated memory of every row of METRICS, for as many
generated as held-out and training images. The second prints the mean standard error that is reported, over the standard
deviation of the value over draws from a pool of painted flowers; some of the generated ones are blurred. 1 is right.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
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


def show_errors(sizes: list[int], pool: int, draws: int, shares: list[float]) -> None:
    """Prints the nominal error over the true spread of every metric, for each mixture and pair of sizes."""
    made = [flower_features(pool + TRAIN), flower_features(pool + TRAIN, blur_px=1.0)]
    train, (real, blurred) = made[0][:TRAIN], (x[TRAIN:] for x in made)
    cases = list(product(shares, sizes, sizes))
    print("| metric | " + " | ".join(f"{share:.0%} blurred, {n}/{m}" for share, n, m in cases) + " |")
    print("|---|" + "---|" * len(cases))
    ratios: dict[str, list[str]] = {}
    for share, n, m in cases:
        rng = np.random.default_rng(0)
        values: dict[str, list[float]] = {}
        errors: dict[str, list[float]] = {}
        for _ in range(draws):
            rows, cut = rng.permutation(pool)[: n + m], round(share * n)
            fake = np.concatenate([blurred[rows[:cut]], real[rows[cut:n]]])
            fake, holdout = fake[rng.permutation(n)], real[rows[n:]]
            for name, value in measure_features(fake, train, holdout, NEIGHBORS).items():
                values.setdefault(name, []).append(value)
            for name, error in standard_errors(fake, train, holdout, NEIGHBORS).items():
                errors.setdefault(name, []).append(error)
        for name, found in values.items():
            spread = float(np.std(found, ddof=1))
            ratio = np.mean(errors[name]) / spread if name in errors and spread > 0 else np.nan
            ratios.setdefault(name, []).append(f"{ratio:.2f}")
    for name, cells in ratios.items():
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--errors", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--pool", type=int, default=12_000)
    parser.add_argument("--blurred", type=float, nargs="+", default=[0.0, 0.2, 1.0])
    given = parser.parse_args()
    if given.errors:
        show_errors(given.sizes or [250, 1_000], given.pool, given.draws, given.blurred)
    else:
        show_costs(given.sizes or [1_000, 10_000], given.dimensions)


if __name__ == "__main__":
    main()
