"""Images from a registered model: single ones, and walks through its latents."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganpipe.compute.device import Compute, choose_compute
from ganpipe.compute.random import LATENTS, draw_labels, latents
from ganpipe.errors import GanpipeError, nearest
from ganpipe.files import require_room, sha256_of_json
from ganpipe.imaging.grid import to_pil
from ganpipe.imaging.image import ImageShape
from ganpipe.imaging.provenance import has_origin, save_png
from ganpipe.imaging.tensors import composite_on_white, to_uint8
from ganpipe.models.io import generator_damage, load_generator
from ganpipe.models.latents import between, draw, great_circle
from ganpipe.models.registry import sample
from ganpipe.progress import Progress, Report, ignore, stage
from ganpipe.stages.evaluate import check_model
from ganpipe.stages.latent_files import LatentFile
from ganpipe.stores.model_registry import ModelRef, ModelRegistry
from ganpipe.stores.registered_models import CHAMPION
from ganpipe.stores.run_records import RunRecord, all_records, run_folder
from ganpipe.stores.workspace import Workspace

log = logging.getLogger(__name__)

BYTES_PER_FILE = 4096  # at least, as file systems count


@dataclass(frozen=True)
class LoadedModel:
    """A registered model, ready to draw."""

    reference: ModelRef
    G: nn.Module
    config: dict[str, Any]
    compute: Compute

    @property
    def z_dim(self) -> int:
        return int(self.config["model"]["z_dim"])

    @property
    def shape(self) -> ImageShape:
        """Of its images."""
        return ImageShape(**self.config["shape"])

    @property
    def label_names(self) -> list[str]:
        """Labels that a conditional model knows; none for another."""
        return list(self.config["labels"])

    def labels(self, seed: int, numbers: range, wanted: str | None) -> Tensor | None:
        """The wanted label for each image, or one that depends on (seed, number); None if the model has none.

        Raises:
            GanpipeError: the model knows no such label.
        """
        if wanted is not None and wanted not in self.label_names:
            known = nearest(wanted, self.label_names) if self.label_names else "it was told none."
            raise GanpipeError(f"{self.reference} has no label {wanted}: {known}")
        if wanted is not None:
            return torch.full((len(numbers),), self.label_names.index(wanted), device=self.compute.device)
        counts = list(self.config["labels"].values())
        drawn = [draw_labels(counts, seed, k, 1, self.compute.device) for k in numbers]
        return torch.cat([d for d in drawn if d is not None]) if counts else None

    def origin(self, kind: str, seed: int | None = None, truncation: float = 1.0) -> dict[str, Any]:
        """The record of origin of an image of this model. `seed`: None if nothing is drawn from one."""
        own = {"kind": kind, "model": str(self.reference)} | ({} if seed is None else {"seed": seed})
        return dict(self.config["origin"]) | own | ({"truncation": truncation} if truncation != 1 else {})


def load_model(
    workspace: Workspace, reference: str, dataset: str | None, compute: Compute | None = None
) -> LoadedModel:
    """The model that `reference` names (see ModelRegistry.find_model), or that of a run, registered or not.

    `champion` gives the newest challenger, with a warning, if no model is champion.
    """
    registry = ModelRegistry(workspace, reading=True)
    record = next((r for r in all_records(workspace) if reference in (r.run_id, r.mlflow_run_id)), None)
    if record:
        registered = registry.registered(record)
        if registered is None:
            return load_run_model(workspace, record, compute)
        found = registered
    elif reference == CHAMPION:
        found = registry.champion_or_challenger(dataset)
    else:
        found = registry.find_model(reference, dataset)
    with workspace.scratch_folder() as scratch:
        folder = whole_model(workspace, found, registry.model_files(found, scratch))
        G, config = load_generator(folder)
    return _placed(found, G, config, compute)


def load_run_model(workspace: Workspace, record: RunRecord, compute: Compute | None = None) -> LoadedModel:
    """The model in a run's own folder; it is called like the run.

    Raises:
        GanpipeError: it is damaged, or training has not written it yet.
    """
    folder = run_folder(workspace, record.run_id) / "model"
    check_model(record, folder)
    G, config = load_generator(folder)
    return _placed(ModelRef(record.run_id, "", record.mlflow_run_id, str(folder)), G, config, compute)


def _placed(
    reference: ModelRef, G: nn.Module, config: dict[str, Any], compute: Compute | None
) -> LoadedModel:
    compute = compute or choose_compute("auto", "fp32")
    compute.place(G)
    return LoadedModel(reference, G, config, compute)


def whole_model(workspace: Workspace, reference: ModelRef, folder: Path) -> Path:
    """The folder of a version's files; if they are damaged, the run folder with the same model, if that is whole."""
    damage = generator_damage(folder)
    if damage is None:
        return folder
    record = next((r for r in all_records(workspace) if r.mlflow_run_id == reference.run_id), None)
    own = run_folder(workspace, record.run_id) / "model" if record else None
    if own is None or generator_damage(own):
        return folder
    log.warning(f"{damage} The model in {own} is used, which is whole.")
    return own


def generate_images(
    model: LoadedModel,
    count: int,
    seed: int,
    out: Path,
    report: Report = ignore,
    label: str | None = None,
    truncation: float = 1.0,
) -> list[Path]:
    """Writes `count` images as PNG files, each with its origin; image k depends on (seed, k), label and ψ alone.

    Without `label` a conditional model draws labels as often as its training images had them. `truncation`: ψ, see
    `models.registry.sample`. Nothing is overwritten: a file of the same name that holds another image keeps it (see
    `_target_paths`).

    Raises:
        GanpipeError: the model knows no such label, ψ is not in (0, 1], or `out` cannot be written.
    """
    labels = model.labels(seed, range(count), label)
    require_room(out, count * BYTES_PER_FILE)
    base = model.origin("generated", seed, truncation)
    told = [{}] * count if labels is None else [{"label": model.label_names[k]} for k in labels.tolist()]
    origins = [base | {"index": k} | own for k, own in enumerate(told)]
    paths = _target_paths(out, origins, label)
    started = time.monotonic()
    for start in range(0, count, 64):
        numbers = range(start, min(start + 64, count))
        z = torch.cat([latents(seed, LATENTS, k, 1, model.z_dim, model.compute.device) for k in numbers])
        pixels = _pixels(model, z, None if labels is None else labels[start : numbers.stop], truncation)
        for k, image in zip(numbers, pixels, strict=True):
            save_png(to_pil(image.numpy()), paths[k], origins[k])
        report(Progress("generate", numbers.stop, count, "images", time.monotonic() - started))
    return paths


@torch.no_grad()
def generate_from_latents(
    model: LoadedModel, files: Sequence[LatentFile], out: Path, report: Report = ignore
) -> list[Path]:
    """Writes the image of each latent as `latent-NAME.png`, with its origin; nothing is overwritten.

    Raises:
        GanpipeError: `out` cannot be written.
    """
    require_room(out, len(files) * BYTES_PER_FILE)
    paths = []
    for file in stage(files, "generate", total=len(files), unit="images", report=report):
        origin = model.origin("generated") | {"latent": file.as_origin()}
        path = out / f"latent-{Path(file.name).stem}.png"
        if os.path.lexists(path) and not has_origin(path, origin):
            path = path.with_stem(f"{path.stem}-{sha256_of_json(origin)[:8]}")
        image = to_uint8(draw(model.G, file.latent)).cpu()[0]
        paths.append(save_png(to_pil(image.numpy()), path, origin))
    return paths


def _target_paths(out: Path, origins: list[dict[str, Any]], label: str | None) -> list[Path]:
    """A file for each image: seed, label if one is wanted, ψ if it is not 1, number.

    If one of these files holds another image (of another model, or not of ganpipe), part of the origin's hash is added
    to all names.
    """
    shown = (
        "" if label is None else "-" + re.sub(r"[^\w.-]", "_", label).encode()[:100].decode(errors="ignore")
    )
    psi = origins[0].get("truncation")
    stem = f"seed{origins[0]['seed']:04d}{shown}{f'-psi{psi:g}' if psi else ''}"
    paths = [out / f"{stem}-{k:05d}.png" for k in range(len(origins))]
    if any(
        os.path.lexists(p) and not has_origin(p, origin) for p, origin in zip(paths, origins, strict=True)
    ):
        stem += "-" + sha256_of_json(origins[0] | {"label": label})[:8]
        paths = [out / f"{stem}-{k:05d}.png" for k in range(len(origins))]
    return paths


def interpolation_frames(
    model: LoadedModel,
    stops: int,
    frames_between: int,
    seed: int,
    label: str | None = None,
    truncation: float = 1.0,
) -> Tensor:
    """uint8 `[N, H, W, C]`: a closed walk through `stops` latents, along great circles (White 2016), with one label."""
    z = torch.cat([latents(seed, LATENTS, k, 1, model.z_dim, model.compute.device) for k in range(stops)])
    path = []
    for a, b in zip(z.split(1), z.roll(-1, 0).split(1), strict=True):
        path += [great_circle(a, b, k / frames_between) for k in range(frames_between)]
    labels = model.labels(seed, range(1), label)
    return composite_on_white(
        _pixels(model, torch.cat(path), None if labels is None else labels.expand(len(path)), truncation)
    )


@torch.no_grad()
def latent_frames(model: LoadedModel, files: Sequence[LatentFile], frames_between: int) -> Tensor:
    """uint8 `[N, H, W, C]`: a closed walk through the latents of files, straight in w, along great circles in z."""
    stops = [file.latent for file in files]
    if len({stop.space for stop in stops}) > 1:
        stops = [stop.per_layer(model.G) for stop in stops]
    pairs = zip(stops, [*stops[1:], stops[0]], strict=True)
    images = [
        draw(model.G, between(a, b, k / frames_between)) for a, b in pairs for k in range(frames_between)
    ]
    return composite_on_white(to_uint8(torch.cat(images)).cpu())


def _pixels(model: LoadedModel, z: Tensor, labels: Tensor | None, truncation: float) -> Tensor:
    return to_uint8(sample(model.G, z, labels, truncation=truncation)).cpu()
