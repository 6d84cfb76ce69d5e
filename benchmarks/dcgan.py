"""images/s of the same DCGAN: ganpipe's step against the loop of pytorch/examples, in turn, on one machine.

    python -m benchmarks.dcgan [--peer CHECKOUT/dcgan/main.py] [--rounds 2] [--images 1280]

64×64, ngf = ndf = 64, nz = 100, batch 64, Adam 2e-4, from a folder of PNG files. The peer is a checkout that you
name; without one, a replica of its loop written from its description is run, and the table says so: fp32,
contiguous tensors, two loader workers that decode PNG files, three `.item()` a step, gradients of D in G's phase.
ganpipe's side is what `ganpipe train` runs: `trainer.train` on prepared shards, with its logging. Both sides are timed
from the end of their first step to the end of their last but one: neither start-up nor what ends a training counts.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMAGES = 1280
BATCH = 64
EXPECTED = {"bf16": 2.5, "fp32": 1.4}


def make_folder(folder: Path, images: int) -> None:
    """PNG files of stylized flowers, 64×64, in one class folder, as ImageFolder wants it."""
    from ganpipe.samples.flowers import draw_flower

    (folder / "flowers").mkdir(parents=True)
    for k in range(images):
        draw_flower(k, size_px=64).save(folder / "flowers" / f"{k:05d}.png")


def run_ganpipe(folder: Path, images: int, precision: str) -> float:
    """images/s of `trainer.train` between its first and its last reported step, shards prepared before."""
    from ganpipe.data.ingest import add_items
    from ganpipe.data.prepare import prepare
    from ganpipe.data.shards import load_prepared
    from ganpipe.data.sources.registry import read_source
    from ganpipe.settings.schema import Settings
    from ganpipe.training.callbacks import Callbacks
    from ganpipe.training.trainer import train

    settings = Settings().with_values(
        {
            "loss.name": "bce",
            "training.total_images": images,
            "training.grid_every_images": 10**9,
            "training.save_every_images": 10**9,
            "training.horizontal_flip": False,
            "training.precision": precision,
        }
    )
    with tempfile.TemporaryDirectory() as scratch:
        raw, out = Path(scratch, "raw"), Path(scratch, "prepared")
        add_items(raw, read_source(str(folder), Path(scratch)))
        prepare(raw, out, settings.data)
        moments: list[float] = []
        callbacks = Callbacks(report=lambda _: moments.append(time.monotonic()))
        train(load_prepared(out, "bench"), settings, Path(scratch, "run"), callbacks)
    moments.pop()  # the last step ends with the grid, the averages and a point of the log
    return BATCH * (len(moments) - 1) / (moments[-1] - moments[0])


def run_replica(folder: Path, images: int) -> float:
    """images/s of the peer's loop, re-written: two phases, BCE on sigmoid outputs, nothing tuned."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    from benchmarks.recipe import Recipe

    recipe = Recipe(64, 3)
    transform = transforms.Compose(
        [
            transforms.Resize(64),
            transforms.CenterCrop(64),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )
    loader = DataLoader(datasets.ImageFolder(str(folder), transform), BATCH, shuffle=True, num_workers=2)
    seen, started = 0, 0.0
    for number, (real, _) in enumerate(loader):
        if number == 1:  # the first step starts workers and allocates
            seen, started = 0, time.monotonic()
        for loss in recipe.step(real):
            loss.item()
        seen += len(real)
        if seen >= images:
            break
    return seen / (time.monotonic() - started)


def run_peer(script: Path, folder: Path, images: int) -> float:
    """images/s of the named checkout, between its first and its last printed step."""
    command = [
        sys.executable,
        "-u",
        str(script.resolve()),
        "--dataset",
        "folder",
        "--dataroot",
        str(folder),
        "--batchSize",
        str(BATCH),
        "--niter",
        "1",
        "--manualSeed",
        "0",
        "--outf",
        str(folder.parent),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder.parent)
    assert process.stdout is not None
    moments = [time.monotonic() for line in process.stdout if re.match(r"\[\d+/\d+\]\[\d+/\d+\]", line)]
    process.wait()
    if len(moments) < 3:
        sys.exit(f"{script} printed {len(moments)} steps; at least 3 are needed.")
    return BATCH * (len(moments) - 1) / (moments[-1] - moments[0])


def side(name: str, folder: Path, images: int, peer: str) -> float:
    """One side in a process of its own, so that nothing of the other is in memory."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.dcgan",
        "--side",
        name,
        "--folder",
        str(folder),
        "--images",
        str(images),
        "--peer",
        peer,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Runs all sides in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", default="")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--side", default="")
    parser.add_argument("--folder", default="")
    given = parser.parse_args()
    if given.side:
        folder = Path(given.folder)
        sides = {
            "bf16": lambda: run_ganpipe(folder, given.images, "bf16"),
            "fp32": lambda: run_ganpipe(folder, given.images, "fp32"),
            "replica": lambda: run_replica(folder, given.images),
            "peer": lambda: run_peer(Path(given.peer), folder, given.images),
        }
        print(sides[given.side]())
        return
    ours, other = own_precisions(), "peer" if given.peer else "replica"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "images")
        make_folder(folder, given.images)
        rows = [
            {name: side(name, folder, given.images, given.peer) for name in (*ours, other)}
            for _ in range(given.rounds)
        ]
    name = "pytorch/examples" + ("" if given.peer else " (our replica of its loop)")
    print(f"images/s of ganpipe in {', '.join(ours)}, and of {name}:")
    for k, row in enumerate(rows, start=1):
        print(f"round {k}: " + "  ".join(f"{rate:.1f}" for rate in row.values()))
    for precision in ours:
        ratio = statistics.median(row[precision] / row[other] for row in rows)
        print(f"median ratio in {precision}: {ratio:.2f} (expected: at least {EXPECTED[precision]})")


def own_precisions() -> list[str]:
    """The precisions that training would choose on this machine or on one without bf16."""
    import torch

    from ganpipe.compute.device import multiplies_in_bf16

    gpu = torch.cuda.is_available()
    print(f"Device: {torch.cuda.get_device_name() if gpu else torch.backends.cpu.get_cpu_capability()}")
    return ["bf16", "fp32"] if multiplies_in_bf16(torch.device("cuda" if gpu else "cpu")) else ["fp32"]


if __name__ == "__main__":
    main()
