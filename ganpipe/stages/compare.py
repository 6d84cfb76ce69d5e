"""The compare stage: two models, or folders of images, on the same held-out images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ganpipe.compute.device import Compute
from ganpipe.compute.random import GRID, LATENTS, generator_at
from ganpipe.data.anchor import reference_rows
from ganpipe.data.shards import PreparedData
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.evaluate import LEAST_IMAGES, open_judge
from ganpipe.evaluation.gate import compare_images, decide
from ganpipe.evaluation.gate_result import KEPT, GateResult
from ganpipe.evaluation.judge import Judge
from ganpipe.evaluation.sampling import generate_pixels, read_folder
from ganpipe.evaluation.verdict import Evaluation
from ganpipe.files import sha256_of_json
from ganpipe.imaging.grid import grid, row_of_sheets
from ganpipe.imaging.image import ImageShape
from ganpipe.imaging.provenance import save_png
from ganpipe.imaging.tensors import with_shape
from ganpipe.progress import Report, ignore
from ganpipe.settings.schema import DataSettings, EvaluationSettings, Settings
from ganpipe.stages.evaluate import (
    check_data,
    check_generated,
    check_judgeable,
    evaluation_compute,
)
from ganpipe.stages.generate import LoadedModel, load_model, load_run_model
from ganpipe.stores.dataset_shards import load_dataset
from ganpipe.stores.dataset_versions import DatasetVersion, open_version
from ganpipe.stores.registered_models import ALIASES
from ganpipe.stores.run_records import RECORD, all_records, find_record
from ganpipe.stores.workspace import Workspace


@dataclass(frozen=True)
class Candidate:
    """One side of a comparison: a registered model, or images from a folder (uint8 `[N, H, W, C]`)."""

    name: str
    model: LoadedModel | None = None
    images: Tensor | None = None

    def draw(self, count: int, data: PreparedData, seed: int, stream: int = LATENTS) -> Tensor:
        """At most `count` images in the shape of `data`, fixed by the seed: equal latents for models with equal `z_dim`.

        A conditional model draws its labels as often as `data` has them.
        """
        if self.images is not None:
            rows = torch.randperm(len(self.images), generator=generator_at(seed, stream, 0))[:count]
            return with_shape(self.images[rows], data.shape)
        assert self.model is not None
        m = self.model
        drawn = generate_pixels(m.G, m.z_dim, _label_counts(m, data), count, seed, m.compute, stream)
        return with_shape(drawn, data.shape)

    @property
    def architecture(self) -> str | None:
        """The model's `model.name`; None for a folder."""
        return str(self.model.config["model"]["name"]) if self.model else None

    @property
    def shape(self) -> ImageShape | None:
        """Of the images that a model makes; None for a folder, whose images are cropped to the dataset's."""
        return self.model.shape if self.model else None


def _label_counts(model: LoadedModel, data: PreparedData) -> list[int]:
    """How often a conditional model draws each of its labels: as often as `data` has it, if that has any of them."""
    here = dict(zip(data.label_names, data.label_counts, strict=True))
    counts = [here.get(name, 0) for name in model.label_names]
    return counts if any(counts) else list(model.config["labels"].values())


@dataclass(frozen=True)
class Side:
    """One side of a comparison, evaluated alone. `architecture`: its `model.name`; None for a folder."""

    name: str
    evaluation: Evaluation
    architecture: str | None

    @property
    def title(self) -> str:
        """Its name, and what it is, such as "flowers-0123456789ab (vae)"."""
        return titled(self.name, self.architecture)


def titled(name: str, architecture: str | None) -> str:
    """The name of a side, with its architecture if it has one."""
    return f"{name} ({architecture})" if architecture else name


@dataclass(frozen=True)
class Compared:
    """`gate`: whether `b` would replace `a`. `sheet`: both beside held-out images."""

    dataset: str
    version: str
    a: Side
    b: Side
    gate: GateResult
    sheet: str


def compare(
    workspace: Workspace,
    words: tuple[str, str],
    dataset: str | None,
    settings: Settings,
    report: Report = ignore,
) -> Compared:
    """Compares what two words name (a run, a model version, or a folder of images) on the dataset's newest version.

    Without `dataset`: that of the models, the second's first, or that of params.yaml.

    Raises:
        GanpipeError: a word names nothing, or there are too few images.
    """
    compute = evaluation_compute(settings)
    found = [open_candidate(workspace, word, dataset, compute) for word in words]
    models = [side for side in reversed(found) if isinstance(side, LoadedModel)]
    name = dataset or next(map(_trained_on, models), workspace.params().dataset)
    check_data(workspace, name, settings)
    version = open_version(workspace, name, settings.data)
    check_judgeable(version)
    data = common_data(workspace, version, models, settings.data)
    a, b = (
        Candidate(word, side) if isinstance(side, LoadedModel) else _folder(side, data)
        for word, side in zip(words, found, strict=True)
    )
    options = settings.evaluation
    drawn = draw_equally(a, b, data, options)
    judge = open_judge(data, options, compute, workspace.features, report)
    one, other = (
        Side(side.name, judge.evaluate(judge.image_set(pixels)), side.architecture)
        for side, pixels in zip((a, b), drawn, strict=True)
    )
    gate = decide_between((a, b), drawn, other.evaluation.verdict, judge)
    sheets, path = draw_sheets((a, b), data, options), _sheet_path(workspace, words)
    save_sheets(sheets, (a, b), ("A", "B"), path, {"a": words[0], "b": words[1], "kind": "comparison"})
    return Compared(name, version.version, one, other, gate, str(path))


def open_candidate(
    workspace: Workspace, word: str, dataset: str | None, compute: Compute
) -> LoadedModel | Path:
    """The model that a word names, else the folder.

    Raises:
        GanpipeError: neither is there.
    """
    folder = Path(word).expanduser().absolute()
    if folder.is_dir() and word not in ALIASES and not (workspace.runs / word / RECORD).exists():
        check_generated(folder)
        return folder
    with suppress(GanpipeError):
        return load_run_model(workspace, find_record(workspace, word), compute)
    try:
        return load_model(workspace, word, dataset, compute)
    except GanpipeError as error:
        raise GanpipeError(f"{error} There is no run and no folder of this name either.") from None


def _trained_on(model: LoadedModel) -> str:
    return str(model.config["origin"]["dataset"]["name"])


def _folder(folder: Path, data: PreparedData) -> Candidate:
    return Candidate(folder.name or str(folder), images=read_folder(folder, data.shape))


def common_data(
    workspace: Workspace, version: DatasetVersion, models: list[LoadedModel], otherwise: DataSettings
) -> PreparedData:
    """The version as the model with the larger images was prepared for: small images are enlarged, not large ones reduced.

    `otherwise`: the settings if nothing is known of the models' preparation.
    """
    by_run = {record.mlflow_run_id: record for record in all_records(workspace)}
    known = [m for m in models if m.reference.run_id in by_run]
    if not known:
        return load_dataset(workspace, version, otherwise)
    largest = max(known, key=lambda m: (m.shape.channels, m.shape.height_px * m.shape.width_px))
    return load_dataset(workspace, version, by_run[largest.reference.run_id].resolved().data)


def draw_equally(
    a: Candidate, b: Candidate, data: PreparedData, options: EvaluationSettings
) -> tuple[Tensor, Tensor]:
    """As many images of one as of the other: `evaluation.images`, or as many as the smaller folder has."""
    count = min([options.images, *(len(side.images) for side in (a, b) if side.images is not None)])
    if count < LEAST_IMAGES:
        raise GanpipeError(f"There are {count} images to compare; at least {LEAST_IMAGES} are needed.")
    return a.draw(count, data, options.seed), b.draw(count, data, options.seed)


def decide_between(
    sides: tuple[Candidate, Candidate], drawn: tuple[Tensor, Tensor], verdict: str, judge: Judge
) -> GateResult:
    """Whether the second side, whose verdict is `verdict`, may replace the first; `drawn`: as many images of both."""
    if torch.equal(*drawn):
        gate = GateResult(KEPT, "Both make the same images, bit for bit.")
    else:
        champion, challenger = map(judge.image_set, drawn)
        gate = decide(compare_images(champion, challenger, judge), verdict)
    shapes = [side.shape for side in sides if side.shape]
    note = f" Images of {' and '.join(map(_size, shapes))} are compared at {_size(judge.data.shape)}."
    reason = gate.reason + (note if len(set(shapes)) > 1 else "")
    return replace(gate, reason=reason, champion=sides[0].name, challenger=sides[1].name)


def _size(shape: ImageShape) -> str:
    return f"{shape.width_px}×{shape.height_px} with {shape.channels} channel{'s' * (shape.channels > 1)}"


def draw_sheets(
    sides: tuple[Candidate, Candidate], data: PreparedData, options: EvaluationSettings
) -> list[Image.Image]:
    """A sheet of each side from the same latents, and one of held-out real images: `evaluation.grid_images` on each."""
    drawn = [side.draw(options.grid_images, data, options.seed, GRID) for side in sides]
    n = min(map(len, drawn))
    columns = math.ceil(math.sqrt(n))
    real = data.holdout.rows(reference_rows(data, n))[0]
    return [grid(pixels[:n].numpy(), columns) for pixels in (*drawn, real)]


def save_sheets(
    sheets: Sequence[Image.Image],
    sides: tuple[Candidate, Candidate],
    roles: tuple[str, str],
    path: Path,
    origin: dict[str, Any],
) -> None:
    """Saves what `draw_sheets` drew as one picture, each sheet below its name."""
    names = [
        f"{role}: {_printable(titled(side.name, side.architecture))}"
        for role, side in zip(roles, sides, strict=True)
    ]
    save_png(row_of_sheets(sheets, [*names, "real, held out"]), path, origin)


def _printable(name: str) -> str:
    """A name in the letters that the sheets' font has, short enough for a title."""
    return name.encode("latin-1", "replace").decode("latin-1")[:40]


def _sheet_path(workspace: Workspace, words: tuple[str, str]) -> Path:
    return workspace.reports / f"compare-{sha256_of_json(list(words))[:12]}.png"
