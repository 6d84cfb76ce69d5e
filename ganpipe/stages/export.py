"""The export stage: a model as a file for other programs, compared with the model pixel by pixel, and its model card."""

from __future__ import annotations

import copy
import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ganpipe.compute.device import Compute
from ganpipe.compute.random import LATENTS, latents
from ganpipe.errors import GanpipeError, first_line
from ganpipe.files import require_absent, require_room, write_bytes, write_text
from ganpipe.imaging.grid import grid
from ganpipe.imaging.provenance import save_png
from ganpipe.imaging.tensors import to_uint8
from ganpipe.models.registry import sample
from ganpipe.reports.model_card import ModelCard
from ganpipe.stages.export_formats import Format, Usage, require_packages
from ganpipe.stages.generate import LoadedModel, load_model
from ganpipe.stages.trace import name_model
from ganpipe.stores.run_records import all_records
from ganpipe.stores.workspace import Workspace

if TYPE_CHECKING:
    from ganpipe.stages.export_formats import Draw

KIND = "exported samples"
SAMPLES = 16
CHECKED_BATCHES = (1, 2, 7, 16)
MOST_DIFFERENCE = 1 / 255  # between pixels from 0 to 1


@dataclass(frozen=True)
class Exported:
    """An exported model: its file, and the card and the picture beside it.

    `largest_difference`: between its pixels and the model's, from 0 to 1, over `checked_images` images.
    """

    model: str
    format: str
    file: str
    sha256: str
    bytes: int
    card: str
    picture: str
    checked_images: int
    largest_difference: float


class ExportedGenerator(nn.Module):
    """A generator as it is exported: latents `[N, z_dim]` and labels `[N]` → float32 `[N, C, H, W]` in `[-1, 1]`."""

    def __init__(self, G: nn.Module) -> None:
        super().__init__()
        self.G = copy.deepcopy(G).to(memory_format=torch.contiguous_format)
        self.eval()

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.G(z, labels).float().clamp(-1, 1)


def export_model(
    workspace: Workspace,
    reference: str,
    dataset: str | None,
    format_name: str,
    out: Path,
    license: str | None = None,
) -> Exported:
    """Exports a model (see `generate.load_model`) into the folder `out`. Nothing there is overwritten.

    Raises:
        GanpipeError: a package is missing, a file exists already, there is no such model, it cannot be exported, or the
            file draws other pixels; nothing is written then.
    """
    chosen = require_packages(format_name)
    file, card, picture = _targets(out, chosen)
    model = load_model(workspace, reference, dataset, Compute(torch.device("cpu"), "fp32"))
    data = write_file(model, chosen, format_name)
    draw = chosen.open(data)
    difference = largest_difference(model, draw)
    if not difference <= MOST_DIFFERENCE:  # nor if it is not a number
        raise GanpipeError(
            f"{model.reference} cannot be exported as {format_name}: the file's pixels differ from the model's by up to "
            f"{255 * difference:.1f}/255, and at most 1/255 is allowed. Nothing was written."
        )
    origin = model.origin(KIND, 0) | {"format": format_name}
    z, labels = _inputs(model, SAMPLES, model.labels(0, range(SAMPLES), None))
    usage = Usage(file.name, model.z_dim, model.shape.channels, bool(model.label_names))
    command = ["ganpipe", "export", name_model(str(model.reference)), "--format", format_name, "--out", "DIR"]
    told = ModelCard(
        str(model.reference),
        model.config,
        next((r for r in all_records(workspace) if r.run_id == model.config["origin"].get("run")), None),
        license,
        picture.name,
        shlex.join([*command, *(["--license", license] if license else [])]),
        chosen.example(usage),
    )
    save_png(grid(to_uint8(draw(z, labels)).numpy()), picture, origin)
    write_text(card, told.markdown())
    write_bytes(file, data)  # last: where it is, the others are, too
    return Exported(
        str(model.reference),
        format_name,
        str(file),
        hashlib.sha256(data).hexdigest(),
        len(data),
        str(card),
        str(picture),
        sum(CHECKED_BATCHES),
        difference,
    )


def _targets(out: Path, chosen: Format) -> tuple[Path, Path, Path]:
    """The file, its card and its picture. Raises GanpipeError, before any work, if one exists or cannot be written."""
    file = out / chosen.file
    found = file, out / f"{chosen.file}.md", out / f"{chosen.file}.png"
    for path in found:
        require_absent(path)
    require_room(out)
    return found


def write_file(model: LoadedModel, chosen: Format, format_name: str) -> bytes:
    """The bytes of the exported file. Raises GanpipeError if the format cannot hold this model."""
    z, labels = _inputs(model, 2)
    try:
        with torch.no_grad():
            return chosen.write(ExportedGenerator(model.G), z, labels)
    except Exception as error:  # torch's exporters raise errors of a dozen kinds
        raise GanpipeError(
            f"{model.reference} cannot be exported as {format_name}: {first_line(error)}"
        ) from error


def largest_difference(model: LoadedModel, draw: Draw) -> float:
    """The largest difference between pixels, from 0 to 1, of an exported file and its model, over batches of several sizes."""
    differences = []
    for count in CHECKED_BATCHES:
        z, labels = _inputs(model, count)
        own = sample(model.G, z, labels).clamp(-1, 1)
        differences.append((draw(z, labels) - own).abs().max() / 2)
    return float(torch.stack(differences).max())


def _inputs(model: LoadedModel, count: int, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Latents, those of `ganpipe generate --seed 0`, and labels: each in turn unless given; None if the model has none."""
    z = torch.cat([latents(0, LATENTS, k, 1, model.z_dim, torch.device("cpu")) for k in range(count)])
    if labels is None and model.label_names:
        labels = torch.arange(count) % len(model.label_names)
    return z, labels
