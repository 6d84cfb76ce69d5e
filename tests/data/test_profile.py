"""The page of a dataset: what is in it is what it says, and it says for which models that is enough."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_image

from ganpipe.data.inspect import facts_of_image
from ganpipe.data.profile import BLURRED, _advice
from ganpipe.settings.schema import Settings
from ganpipe.stages import data
from ganpipe.stores import datasets
from ganpipe.stores.datasets import open_version
from ganpipe.stores.workspace import Workspace
from tests.conftest import fill_folder, noise_image


def test_the_page_counts_and_shows_what_is_there(
    workspace: Workspace, settings: Settings, tmp_path: Path
) -> None:
    folder = fill_folder(tmp_path / "in", 10)
    Image.new("RGB", (40, 30), (3, 3, 3)).save(folder / "night.png")
    noise_image(50, (8, 40), "L").save(folder / "tall gray.png")
    noise_image(51, (30, 30), "RGBA").save(folder / "clear.png")
    (folder / "<img src=x onerror=y>.png").write_text("no image")
    datasets.add_dataset(workspace, str(folder), "pets", settings.data)
    page = data.write_page(workspace, open_version(workspace, "pets", settings.data), settings.data)
    profile = json.loads(page.with_suffix(".json").read_text())
    assert (profile["images"], profile["train"] + profile["holdout"]) == (13, 13)
    assert (profile["width_px"]["low"], profile["width_px"]["high"]) == (8, 40)
    assert (profile["dark"], profile["with_alpha"], profile["smaller_than_asked"]) == (1, 1, 1)
    assert profile["gray"] == 2
    assert profile["addition"]["quarantined"][0]["code"] == "not_an_image"
    text = page.read_text()
    assert "<img src=x" not in text, "names are strangers' words"
    assert "&lt;img src=x onerror=y&gt;.png" in text
    assert "night.png" in text
    with Image.open(page.with_name("contact-sheet.png")) as sheet:
        assert sheet.convert("L").getextrema()[1] > 200


def test_the_page_is_made_once_a_version(workspace: Workspace, settings: Settings, tmp_path: Path) -> None:
    datasets.add_dataset(workspace, str(fill_folder(tmp_path / "in", 6)), "pets", settings.data)
    page = data.write_page(workspace, open_version(workspace, "pets", settings.data), settings.data)
    written = page.stat().st_mtime_ns
    assert data.write_page(workspace, open_version(workspace, "pets", settings.data), settings.data) == page
    assert page.stat().st_mtime_ns == written
    datasets.add_dataset(workspace, str(fill_folder(tmp_path / "in", 7)), "pets", settings.data)
    assert data.write_page(workspace, open_version(workspace, "pets", settings.data), settings.data) != page


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (412, "enough for fastgan, too few for dcgan"),
        (12, "enough for no model"),
        (5_000, "enough for fastgan, dcgan, mlp, r3gan, vae."),
    ],
)
def test_the_advice_names_the_models_that_so_many_images_are_enough_for(images: int, words: str) -> None:
    assert words in _advice(images, 0, images, Settings().data, 0)[0]


def test_a_blurred_photograph_is_told_from_a_sharp_one() -> None:
    photo = Image.fromarray(load_sample_image("china.jpg"))
    blurred = photo.filter(ImageFilter.GaussianBlur(8))
    assert facts_of_image(photo, *photo.size).sharpness > 4 * BLURRED
    assert facts_of_image(blurred, *blurred.size).sharpness < BLURRED
