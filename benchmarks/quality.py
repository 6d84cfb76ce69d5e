"""Quality at equal time: ganpipe's demo preset against the DCGAN recipe of pytorch/examples, at 32×32, in one run.

    python -m benchmarks.quality [--minutes 5] [--data flowers fashion] [--fashion DIR] [--set KEY=VALUE ...]

ganpipe trains first, for as many images as its measured rate gives in the time; the recipe then gets as many seconds
as that took. The recipe: the well-known DCGAN with ngf = ndf = 64 (one stage fewer, for 32 pixels), batch 64, Adam 2e-4
and β1 0.5, BCE, float32, no average of weights. It reads tensors that are ready in memory, which is faster than its
own loader. Both are judged alike: the same number of images, the same held-out images, the same network.
`--fashion` is a folder with Fashion-MNIST's four IDX files (Debian: dataset-fashion-mnist).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FASHION = "/usr/share/datasets/fashion-mnist"
SIDE_PX = 32
JUDGED = 2000
PROBE_IMAGES = 6400


def prepared(name: str, scratch: Path, source: str) -> Any:
    """The dataset of a source, read once, at 32×32; `name` is that of its files in `scratch`."""
    from ganpipe.data.ingest import add_items
    from ganpipe.data.prepare import prepare
    from ganpipe.data.shards import load_prepared
    from ganpipe.data.sources.registry import read_source
    from ganpipe.settings.schema import DataSettings

    out = scratch / f"{name}-prepared"
    if not (out / "meta.json").exists():
        add_items(scratch / name, read_source(source, scratch / f"{name}-files"))
        prepare(scratch / name, out, DataSettings(height_px=SIDE_PX, width_px=SIDE_PX))
    return load_prepared(out, "bench")


def judged(pixels: Any, data: Any, picture: Path) -> dict[str, Any]:
    """The numbers of the table, and a grid to look at."""
    from ganpipe.compute.device import choose_compute
    from ganpipe.evaluation.evaluate import evaluate
    from ganpipe.imaging.grid import grid
    from ganpipe.imaging.provenance import save_png
    from ganpipe.settings.schema import EvaluationSettings

    found = evaluate(pixels, data, EvaluationSettings(images=JUDGED), choose_compute("auto", "auto"))
    save_png(grid(pixels[:64].numpy()), picture, {})
    return {name: metric.value for name, metric in found.metrics.items()} | {"verdict": found.verdict}


def run_ganpipe(data: Any, seconds: float, overrides: list[str], picture: Path) -> dict[str, Any]:
    """The demo preset for so many seconds."""
    from ganpipe.compute.device import training_compute
    from ganpipe.evaluation.sampling import generate_pixels
    from ganpipe.settings.params import Params, resolve
    from ganpipe.training.callbacks import Callbacks
    from ganpipe.training.trainer import train

    def trained(total: int) -> Any:
        settings = resolve(Params(), "demo", ["data.height_px=32", "data.width_px=32", *overrides])
        settings = settings.with_values({"training.total_images": total})
        with tempfile.TemporaryDirectory() as run_dir:
            started = time.monotonic()
            result = train(data, settings, Path(run_dir), Callbacks())
            return settings, result, time.monotonic() - started

    _, probe, _ = trained(PROBE_IMAGES)
    settings, result, took = trained(int(probe.summary.images_per_second * seconds * 0.97))
    compute = training_compute(settings.training)
    labels = list(result.labels.values())
    pixels = generate_pixels(result.model, settings.model.z_dim, labels, JUDGED, 1, compute)
    return judged(pixels, data, picture) | {"seconds": took, "images": result.summary.nimg}


def run_recipe(data: Any, seconds: float, picture: Path) -> dict[str, Any]:
    """The recipe for so many seconds."""
    import torch

    from benchmarks.recipe import Z_DIM, Recipe
    from ganpipe.imaging.tensors import to_float, to_uint8

    torch.manual_seed(0)
    recipe, images = Recipe(SIDE_PX, data.shape.channels), to_float(data.train.pixels).contiguous()
    started, seen, order = time.monotonic(), 0, torch.empty(0, dtype=torch.long)
    while time.monotonic() - started < seconds:
        if len(order) < 64:
            order = torch.randperm(len(images))
        real, order = images[order[:64]], order[64:]
        recipe.step(real)
        seen += len(real)
    took = time.monotonic() - started
    with torch.no_grad():  # in training mode, as the recipe draws its own samples
        pixels = torch.cat([to_uint8(recipe.G(torch.randn(200, Z_DIM, 1, 1))) for _ in range(JUDGED // 200)])
    return judged(pixels, data, picture) | {"seconds": took, "images": seen}


def side(name: str, dataset: str, seconds: float, given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """One side in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.quality",
        "--side",
        name,
        "--data",
        dataset,
        "--seconds",
        str(seconds),
        "--scratch",
        str(scratch),
        "--fashion",
        given.fashion,
        "--out",
        given.out,
    ]
    command += [word for override in given.overrides for word in ("--set", override)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"GOMP_SPINCOUNT": "1000"}
    )
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Runs both sides in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--data", nargs="+", default=["flowers", "fashion"], choices=["flowers", "fashion"])
    parser.add_argument("--fashion", default=FASHION)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--out", default="benchmarks/out", help="folder for the two grids of each dataset")
    parser.add_argument("--only", default="", choices=["", "ganpipe", "recipe"])
    parser.add_argument("--side", default="")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--scratch", default="")
    given = parser.parse_args()
    if given.side:
        source = "sample:flowers" if given.data[0] == "flowers" else given.fashion
        data = prepared(given.data[0], Path(given.scratch), source)
        picture = Path(given.out) / f"{given.data[0]}-{given.side}.png"
        if given.side == "ganpipe":
            print(json.dumps(run_ganpipe(data, given.seconds, given.overrides, picture)))
        else:
            print(json.dumps(run_recipe(data, given.seconds, picture)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(given.scratch or temporary)
        columns = f"{'KD':>8}{'prec.':>7}{'recall':>7}{'cover':>7}{'modes':>7}  verdict"
        print(f"{'data':<9}{'side':<9}{'s':>5}{'images':>9}{columns}")
        for dataset in given.data:
            rows, seconds = {}, 60 * given.minutes
            for name in [given.only] if given.only else ["ganpipe", "recipe"]:
                rows[name] = r = side(name, dataset, seconds, given, scratch)
                seconds = r["seconds"]
                shares = f"{r['precision']:>7.2f}{r['recall']:>7.2f}{r['coverage']:>7.2f}"
                scores = f"{r['kd']:>8.0f}{shares}{r.get('modes_covered', 0):>7.0f}  {r['verdict']}"
                print(f"{dataset:<9}{name:<9}{seconds:>5.0f}{r['images']:>9,}{scores}", flush=True)
            if len(rows) == 2:
                ratio = rows["ganpipe"]["kd"] / rows["recipe"]["kd"]
                print(
                    f"{dataset}: ganpipe's KD is {ratio:.2f} of the recipe's (expected: at most 0.5)",
                    flush=True,
                )


if __name__ == "__main__":
    main()
