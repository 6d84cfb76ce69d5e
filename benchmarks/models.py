"""Every model of the table MODELS in equal time: images seen, scores, verdict, and a picture of each.

    python -m benchmarks.models [--minutes 5] [--datasets flowers fashion SOURCE ...] [--models dcgan vae ...]

32×32, the demo preset with each model's recipe, trained and evaluated as `ganpipe train` and `ganpipe evaluate` do it.
`fashion` is Fashion-MNIST: --fashion names a folder with its four IDX files (Debian: dataset-fashion-mnist), or
torchvision:FashionMNIST. Any other word is a source of `ganpipe data add`.

Results, pictures and unfinished trainings stay in the folder --out. A second call trains what is missing: it resumes the
training that was stopped, and reads the results that the same settings have.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks.quality import FASHION, JUDGED, SIDE_PX, prepared
from ganpipe.compute.device import choose_compute, training_compute
from ganpipe.data.anchor import reference_rows
from ganpipe.data.shards import PreparedData
from ganpipe.errors import GanpipeError, Interrupted
from ganpipe.evaluation.evaluate import evaluate
from ganpipe.evaluation.sampling import generate_pixels
from ganpipe.files import read_dataclass, sha256_of_json, write_json
from ganpipe.imaging.grid import grid, rows_of_sheets
from ganpipe.imaging.provenance import save_png
from ganpipe.models.registry import MODELS
from ganpipe.settings.params import Params, resolve
from ganpipe.settings.schema import Settings
from ganpipe.training.trainer import train

SHOWN_IMAGES = 64
METRICS = ("kd", "energy", "precision", "coverage", "modes_covered")


@dataclass(frozen=True)
class Result:
    """A model trained on a dataset. `settings_sha256`: of the settings that it has the result of; `seconds`: of training."""

    dataset: str
    model: str
    settings_sha256: str
    cpu: str
    seconds: float
    images: int
    metrics: dict[str, float]
    verdict: str

    def row(self) -> str:
        """Its row of the table."""
        cells = (f"{self.metrics[name]:.3g}" if name in self.metrics else "–" for name in METRICS)
        return f"| {self.dataset} | {self.model} | {self.seconds:.0f} | {self.images:,} | {' | '.join(cells)} | {self.verdict} |"


HEADER = f"| dataset | model | training, s | images seen | {' | '.join(METRICS)} | verdict |"


@dataclass(frozen=True)
class Place:
    """Where the files of a model on a dataset lie."""

    out: Path
    dataset: str
    model: str

    @property
    def result(self) -> Path:
        """The result, as JSON."""
        return self.out / f"{self.dataset}-{self.model}.json"

    @property
    def picture(self) -> Path:
        """Generated images."""
        return self.result.with_suffix(".png")

    def training(self, settings_sha256: str) -> Path:
        """The folder of an unfinished training."""
        return self.out / "trainings" / f"{self.dataset}-{self.model}-{settings_sha256[:12]}"


def describe_cpu() -> str:
    """The capability without which a figure means nothing, such as "AVX512, bf16, 2 threads"."""
    compute = choose_compute("auto", "auto")
    return (
        f"{torch.backends.cpu.get_cpu_capability()}, {compute.precision}, {torch.get_num_threads()} threads"
    )


def settings_of(model: str, minutes: float, images: int) -> Settings:
    """The demo preset with the model's recipe; `images` are evaluated."""
    sizes = [f"data.height_px={SIDE_PX}", f"data.width_px={SIDE_PX}", f"evaluation.images={images}"]
    return resolve(Params(), "demo", [f"model.name={model}", f"training.minutes={minutes}", *sizes])


def measure(place: Place, data: PreparedData, settings: Settings, sha256: str) -> Result:
    """Trains and evaluates; writes the picture, then the result."""
    folder, started = place.training(sha256), time.monotonic()
    trained = train(data, settings, folder)
    seconds, compute = time.monotonic() - started, training_compute(settings.training)
    labels, judged = list(trained.labels.values()), settings.evaluation
    pixels = generate_pixels(trained.model, settings.model.z_dim, labels, judged.images, judged.seed, compute)
    found = evaluate(pixels, data, judged, compute, place.out / "features")
    save_png(grid(pixels[:SHOWN_IMAGES].numpy()), place.picture, {"kind": "sample grid"})
    values = {name: found.metrics[name].value for name in METRICS if name in found.metrics}
    result = Result(
        place.dataset,
        place.model,
        sha256,
        describe_cpu(),
        seconds,
        trained.summary.nimg,
        values,
        found.verdict,
    )
    write_json(place.result, asdict(result))
    shutil.rmtree(folder)
    return result


def result_of(place: Place, data: PreparedData, settings: Settings) -> Result:
    """The result that lies there if it has these settings, otherwise a new one."""
    sha256 = sha256_of_json(settings.flat())
    if place.result.exists() and place.picture.exists():
        known = read_dataclass(place.result, Result)
        if known.settings_sha256 == sha256:
            return known
    return measure(place, data, settings, sha256)


def save_sheet(places: Sequence[tuple[Place, Result]], real: Tensor, path: Path) -> None:
    """The pictures of all models of a dataset beside real images, each below its name and verdict."""
    sheets, titles = [grid(real.numpy())], ["real, held out"]
    for place, result in places:
        with Image.open(place.picture) as picture:
            sheets.append(picture.convert("RGB"))
        titles.append(f"{place.model}: {result.verdict}")
    save_png(rows_of_sheets(sheets, titles), path, {"kind": "comparison"})


def measured(given: argparse.Namespace) -> Iterator[Result]:
    """The results in the order of the table, each as soon as it is there; a sheet of each dataset is written after it."""
    sources = {"flowers": "sample:flowers", "fashion": given.fashion}
    for word in given.datasets:
        dataset = re.sub(r"\W+", "-", word).strip("-")
        data = prepared(dataset, given.out / "data", sources.get(word, word))
        done = []
        for model in given.models:
            place = Place(given.out, dataset, model)
            settings = settings_of(model, given.minutes, given.images)
            done.append((place, result_of(place, data, settings)))
            yield done[-1][1]
        real, _ = data.holdout.rows(reference_rows(data, SHOWN_IMAGES))
        save_sheet(done, real, given.out / f"{dataset}.png")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="of training, for each model")
    parser.add_argument("--datasets", nargs="+", default=["flowers", "fashion"], metavar="NAME")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS), metavar="MODEL")
    parser.add_argument("--images", type=int, default=JUDGED, help="that are evaluated, of each model")
    parser.add_argument("--fashion", default=FASHION, help="source of Fashion-MNIST")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/models"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    print(f"{describe_cpu()}; {given.minutes:g} minutes of training for each model\n\n{HEADER}")
    print("|---" * (HEADER.count("|") - 1) + "|", flush=True)
    try:
        for result in measured(given):
            other = "" if result.cpu == describe_cpu() else f" (measured on {result.cpu})"
            print(result.row() + other, flush=True)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_code)
    except GanpipeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
