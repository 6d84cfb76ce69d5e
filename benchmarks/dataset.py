"""Preparing data: images a second against a plain loop and torchvision's ImageFolder; what an idle command costs; memory.

    python -m benchmarks.dataset [--photos 2000] [--small 20000] [--many 0]

Photographs of 1024×768 as JPEG are made first: pieces of scikit-learn's two, turned, lit differently, with grain. All
sides then give uint8 images of the same size, one after the other, in one process that has everything imported;
ganpipe writes them to shards as well, and its `add` reads, checks, hashes and copies every file before. The commands
`data add` and `data prepare` are timed on the same photographs. `--small` times the commands that find nothing to do, on
so many small files. `--many` adds and prepares that many and prints the peak memory of each process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from ganpipe.imaging.decode import decode_image, decode_pixels, pixels_of
from ganpipe.imaging.image import Pixels

if TYPE_CHECKING:
    from ganpipe.settings.schema import DataSettings

SIZE = (1024, 768)
COMPARED = 200  # photographs
ASKED = {(64, "plain loop"): "4", (64, "the same, a worker a core"): "1.6"}


def make_photo(path: Path, seed: int) -> None:
    """A piece of a photograph, enlarged to 1024×768, lit by chance, with the grain of a camera."""
    from sklearn.datasets import load_sample_image

    rng = np.random.default_rng(seed)
    photo = Image.fromarray(load_sample_image(("china.jpg", "flower.jpg")[seed % 2]))
    width = int(rng.integers(320, 560))
    height = width * 3 // 4
    left, top = int(rng.integers(0, photo.width - width)), int(rng.integers(0, photo.height - height))
    piece = photo.resize(SIZE, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
    if rng.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    piece = ImageEnhance.Brightness(piece).enhance(float(rng.uniform(0.7, 1.2)))
    grain = rng.normal(0, 4, (SIZE[1], SIZE[0], 3)).astype(np.float32)
    pixels = np.clip(np.asarray(piece, dtype=np.float32) + grain, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=90)


def make_small(path: Path, seed: int) -> None:
    """A PNG of 48×48 pixels, each another."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC).save(path, compress_level=1)


def fill(folder: Path, count: int, make: Callable[[Path, int], None], ending: str) -> Path:
    """`count` images, made on every core."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        paths = [folder / f"{k:06d}{ending}" for k in range(count)]
        list(pool.map(make, paths, range(count), chunksize=16))
    return folder


def plain_loop(folder: Path, side_px: int) -> int:
    """Decodes and resizes the images one by one, as a home-made script does; returns their number."""
    images = [
        np.asarray(Image.open(p).convert("RGB").resize((side_px, side_px))) for p in sorted(folder.iterdir())
    ]
    return len(np.stack(images))


def image_folder(folder: Path, side_px: int, workers: int) -> int:
    """torchvision's dataset with its usual transform, in this process (0) or in the workers of a DataLoader."""
    import torch
    from torchvision import datasets, transforms

    steps = transforms.Compose(
        [transforms.Resize(side_px), transforms.CenterCrop(side_px), transforms.PILToTensor()]
    )
    data = datasets.ImageFolder(str(folder.parent), steps)
    loader = torch.utils.data.DataLoader(data, batch_size=64, num_workers=workers)
    return sum(len(pixels) for pixels, _ in loader)


def timed(run: Callable[[], object]) -> float:
    """Seconds that `run` takes."""
    started = time.monotonic()
    run()
    return time.monotonic() - started


def compare(place: Path, count: int) -> None:
    """Prints images a second of each side, at 64×64 and at 256×256, and how far ganpipe's images are from Pillow's."""
    from benchmarks.models import describe_cpu
    from ganpipe.data.ingest import add_items
    from ganpipe.data.inspection_cache import InspectionCache
    from ganpipe.data.prepare import prepare
    from ganpipe.data.sources.registry import read_source
    from ganpipe.settings.schema import DataSettings

    photos = fill(place / "photos/all", count, make_photo, ".jpg")
    list(map(Path.read_bytes, photos.iterdir()))  # everybody finds them in memory
    raw = place / "raw"
    cache = InspectionCache(place / "cache")
    added = timed(lambda: add_items(raw, read_source(str(photos), place), cache=cache))
    print(f"{describe_cpu()}; {count:,} JPEGs of {SIZE[0]}×{SIZE[1]}")
    print(f"ganpipe's add (checks, hashes, copies): {count / added:.0f} a second")
    print(f"{'to':<9}{'side':<34}{'images a second':>16}{'ganpipe against it':>20}{'asked':>8}")
    for side_px in (64, 256):
        settings = DataSettings(height_px=side_px, width_px=side_px, channels=3)
        out = place / f"out{side_px}"
        sides: dict[str, Callable[[], object]] = {
            "plain loop": partial(plain_loop, photos, side_px),
            "torchvision ImageFolder": partial(image_folder, photos, side_px, 0),
            "the same, a worker a core": partial(image_folder, photos, side_px, os.cpu_count() or 1),
            "ganpipe prepare": partial(prepare, raw, out, settings, cache=cache),
        }
        rates = {name: count / timed(run) for name, run in sides.items()}
        for name, rate in rates.items():
            ratio, asked = rates["ganpipe prepare"] / rate, ASKED.get((side_px, name), "")
            print(f"{side_px}×{side_px:<6}{name:<34}{rate:>16.0f}{ratio:>19.2f}×{asked:>8}", flush=True)
        found = differences(raw, out, settings)
        print(
            f"{'':<9}against Pillow's whole decoding, values of 0 to 255: mean {found.mean():.2f}, largest "
            f"{found.max()}, {(found > 2).mean():.1e} of them over 2"
        )
    decoders(photos)
    commands(place, photos)


def differences(raw: Path, out: Path, settings: DataSettings) -> npt.NDArray[np.int64]:
    """How far the first prepared images are from those that Pillow decodes whole."""
    from ganpipe.data.manifest import read_manifest, split_records
    from ganpipe.data.raw_store import RawImages
    from ganpipe.data.resize import resize_image
    from ganpipe.data.shards import load_prepared
    from ganpipe.imaging.image import ImageShape

    records, _ = split_records(read_manifest(raw), settings.holdout_fraction)
    images, shape = RawImages(raw), ImageShape(3, settings.height_px, settings.width_px)
    wanted = [resize_image(images.decode(record), shape, settings.fit) for record in records[:COMPARED]]
    found = load_prepared(out, "").train.shards[0][: len(wanted)].numpy()
    return np.abs(found.astype(np.int64) - np.stack(wanted))


def by_pillow(data: bytes, by: int) -> Pixels:
    """Decodes as everything but a plain JPEG is decoded."""
    return pixels_of(decode_image(data, lambda width, height: by, checked=True))


def by_simplejpeg(data: bytes, by: int) -> Pixels:
    """Decodes as a plain JPEG is decoded."""
    return decode_pixels(data, lambda width, height: by)


def decode_all(decode: Callable[[bytes, int], Pixels], data: list[bytes], by: int) -> None:
    """Decodes pictures, divided by 1, 2, 4 or 8, one after the other."""
    for picture in data:
        decode(picture, by)


def decoders(photos: Path) -> None:
    """Prints milliseconds a photograph, on one core, of both decoders."""
    data = [path.read_bytes() for path in sorted(photos.iterdir())[:COMPARED]]
    print(f"\n{'decoder, to an array':<34}{'whole, ms':>12}{'half, ms':>12}")
    for name, decode in (("Pillow", by_pillow), ("simplejpeg", by_simplejpeg)):
        seconds = [timed(partial(decode_all, decode, data, by)) for by in (1, 2)]
        print(f"{name:<34}" + "".join(f"{1000 * spent / len(data):>12.2f}" for spent in seconds))


def commands(place: Path, photos: Path) -> None:
    """Prints what somebody waits for who adds these photographs and prepares them."""
    workspace = place / "workspace"
    workspace.mkdir()
    added = ganpipe(workspace, "data", "add", str(photos), "--name", "photos")
    prepared = ganpipe(workspace, "data", "prepare", "photos")
    print(f"\nganpipe data add: {added['wall_s']:.1f} s; ganpipe data prepare: {prepared['wall_s']:.1f} s")


def ganpipe(workspace: Path, *arguments: str) -> dict[str, object]:
    """Runs a command in a workspace; its JSON object, with the seconds that it took."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "ganpipe", *arguments, "--json"],
        cwd=workspace,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1]) | {"wall_s": time.monotonic() - started}


def idle(place: Path, count: int) -> None:
    """Prints what the commands cost that find nothing to do, and an addition of ten images."""
    folder, workspace = fill(place / "small/in", count, make_small, ".png"), place / "workspace"
    workspace.mkdir()
    time.sleep(3)  # a file that changed a moment ago is not yet known by its times
    rows = [("data add, the first", ganpipe(workspace, "data", "add", str(folder), "--name", "small"))]
    rows.append(("prepare, the first", ganpipe(workspace, "data", "prepare", "small")))
    rows.append(("data add, nothing new", ganpipe(workspace, "data", "add", str(folder), "--name", "small")))
    rows.append(("prepare, nothing new", ganpipe(workspace, "data", "prepare", "small")))
    for k in range(10):
        make_small(folder / f"new{k}.png", count + k)
    rows.append(("data add, ten new", ganpipe(workspace, "data", "add", str(folder), "--name", "small")))
    rows.append(("prepare, ten new", ganpipe(workspace, "data", "prepare", "small")))
    print(f"\n{count:,} PNGs of 48×48{'':<8}{'seconds':>10}{'files read':>12}")
    for name, row in rows:
        print(f"{name:<28}{row['wall_s']:>10.1f}{row.get('read', ''):>12}")


def many(place: Path, count: int) -> None:
    """Prints rate and peak memory of an addition and a preparation of many small images."""
    from ganpipe.data.ingest import add_items
    from ganpipe.data.inspection_cache import InspectionCache
    from ganpipe.data.prepare import prepare
    from ganpipe.data.sources.registry import read_source
    from ganpipe.settings.schema import DataSettings

    folder = fill(place / "many/in", count, make_small, ".png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with InspectionCache(place / "cache") as cache:
        source = read_source(str(folder), place)
        added = timed(lambda: add_items(place / "many-raw", source, cache=cache))
        out, settings = place / "many-out", DataSettings(height_px=64, width_px=64, channels=3)
        prepared = timed(lambda: prepare(place / "many-raw", out, settings, cache=cache))
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"\n{count:,} PNGs: add {count / added:.0f}, prepare {count / prepared:.0f} images a second; peak memory "
        f"{own:.0f} MiB ({own - before:.0f} above the interpreter with torch), a worker {workers:.0f} MiB"
    )


def main() -> None:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--small", type=int, default=20_000)
    parser.add_argument("--many", type=int, default=0)
    given = parser.parse_args()
    for count, run in ((given.photos, compare), (given.small, idle), (given.many, many)):
        if count:
            with tempfile.TemporaryDirectory() as scratch:
                run(Path(scratch), count)
                shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
