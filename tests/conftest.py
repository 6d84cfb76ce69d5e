"""Fixtures and helpers that the tests share: a workspace of their own, small settings, images that are known."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from PIL import Image

from ganpipe.data.shards import PreparedData, Split
from ganpipe.imaging.image import ImageShape
from ganpipe.settings.schema import Settings
from ganpipe.settings.validation import Section
from ganpipe.stores import datasets
from ganpipe.stores.workspace import Workspace

TINY = {
    "data.height_px": 16,
    "data.width_px": 16,
    "model.g_channels": 4,
    "model.d_channels": 4,
    "model.z_dim": 8,
    "training.total_images": 64,
    "training.batch_images": 8,
    "training.log_every_images": 16,
    "training.grid_every_images": 32,
    "training.save_every_images": 32,
    "training.validation_images": 0,  # VGG19 takes longer than these trainings
    "training.device": "cpu",
    "training.precision": "fp32",
    "evaluation.images": 24,
    "evaluation.size_px": 32,
    "evaluation.grid_images": 16,
    "style.preset": "draft",
    "style.long_edge_px": 48,
    "style.steps": 2,
}
# A small r3gan, in the words of `with_`.
R3 = {"model__name": "r3gan", "model__width": 0.04, "model__blocks": 1, "loss__name": "rpgan"}
PROGAN = {"model__name": "progan", "model__width": 0.02, "loss__name": "wgan-gp", "loss__drift": 1e-3}
MSGGAN = PROGAN | {"model__name": "msggan"}
# A small stylegan2 with both lazy regularizers.
STYLE = {
    "model__name": "stylegan2",
    "model__width": 0.02,
    "model__mapping_layers": 2,
    "loss__penalty_every": 3,
    "loss__path_length_weight": 2.0,
    "loss__path_length_every": 2,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills", type=int, default=50, help="of runs and of `ganpipe up`, in the slow test of kills"
    )


@pytest.fixture(scope="session")
def settings() -> Settings:
    """Everything so small that a step takes milliseconds."""
    return Settings().with_values(TINY)


def with_(settings: Settings, **values: object) -> Settings:
    """Changed settings: `training__seed=1` for training.seed."""
    return settings.with_values({k.replace("__", "."): v for k, v in values.items()})


SomeSection = TypeVar("SomeSection", bound=Section)


def changed(section: SomeSection, **values: object) -> SomeSection:
    """A section with some values changed, validated: `model_copy` would not."""
    return type(section)(**section.model_dump() | values)


@pytest.fixture(scope="session", autouse=True)
def no_torchvision_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Style transfer takes VGG19 from torchvision's cache before the embedded one: tests see an empty cache."""
    os.environ["TORCH_HOME"] = str(tmp_path_factory.mktemp("torch"))


@contextmanager
def activated(root: Path) -> Iterator[Workspace]:
    """The workspace at `root`, with the environment that goes with it; that is as before afterwards."""
    before = dict(os.environ)
    for key in [k for k in os.environ if k.startswith(("MLFLOW_", "PREFECT_", "DVC_", "GANPIPE_"))]:
        del os.environ[key]
    place = Workspace(root)
    place.root.mkdir(parents=True, exist_ok=True)
    place.activate()
    try:
        yield place
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """An empty workspace; the environment is as before afterwards."""
    with activated(tmp_path / "workspace") as place:
        yield place


# Made once a session and copied into each workspace that wants it: a dataset that DVC knows costs two or three
# processes, MLflow's migrations a second. Tests of how these come about begin with an empty workspace.


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database as its first use leaves it."""
    from ganpipe.stores.mlflow_runs import Tracker

    with activated(tmp_path_factory.mktemp("mlflow")) as place:
        Tracker(place)
        return place.state / "mlflow.db"


@pytest.fixture
def migrated(workspace: Workspace, mlflow_database: Path) -> Workspace:
    """A workspace with an empty MLflow."""
    shutil.copy(mlflow_database, workspace.state / "mlflow.db")
    return workspace


def with_data(folder: Path, name: str, count: int, settings: Settings, prepare: bool) -> Path:
    """In `folder`: `in` with `count` images, and `workspace` with the dataset that was made of them."""
    source = fill_folder(folder / "in", count)
    with activated(folder / "workspace") as place:
        datasets.add_dataset(place, str(source), name, settings.data)
        if prepare:
            datasets.prepare_dataset(place, name, settings.data)
    return folder


@pytest.fixture(scope="session")
def added_noise(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> Path:
    """The dataset `noise`: 90 images."""
    return with_data(tmp_path_factory.mktemp("added"), "noise", 90, settings, prepare=False)


@pytest.fixture(scope="session")
def prepared_noise(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> Path:
    """The same, prepared."""
    return with_data(tmp_path_factory.mktemp("prepared"), "noise", 90, settings, prepare=True)


def copied(template: Path, workspace: Workspace) -> Workspace:
    """Puts what `with_data` made into the test's own workspace, and the images beside it."""
    shutil.copytree(template, workspace.root.parent, dirs_exist_ok=True)
    return workspace


def noise_image(seed: int, size: tuple[int, int] = (20, 24), mode: str = "RGB") -> Image.Image:
    """An image of random pixels, different for every seed."""
    rng = np.random.default_rng(seed)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8), mode)


def fill_folder(folder: Path, count: int) -> Path:
    """A folder of `count` different PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        noise_image(k).save(folder / f"{k:03d}.png")
    return folder


@pytest.fixture
def prepared() -> PreparedData:
    """40 training and 12 held-out images of 16×16 color noise, in memory."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        pixels = torch.randint(0, 256, (count, 16, 16, 3), dtype=torch.uint8, generator=generator)
        return Split.of(pixels, torch.full((count,), -1))

    return PreparedData("noise", "0" * 32 + ".dir", ImageShape(3, 16, 16), (), split(40), split(12))


def noise_data(side: int = 16, count: int = 40, labels: bool = False) -> PreparedData:
    """`count` training and 20 held-out images of color noise, with three labels or none."""
    generator = torch.Generator().manual_seed(0)

    def split(n: int) -> Split:
        pixels = torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, generator=generator)
        return Split.of(pixels, torch.arange(n) % 3 if labels else torch.full((n,), -1))

    names = ("a", "b", "c") if labels else ()
    return PreparedData("noise", "v", ImageShape(3, side, side), names, split(count), split(20))


@pytest.fixture
def pixel_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validations compare some pixels instead of VGG19's features."""
    from ganpipe.training.validation import Validator

    def pixels(self: Validator, images: torch.Tensor) -> object:
        return images.reshape(len(images), -1)[:, ::37].double().numpy()

    monkeypatch.setattr(Validator, "_features", pixels)


class Killed(BaseException):
    """The equivalent of a kill -9 for the code under test: nothing is caught, nothing is cleaned up."""
