"""Images and films that the dashboard draws from a model: a folder for each model version and settings. Imports no torch."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from ganpipe.files import sha256_of_json
from ganpipe.stores.workspace import Workspace

KEPT = 24  # folders; the ones that were asked for longest ago are deleted
COUNT = 16
FILM = "interpolation.mp4"


@dataclass(frozen=True)
class Drawing:
    """Settings of drawn images or a film. `model`: NAME/VERSION.

    `mlflow_run_id`: of the version, whose number a restored MLflow may give to another.
    `label`: None for labels as the dataset has them.
    """

    model: str
    mlflow_run_id: str | None
    seed: int = 0
    truncation: float = 1.0
    label: str | None = None

    def __str__(self) -> str:
        label = f", label {self.label}" if self.label is not None else ""
        return f"{self.model}, seed {self.seed}, ψ = {self.truncation:g}{label}"

    def images_command(self, folder: Path) -> list[str]:
        """The words of the command that draws COUNT images into `folder`."""
        return ["generate", *self._options(), "-n", str(COUNT), f"--out={folder}"]

    def film_command(self, folder: Path) -> list[str]:
        """The words of the command that writes the film into `folder`."""
        return ["interpolate", *self._options(), f"--out={folder / FILM}"]

    def _options(self) -> list[str]:
        options = [f"--model={self.model}", f"--seed={self.seed}", f"--truncation={self.truncation:g}"]
        return options + ([f"--label={self.label}"] if self.label is not None else [])


def open_drawing(workspace: Workspace, drawing: Drawing) -> Path:
    """The folder of a drawing, which is made if it is not there; the oldest ones beyond KEPT are deleted."""
    folder = workspace.drawn / sha256_of_json(asdict(drawing))[:16]
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    by_age = sorted(workspace.drawn.iterdir(), key=lambda path: path.stat().st_mtime)
    for old in by_age[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def drawn_images(folder: Path) -> list[Path]:
    """The images in the folder of a drawing, in order; none unless all are there."""
    found = sorted(folder.glob("*.png"))
    return found if len(found) >= COUNT else []
