"""Mode coverage on stacked Fashion-MNIST: 1,000 modes, one of ten garments in each color channel.

    python -m benchmarks.stacked [--minutes 10] [--fashion DIR] [--models dcgan r3gan]

The test of Metz et al. 2017 (arXiv 1611.02163) and Lin et al. 2018 (PacGAN): a small classifier of single garments
names each channel of 25,600 generated images; covered modes and the Kullback-Leibler divergence from the modes of
real stacks, which are given as well: the classifier's own errors are in both. `dcgan` plays with `bce`, `r3gan` with its
published loss, in the demo preset's sizes, each for the same time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.quality import FASHION, prepared
from ganpipe.compute.device import choose_compute, training_compute
from ganpipe.data.shards import PreparedData, Split
from ganpipe.evaluation.sampling import generate_pixels
from ganpipe.imaging.grid import grid
from ganpipe.imaging.image import ImageShape
from ganpipe.imaging.provenance import save_png
from ganpipe.settings.params import Params, resolve
from ganpipe.settings.schema import Settings
from ganpipe.training.trainer import train

STACKS, JUDGED, PROBE_IMAGES = 60_000, 25_600, 6_400
MODES = 1000
RECIPES = {
    "dcgan": ["model.name=dcgan", "loss.name=bce", "model.d_norm=batch", "model.d_minibatch_std=false"],
    "r3gan": ["model.name=r3gan", "model.conditional=no"],
}


def stacked(garments: Tensor, labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """uint8 stacks `[count, H, W, 3]` of three garments each, and their modes `[count]`."""
    rows = torch.randint(len(garments), (count, 3), generator=torch.Generator().manual_seed(seed))
    pixels = garments[rows, :, :, 0].permute(0, 2, 3, 1).contiguous()
    return pixels, mode_of(labels[rows])


def mode_of(labels: Tensor) -> Tensor:
    """Labels `[N, 3]` → modes `[N]`."""
    return labels[:, 0] * 100 + labels[:, 1] * 10 + labels[:, 2]


def garment_classifier(data: PreparedData, seconds: float = 60.0) -> nn.Module:
    """A small convolutional classifier of single garments, trained for a minute."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.LazyLinear(128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )
    network(torch.zeros(1, 1, 32, 32))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    pixels, labels, started = data.train.pixels, data.train.labels, time.monotonic()
    while time.monotonic() - started < seconds:
        rows = torch.randint(len(pixels), (128,))
        loss = F.cross_entropy(network(pixels[rows].permute(0, 3, 1, 2) / 255), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    right = (named(network, data.holdout.pixels) == data.holdout.labels).float().mean()
    print(f"classifier of single garments: {right:.1%} of the held-out ones right", flush=True)
    return network


@torch.no_grad()
def named(network: nn.Module, pixels: Tensor) -> Tensor:
    """Labels of gray images `[N, H, W, 1]`."""
    return torch.cat([network(part.permute(0, 3, 1, 2) / 255).argmax(1) for part in pixels.split(1000)])


def modes_of_stacks(network: nn.Module, pixels: Tensor) -> Tensor:
    """Modes `[N]` of stacks `[N, H, W, 3]`, each channel named on its own."""
    return mode_of(torch.stack([named(network, pixels[..., c : c + 1]) for c in range(3)], 1))


def coverage(found: Tensor, real: Tensor) -> tuple[int, float]:
    """How many modes appear, and KL(found ‖ real)."""
    p = np.bincount(found.numpy(), minlength=MODES) / len(found)
    q = (np.bincount(real.numpy(), minlength=MODES) + 1) / (len(real) + MODES)
    return int((p > 0).sum()), float(np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0])))


def generated(name: str, data: PreparedData, seconds: float, picture: Path) -> tuple[Tensor, int, float]:
    """Images of a model that was trained for so many seconds, the images it saw, and the time it took."""

    def settings(total: int) -> Settings:
        return resolve(Params(), "demo", [*RECIPES[name], f"training.total_images={total}"])

    with tempfile.TemporaryDirectory() as probe:
        rate = train(data, settings(PROBE_IMAGES), Path(probe)).summary.images_per_second
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as run_dir:
        chosen = settings(int(rate * seconds))
        result = train(data, chosen, Path(run_dir))
    took = time.monotonic() - started
    pixels = generate_pixels(
        result.model, chosen.model.z_dim, (), JUDGED, 1, training_compute(chosen.training)
    )
    save_png(grid(pixels[:64].numpy()), picture, {})
    return pixels, result.summary.nimg, took


def main() -> None:
    """Trains each model and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--fashion", default=FASHION)
    parser.add_argument("--models", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--out", default="benchmarks/out")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        garments = prepared("fashion", Path(scratch), given.fashion)
        network = garment_classifier(garments)
        pixels, _ = stacked(garments.train.pixels, garments.train.labels, STACKS, 0)
        held, _ = stacked(garments.holdout.pixels, garments.holdout.labels, JUDGED, 1)
        none = torch.full((STACKS,), -1)
        data = PreparedData(
            "stacked",
            "bench",
            ImageShape(3, 32, 32),
            (),
            Split.of(pixels, none),
            Split.of(held, none[:JUDGED]),
        )
        other, _ = stacked(garments.holdout.pixels, garments.holdout.labels, JUDGED, 2)
        real = modes_of_stacks(network, held)
        print(f"{'model':<8}{'device':>8}{'seconds':>9}{'images':>11}{'modes of 1,000':>16}{'KL':>8}")
        covered, kl = coverage(modes_of_stacks(network, other), real)
        print(f"{'real':<8}{'':>8}{'':>9}{'':>11}{covered:>16,}{kl:>8.3f}", flush=True)
        device = choose_compute("auto", "auto").device.type
        for name in given.models:
            fakes, seen, took = generated(
                name, data, 60 * given.minutes, Path(given.out) / f"stacked-{name}.png"
            )
            covered, kl = coverage(modes_of_stacks(network, fakes), real)
            print(f"{name:<8}{device:>8}{took:>9.0f}{seen:>11,}{covered:>16,}{kl:>8.3f}", flush=True)


if __name__ == "__main__":
    main()
