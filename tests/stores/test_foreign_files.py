"""Files that ganpipe did not write: never deleted, never part of a version, always named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ganpipe.errors import GanpipeError
from ganpipe.settings.schema import Settings
from ganpipe.stores import dataset_versions, datasets
from ganpipe.stores.dvc import dvc
from ganpipe.stores.dvc_cache import DatasetCache
from ganpipe.stores.workspace import Workspace
from tests.conftest import copied, fill_folder, noise_image, with_data


@pytest.fixture(scope="module")
def added_pets(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> Path:
    return with_data(tmp_path_factory.mktemp("pets"), "pets", 6, settings, prepare=False)


@pytest.fixture
def pets(workspace: Workspace, added_pets: Path) -> Workspace:
    """A workspace with the dataset `pets`: 6 pictures."""
    return copied(added_pets, workspace)


FOREIGN = {"notes.txt": b"mine", "films/a.mp4": b"film", f"files/aa/{'a' * 64}.png": b"an edited image"}


def lay(folder: Path) -> None:
    for file, data in FOREIGN.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)


def kept_aside(workspace: Workspace, name: str = "pets") -> dict[str, bytes]:
    """Reads the files that were moved aside, by their paths in the dataset."""
    folder = workspace.root / ".ganpipe/aside" / name
    found = (p for p in folder.rglob("*") if p.is_file())
    return {
        str(p.relative_to(folder).relative_to(p.relative_to(folder).parts[0])): p.read_bytes() for p in found
    }


def test_the_datasets_own_folder_is_no_source(pets: Workspace, settings: Settings, tmp_path: Path) -> None:
    lay(pets.raw("pets"))
    (tmp_path / "link").symlink_to(pets.raw("pets"))
    image = next(pets.raw("pets").rglob("files/*/*.png"))
    for source in (pets.raw("pets"), pets.raw("pets").parent, tmp_path / "link", image):
        for replace in (False, True):
            with pytest.raises(GanpipeError, match="move your images to another folder"):
                datasets.add_dataset(pets, str(source), "pets", settings.data, replace=replace)
    for above in (pets.root / "data", pets.root):
        with pytest.raises(GanpipeError, match="No image was found"):
            datasets.add_dataset(pets, str(above), "new", settings.data)
    assert (pets.raw("pets") / "notes.txt").read_bytes() == b"mine"
    assert not (pets.root / ".ganpipe/aside").exists()


def test_images_laid_by_hand_where_the_dataset_would_be_are_kept(
    workspace: Workspace, settings: Settings
) -> None:
    folder = fill_folder(workspace.raw("cats"), 4)
    (folder / "film.mp4").write_bytes(b"film")
    with pytest.raises(GanpipeError, match="move your images to another folder"):
        datasets.add_dataset(workspace, str(folder), "cats", settings.data)
    assert len(list(folder.iterdir())) == 5


def test_another_datasets_folder_may_be_read(pets: Workspace, settings: Settings) -> None:
    report = datasets.add_dataset(pets, str(pets.raw("pets")), "copy", settings.data)
    assert report.accepted == 6
    assert dataset_versions.open_version(pets, "pets", settings.data).images == 6


def test_an_addition_moves_foreign_files_aside_and_names_them(
    pets: Workspace, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lay(pets.raw("pets"))
    noise_image(50).save(tmp_path / "more.png")
    report = datasets.add_dataset(pets, str(tmp_path / "more.png"), "pets", settings.data)
    assert kept_aside(pets) == FOREIGN
    assert {file.split("Z/", 1)[1] for file in report.aside} == set(FOREIGN)
    assert all((pets.root / file).exists() for file in report.aside)
    assert "notes.txt" in caplog.text
    listing = DatasetCache(pets).listing(report.version)
    assert not set(FOREIGN) & set(listing.files)


@pytest.mark.parametrize("act", ["remove", "replace", "verify", "checkout", "pull"])
def test_no_command_deletes_a_foreign_file(
    pets: Workspace, settings: Settings, tmp_path: Path, act: str
) -> None:
    first = dataset_versions.open_version(pets, "pets", settings.data).version
    datasets.remove_from_dataset(pets, "pets", ["000.png"], settings.data)
    dvc(pets, "remote", "add", "-d", "store", str(tmp_path / "store"))
    dataset_versions.push_dataset(pets, "pets", settings.data)
    lay(pets.raw("pets"))
    if act == "remove":
        datasets.remove_from_dataset(pets, "pets", ["001.png"], settings.data)
    elif act == "replace":
        datasets.add_dataset(pets, str(tmp_path / "in"), "pets", settings.data, replace=True)
    elif act == "verify":
        found = datasets.verify_dataset(pets, "pets", settings.data)
        assert len(found.aside) == len(FOREIGN)
    elif act == "checkout":
        dataset_versions.checkout_dataset(pets, "pets", first, settings.data)
    else:
        dataset_versions.pull_dataset(pets, "pets", settings.data)
    assert kept_aside(pets) == FOREIGN
    assert not (pets.raw("pets") / "notes.txt").exists()


def test_a_checkout_deletes_no_image_that_the_cache_has_not(pets: Workspace, settings: Settings) -> None:
    first = dataset_versions.open_version(pets, "pets", settings.data)
    _, second = datasets.remove_from_dataset(pets, "pets", ["00[0-2].png"], settings.data)
    images = {p.read_bytes() for p in pets.raw("pets").rglob("files/*/*.png")}
    dataset_versions.checkout_dataset(pets, "pets", first.version, settings.data)
    datasets.remove_from_dataset(pets, "pets", ["00[3-5].png"], settings.data)
    left = {p.read_bytes() for p in pets.raw("pets").rglob("files/*/*.png")}
    for path in (pets.root / ".dvc/cache").rglob("*"):
        if path.is_file() and path.read_bytes() in left:
            path.unlink()
    dataset_versions.checkout_dataset(pets, "pets", second.version, settings.data)
    assert {p.read_bytes() for p in pets.raw("pets").rglob("files/*/*.png")} == images
    assert left <= set(kept_aside(pets).values())


def test_a_link_in_place_of_the_folder_or_inside_it_leads_nowhere(
    pets: Workspace, settings: Settings, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine")
    (pets.raw("pets") / "films").symlink_to(outside)
    datasets.add_dataset(pets, str(fill_folder(tmp_path / "in", 7)), "pets", settings.data)
    assert [p.name for p in outside.iterdir()] == ["mine.txt"]
    shutil.move(pets.raw("pets"), tmp_path / "moved")
    pets.raw("pets").symlink_to(tmp_path / "moved")
    for act in (dataset_versions.open_version, datasets.verify_dataset):
        with pytest.raises(GanpipeError, match="is a link"):
            act(pets, "pets", settings.data)
    with pytest.raises(GanpipeError, match="is a link"):
        datasets.add_dataset(pets, str(tmp_path / "in"), "pets", settings.data)
