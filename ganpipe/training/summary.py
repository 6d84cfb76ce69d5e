"""The summary of a finished training, without its tensors: what records, commands and other processes keep of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Validation:
    """A validation's measurements of the average's images, `images` of them for the energy distance.

    `energy`: energy distance to held-out images, as a share of the distance between two of these. `near_duplicates`:
    share of samples nearer to another one than 95% of training images are. `copied`: share nearer to a training image
    than 95% of held-out images are. The last two are about 0.05 for real images. None: too few images are held out.
    """

    nimg: int
    images: int
    near_duplicates: float
    energy: float | None = None
    copied: float | None = None

    def scalars(self) -> dict[str, float]:
        """Returns the measured values by their names in the loss curve."""
        names = ("energy", "near_duplicates", "copied")
        values = {f"validation_{name}": getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def sentence(self) -> str:
        """For the report."""
        parts = [f"near-duplicates {self.near_duplicates:.0%} (real images: 5%)"]
        if self.energy is not None and self.copied is not None:
            parts.insert(0, f"energy {self.energy:.3f}")
            parts.append(f"copied {self.copied:.0%} (held-out images: 5%)")
        return f"Validation of the model, the average at {self.nimg:,} images: {', '.join(parts)}."


@dataclass(frozen=True)
class StartPoint:
    """The networks that a training starts from: those of a run, or the tensors of a file.

    `nimg`: images that a run's networks had seen. `weights_sha256`: of a run's networks; of a file, of its bytes.
    """

    run: str
    nimg: int
    weights_sha256: str
    file: str = ""  # its name, without folders

    @property
    def reference(self) -> str:
        """The run, or the file with its SHA-256, as `training.start_from` names them."""
        return self.run or f"{self.file}@sha256:{self.weights_sha256}"

    def __str__(self) -> str:
        return f"run {self.run}" if self.run else f"{self.file} (SHA-256 {self.weights_sha256[:12]})"


@dataclass(frozen=True)
class TrainSummary:
    """`weights_sha256`: over all networks and optimizers, in a fixed order; `notes`: sentences for the report.

    `validation`: of the model; None without validation.
    """

    nimg: int
    images_per_second: float  # of training alone
    device: str
    precision: str
    weights_sha256: str
    notes: tuple[str, ...] = ()
    validation: Validation | None = None
