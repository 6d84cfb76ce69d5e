"""The project stage: photos into the latent space of a model, each with its latent, a picture and a film."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganpipe.compute.random import draw_labels
from ganpipe.data.resize import resize_image
from ganpipe.errors import GanpipeError
from ganpipe.files import require_absent, require_room, sha256_of
from ganpipe.imaging.decode import decode_image, read_image_file
from ganpipe.imaging.grid import grid
from ganpipe.imaging.image import RejectedImage
from ganpipe.imaging.provenance import save_png
from ganpipe.imaging.tensors import composite_on_white, to_float, to_uint8
from ganpipe.imaging.video import write_video
from ganpipe.models.latents import Latent, Space, latent_shape, mean_and_deviation, own_space
from ganpipe.models.projection import LAYERS, PerceptualDistance, ProjectionStep, project
from ganpipe.models.registry import MEAN_LATENTS
from ganpipe.progress import Progress, Report, ignore
from ganpipe.stages.generate import LoadedModel
from ganpipe.stages.latent_files import write_latent
from ganpipe.vgg19.network import Vgg19

FRAMES = 96  # of a film: 4 seconds
PICTURE_PX = 512  # width of a picture of small images
SUFFIXES = (".safetensors", ".png", ".mp4")
BYTES_PER_PHOTO = 2**20  # about, for images of 64 pixels


@dataclass(frozen=True)
class Projected:
    """A projected photo: its files, and the perceptual distance of the mean image and of the projection from it."""

    photo: str
    latent: str
    picture: str
    film: str
    distance_before: float
    distance: float
    seconds: float


@dataclass
class _Film:
    """Frames of a projection, each beside the photo; and the first and the last distance."""

    photo: Tensor  # uint8 [H, W, C]
    frames: list[Tensor] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)

    def add(self, step: ProjectionStep) -> None:
        pixels = composite_on_white(to_uint8(step.image)).cpu()[0]
        self.frames.append(torch.cat([self.photo, pixels], 1))
        self.distances.append(step.distance)


def project_photos(
    model: LoadedModel,
    photos: Sequence[Path],
    out: Path,
    steps: int,
    seed: int,
    space: Space | None = None,
    label: str | None = None,
    report: Report = ignore,
) -> list[Projected]:
    """Writes NAME.safetensors, NAME.png (photo and projection) and NAME.mp4 for each photo.

    `space`: w (z of a model without a mapping) unless given.

    Raises:
        GanpipeError: before any work: a photo cannot be read, a file is there already, or the model has no such space or label.
    """
    space = space or own_space(model.G)
    start, deviation = _start(model, space, seed, label)
    pixels = [_read_photo(path, model) for path in photos]
    targets = _target_paths(photos, out)
    require_room(out, BYTES_PER_PHOTO * len(photos))
    network = Vgg19(LAYERS[-1]).to(model.compute.device)
    done, began = [], time.monotonic()
    every = max(1, steps // FRAMES)
    for number, (photo, image, stem) in enumerate(zip(photos, pixels, targets, strict=True)):
        started, film = time.monotonic(), _Film(composite_on_white(image)[0])

        def tell(step: ProjectionStep, film: _Film = film, before: int = number * steps) -> None:
            film.add(step)
            note = f"distance {step.distance:.3f}"
            elapsed = time.monotonic() - began
            report(
                Progress("project", before + step.number, steps * len(photos), "steps", elapsed, note=note)
            )

        distance = PerceptualDistance(to_float(image).to(model.compute.device), network)
        latent = project(model.G, start, deviation, distance, steps, seed, tell, every)
        latent_path, picture, film_path = _write(
            model, photo, stem, latent, label, film, {"steps": steps, "seed": seed}
        )
        first, last = film.distances[0], film.distances[-1]
        seconds = round(time.monotonic() - started, 1)
        files = (str(photo), str(latent_path), str(picture), str(film_path))
        done.append(Projected(*files, first, last, seconds))
    return done


def _start(model: LoadedModel, space: Space, seed: int, label: str | None) -> tuple[Latent, float]:
    """The mean of the latents in this space, and their deviation."""
    expected = latent_shape(model.G, model.z_dim, len(model.label_names), space)
    if expected is None:
        name = model.config["model"]["name"]
        raise GanpipeError(
            f"{model.reference} is a {name}, which has no {space}; leave --space out, and it is projected into "
            f"{own_space(model.G)}."
        )
    if space == "z" and model.label_names and label is None:
        raise GanpipeError(
            f"{model.reference} is class-conditional and has no mapping: name the label of the photos with --label; "
            f"it knows {', '.join(model.label_names)}."
        )
    one, device = model.labels(seed, range(1), label), model.compute.device
    counts = list(model.config["labels"].values())
    many = (
        one.expand(MEAN_LATENTS)
        if one is not None and label
        else draw_labels(counts, seed, 0, MEAN_LATENTS, device)
    )
    mean, deviation = mean_and_deviation(model.G, model.z_dim, many, device)
    in_z = one is not None and space == "z"
    value = mean[:, None].expand(expected).clone() if space == "w+" else mean
    return Latent(space, value, label=int(one) if in_z and one is not None else None), deviation


def _read_photo(path: Path, model: LoadedModel) -> Tensor:
    """uint8 `[1, H, W, C]` of the model's shape, cropped to it."""
    try:
        return torch.from_numpy(resize_image(decode_image(read_image_file(path)), model.shape, "crop"))[None]
    except RejectedImage as rejected:
        raise GanpipeError(f"{path} cannot be projected: {rejected.sentence}.") from None


def _target_paths(photos: Sequence[Path], out: Path) -> list[Path]:
    """A path without suffix for each photo, named like it; numbered where several photos have one name."""
    seen: Counter[str] = Counter()
    stems = []
    for photo in photos:
        seen[photo.stem] += 1
        again = seen[photo.stem]
        stems.append(out / (photo.stem if again == 1 else f"{photo.stem}-{again}"))
    for stem in stems:
        for path in _files(stem):
            require_absent(path)
    return stems


def _files(stem: Path) -> list[Path]:
    return [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]


def _write(
    model: LoadedModel,
    photo: Path,
    stem: Path,
    latent: Latent,
    label: str | None,
    film: _Film,
    settings: dict[str, Any],
) -> list[Path]:
    """Writes the three files of a projection, the latent last: the others say what made it."""
    files = _files(stem)
    made = {
        "photo": {"name": photo.name, "sha256": sha256_of(photo)},
        "space": latent.space,
        "distance": round(film.distances[-1], 6),
        **({"label": label} if label is not None else {}),
    }
    origin = model.origin("projection", settings["seed"]) | settings | made
    save_png(grid(film.frames[-1][None].numpy(), columns=1, enlarge_to_px=PICTURE_PX), files[1], origin)
    frames = torch.stack(film.frames).numpy()
    write_video(frames, files[2], len(frames), origin)
    write_latent(files[0], latent, label, origin | {"kind": "latent"})
    return files
