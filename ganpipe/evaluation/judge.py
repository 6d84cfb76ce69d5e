"""The verdict on a set of generated pictures, with the evidence in sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganpipe.data.fit import fit_image
from ganpipe.data.shards import PreparedData, Split
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.features import EXTRACTOR_LAYER, Seen, extract
from ganpipe.evaluation.metrics import (
    chunked_error,
    copied_share,
    diversity,
    frechet_distance,
    kernel_distance,
    manifold,
)
from ganpipe.evaluation.modes import count_modes
from ganpipe.images import (
    ImageShape,
    Refusal,
    beside,
    decode_image,
    grid,
    read_image_file,
    save_png,
)
from ganpipe.inputs import image_paths
from ganpipe.models import sample
from ganpipe.perceptual import Vgg19, weights_id
from ganpipe.progress import Report, ignore
from ganpipe.settings.schema import EvaluationSettings
from ganpipe.tensors import to_uint8
from ganpipe.training.device import Compute
from ganpipe.training.stream import GRID, LATENTS, drawn_labels, generator_at, latents

LEAST_HELD_OUT = 8


@dataclass(frozen=True)
class Metric:
    """One number, what saw it, and from how many generated pictures; `floor` is what real pictures score."""

    value: float
    extractor: str
    samples: int
    floor: float | None = None
    note: str = ""


@dataclass
class Evaluation:
    """All metrics, the verdict (`good`, `fair`, `poor`, `collapsed` or `memorised`) and why."""

    metrics: dict[str, Metric] = field(default_factory=dict)
    verdict: str = ""
    evidence: list[str] = field(default_factory=list)
    grid: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values; what is not finite becomes None, because JSON has no word for it."""
        tree = asdict(self)
        for metric in tree["metrics"].values():
            for key in ("value", "floor"):
                if metric[key] is not None and not math.isfinite(metric[key]):
                    metric[key] = None
        return tree


def generate_pixels(
    G: nn.Module, z_dim: int, label_counts: Sequence[int], count: int, seed: int, compute: Compute, stream: int = LATENTS
) -> Tensor:  # fmt: skip
    """uint8 pictures `[count, H, W, C]` from latents, and labels as often as in the data, that depend on the seed."""
    z = latents(seed, stream, 0, count, z_dim, compute.device)
    labels = drawn_labels(label_counts, seed, 0, count, compute.device)
    return to_uint8(sample(G, z, labels)).cpu()


def fixed_pixels(
    G: nn.Module, z_dim: int, label_counts: Sequence[int], count: int, seed: int, compute: Compute
) -> Tensor:
    """uint8 pictures `[count, H, W, C]` for the latents of the training grids."""
    return generate_pixels(G, z_dim, label_counts, count, seed, compute, GRID)


def read_folder(folder: Path, shape: ImageShape) -> Tensor:
    """The pictures of a folder as uint8 `[N, H, W, C]` of the data set's shape.

    Raises:
        GanpipeError: no picture, or one that cannot be read.
    """
    pixels = []
    for path in image_paths([folder]):
        try:
            pixels.append(fit_image(decode_image(read_image_file(path)), shape, "crop"))
        except Refusal as refusal:
            raise GanpipeError(f"{path} cannot be judged: {refusal.sentence}.") from None
    return torch.from_numpy(np.stack(pixels))


def evaluate(
    fake: Tensor,
    data: PreparedData,
    settings: EvaluationSettings,
    compute: Compute,
    report: Report = ignore,
) -> Evaluation:
    """Judges uint8 pictures `fake: [N, H, W, C]` against the held-out images of `data`.

    Raises:
        GanpipeError: too few held-out or generated pictures to say anything.
    """
    for what, count in (("held-out", len(data.holdout)), ("generated", len(fake))):
        if count < LEAST_HELD_OUT:
            raise GanpipeError(
                f"{data.name} has {count} {what} images; evaluation needs at least {LEAST_HELD_OUT}. "
                "Add images, or raise data.holdout_fraction."
            )
    network = Vgg19("relu5_4").to(compute.device)
    train = _subset(data.train, settings.images, settings.seed)
    holdout = _subset(data.holdout, settings.images, settings.seed)
    seen = extract(
        network,
        torch.cat([fake, train.pixels, holdout.pixels]),
        settings.size_px,
        compute,
        "evaluate",
        report,
    )
    f, t, h = _split(seen, [len(fake), len(train), len(holdout)])
    result = Evaluation(metrics=_distances(f, t, h, settings.neighbors))
    if data.label_names:
        modes = count_modes(
            t.wide, train.labels.numpy(), h.wide, holdout.labels.numpy(), f.wide, data.label_names
        )
        if modes:
            extractor = f"linear classifier on {weights_id()}, {modes.accuracy:.1%} right on held-out images"
            result.metrics["modes_covered"] = Metric(
                modes.covered, extractor, len(fake), float(modes.total), f"of {modes.total}"
            )
            result.metrics["modes_kl"] = Metric(modes.kl, extractor, len(fake), 0.0)
            if modes.missing:
                result.evidence.append(
                    f"{len(modes.missing)} of {modes.total} modes are missing: {_some(modes.missing)}."
                )
        else:
            result.evidence.append(
                "Modes were not counted: a classifier cannot tell this data set's labels apart."
            )
    result.verdict = _verdict(result)
    return result


def _some(names: tuple[str, ...], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _subset(split: Split, most: int, seed: int) -> Split:
    """At most `most` images, drawn without replacement."""
    rows = torch.randperm(len(split), generator=generator_at(seed, LATENTS, 1))[:most]
    return Split.of(*split.rows(rows))


def _split(seen: Seen, sizes: list[int]) -> list[Seen]:
    ends = np.cumsum(sizes)[:-1]
    return [Seen(d, w) for d, w in zip(np.split(seen.deep, ends), np.split(seen.wide, ends), strict=True)]


def _distances(fake: Seen, train: Seen, holdout: Seen, k: int) -> dict[str, Metric]:
    """Every distance of the fakes, beside what real training images score at the same size."""
    name = f"{weights_id()} {EXTRACTOR_LAYER}"
    n = min(len(fake), len(train))
    f, r, h = fake.deep, train.deep[:n], holdout.deep
    found, best = manifold(h, f, k), manifold(h, r, k)

    def metric(measure: Callable[[np.ndarray, np.ndarray], float], note: str = "") -> Metric:
        return Metric(measure(f, h), name, len(f), measure(r, h), note)

    return {
        "fd_vgg19": metric(frechet_distance),
        "kd_vgg19": metric(kernel_distance, f"± {chunked_error(f, h):.2g}"),
        "precision": Metric(found.precision, name, len(f), best.precision),
        "recall": Metric(found.recall, name, len(f), best.recall),
        "coverage": Metric(found.coverage, name, len(f), best.coverage),
        "diversity": Metric(diversity(f, h), name, len(f), diversity(r, h)),
        "copied": Metric(copied_share(f, train.deep, h), name, len(f), 0.01),
    }


# A verdict is the first row whose condition holds. Thresholds are relative to what real pictures score, and were
# set by looking: at 3% the demo's grid was speckled and blurred, at 14% its flowers were flowers (LOG.md).
def _verdict(result: Evaluation) -> str:
    value = {name: metric.value for name, metric in result.metrics.items()}
    floor = {name: metric.floor or 0.0 for name, metric in result.metrics.items()}
    covered = value["coverage"] / max(floor["coverage"], 1e-9)
    precise = value["precision"] / max(floor["precision"], 1e-9)
    modes = value.get("modes_covered", math.nan) / floor.get("modes_covered", math.nan)
    rows: list[tuple[str, bool, str]] = [
        ("memorised", value["copied"] > 0.25,
         f"{value['copied']:.0%} of the pictures are nearer to a training image than held-out images are (1% is usual)."),
        ("collapsed", value["diversity"] < 0.25 or modes < 0.34,
         f"Diversity is {value['diversity']:.0%} of the real pictures'."),
        ("good", covered >= 0.7 and precise >= 0.7 and not modes < 0.9,
         f"Coverage reaches {covered:.0%} and precision {precise:.0%} of what real pictures score."),
        ("fair", covered >= 0.1 and precise >= 0.1,
         f"Coverage reaches {covered:.0%} and precision {precise:.0%} of what real pictures score (good: 70%)."),
        ("poor", True,
         f"Coverage reaches only {covered:.0%} and precision {precise:.0%} of what real pictures score (fair: 10%)."),
    ]  # fmt: skip
    verdict, _, why = next(row for row in rows if row[1])
    result.evidence.insert(0, why)
    return verdict


def sample_grid(
    fake: Tensor, data: PreparedData, settings: EvaluationSettings, path: Path, origin: dict[str, Any]
) -> Path:
    """Generated pictures beside held-out real ones, as many of each as `evaluation.grid_images`."""
    n = min(settings.grid_images, len(fake))
    real = _subset(data.holdout, n, settings.seed).pixels.numpy()
    columns = math.ceil(math.sqrt(n))
    titles = (f"generated ({data.name})", "real, held out")
    sheet = beside(grid(fake[:n].numpy(), columns), grid(real, columns), titles)
    return save_png(sheet, path, origin | {"kind": "sample grid"})
