"""Versions of a data set: what came, what went, and how an earlier one comes back."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganpipe import versioning
from ganpipe.config import Settings
from ganpipe.data.records import read_manifest
from ganpipe.errors import GanpipeError
from ganpipe.workspace import Workspace
from tests.conftest import fill_folder


@pytest.fixture
def pets(workspace: Workspace, settings: Settings, tmp_path: Path) -> Workspace:
    """A workspace with the data set `pets`: 12 pictures."""
    versioning.add_dataset(workspace, str(fill_folder(tmp_path / "in", 12)), "pets", settings.data)
    return workspace


def names(workspace: Workspace) -> set[str]:
    return {r.name for r in read_manifest(workspace.raw("pets"))}


def test_images_are_removed_by_name_pattern_or_hash_and_come_back(
    pets: Workspace, settings: Settings
) -> None:
    first = versioning.dataset_info(pets, "pets", settings.data)
    by_hash = next(r for r in read_manifest(pets.raw("pets")) if r.name == "011.png").sha256[:12]
    gone, info = versioning.remove_from_dataset(
        pets, "pets", ["000.png", "00[12].png", by_hash], settings.data
    )
    assert {r.name for r in gone} == {"000.png", "001.png", "002.png", "011.png"}
    assert (info.images, info.version != first.version) == (8, True)
    assert len(list(pets.raw("pets").rglob("*.png"))) == 8

    back = versioning.checkout_dataset(pets, "pets", first.version[:10], settings.data)
    assert (back.version, back.images) == (first.version, 12)
    assert [entry["images"] for entry in versioning.versions_of(pets, "pets")] == [8, 12]
    again = versioning.checkout_dataset(pets, "pets", info.version, settings.data)
    assert again.images == 8


def test_a_pattern_that_fits_nothing_or_everything_changes_nothing(
    pets: Workspace, settings: Settings
) -> None:
    for patterns in (["000.png", "cat.png"], ["*"]):
        with pytest.raises(GanpipeError, match=r"has no image cat\.png|would leave no image"):
            versioning.remove_from_dataset(pets, "pets", patterns, settings.data)
    assert len(names(pets)) == 12


def test_replacing_keeps_what_is_in_both_on_its_side_of_the_split(
    pets: Workspace, settings: Settings, tmp_path: Path
) -> None:
    before = versioning.dataset_info(pets, "pets", settings.data)
    other = tmp_path / "other"
    other.mkdir()
    for k in (3, 4):
        shutil.copy(tmp_path / f"in/{k:03d}.png", other / f"kept{k}.png")
    Image.fromarray(np.full((20, 24, 3), 77, np.uint8)).save(other / "new.png")
    report = versioning.add_dataset(pets, str(other), "pets", settings.data, replace=True)
    assert (report.found, report.accepted) == (3, 3)
    assert names(pets) == {"kept3.png", "kept4.png", "new.png"}
    assert versioning.checkout_dataset(pets, "pets", before.version, settings.data).images == 12


def test_a_version_that_is_not_there_names_those_that_are(pets: Workspace, settings: Settings) -> None:
    version = versioning.dataset_info(pets, "pets", settings.data).version
    with pytest.raises(GanpipeError, match=version[:12]):
        versioning.checkout_dataset(pets, "pets", "deadbeef", settings.data)


def test_a_damaged_image_comes_back_from_the_cache(pets: Workspace, settings: Settings) -> None:
    victims = [pets.raw("pets") / r.file for r in read_manifest(pets.raw("pets"))[:2]]
    victims[0].write_bytes(b"other")
    victims[1].unlink()
    found = versioning.verify_dataset(pets, "pets", settings.data)
    assert (sorted(found.repaired), found.lost) == (["000.png", "001.png"], [])
    assert versioning.verify_dataset(pets, "pets", settings.data) == versioning.Verified([], [])


def test_what_is_damaged_in_the_cache_too_is_named_as_lost_or_comes_from_the_remote(
    pets: Workspace, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(GanpipeError, match=r"no DVC remote.*dvc remote add"):
        versioning.push_dataset(pets, "pets", settings.data)
    versioning.dvc(pets, "remote", "add", "-d", "store", str(tmp_path / "store"))
    assert versioning.push_dataset(pets, "pets", settings.data) == "store"

    victim = read_manifest(pets.raw("pets"))[5]
    good = (pets.raw("pets") / victim.file).read_bytes()
    for path in (pets.root / ".dvc/cache").rglob("*"):
        if path.is_file() and path.read_bytes() == good:
            path.chmod(0o644)
            path.write_bytes(b"rotten")
    (pets.raw("pets") / victim.file).write_bytes(b"rotten")
    found = versioning.verify_dataset(pets, "pets", settings.data)
    assert (found.repaired, found.lost) == ([victim.name], [])
    assert (pets.raw("pets") / victim.file).read_bytes() == good

    shutil.rmtree(pets.root / ".dvc/cache")
    shutil.rmtree(tmp_path / "store")
    (pets.raw("pets") / victim.file).unlink()
    assert versioning.verify_dataset(pets, "pets", settings.data).lost == [victim.name]


def test_a_fresh_clone_pulls_its_data_from_the_remote(
    pets: Workspace, settings: Settings, tmp_path: Path
) -> None:
    versioning.dvc(pets, "remote", "add", "-d", "store", str(tmp_path / "store"))
    versioning.push_dataset(pets, "pets", settings.data)
    clone = Workspace(tmp_path / "clone")
    (clone.root / ".dvc").mkdir(parents=True)
    (clone.root / "data/raw").mkdir(parents=True)
    shutil.copy(pets.root / ".dvc/config", clone.root / ".dvc/config")
    shutil.copy(pets.root / "data/raw/pets.dvc", clone.root / "data/raw/pets.dvc")
    assert versioning.pull_dataset(clone, "pets", settings.data) == "store"
    assert versioning.dataset_info(clone, "pets", settings.data).images == 12
    fill_folder(tmp_path / "more", 14)
    report = versioning.add_dataset(clone, str(tmp_path / "more"), "pets", settings.data)
    assert (report.accepted, report.duplicates) == (2, 12)


def test_a_damaged_shard_is_made_again(pets: Workspace, settings: Settings) -> None:
    out = versioning.prepare_dataset(pets, "pets", settings.data)
    shard = next(out.glob("train-*.npy"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    found = versioning.verify_dataset(pets, "pets", settings.data)
    assert found.repaired == [str(shard.relative_to(pets.root))]
    assert shard.read_bytes() == whole
