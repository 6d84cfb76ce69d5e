"""The shards of a version: exactly its images, whatever happened to the dataset since, and removed when nobody needs them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ganpipe.data.anchor import anchor_rows, reference_rows
from ganpipe.data.manifest import manifest_hash, read_manifest, split_records
from ganpipe.data.shards import META, PreparedData
from ganpipe.errors import GanpipeError
from ganpipe.files import read_json
from ganpipe.settings.schema import Settings
from ganpipe.stages.data import write_page
from ganpipe.stores import dataset_versions, datasets
from ganpipe.stores.dataset_shards import load_dataset, open_version_at, version_shards
from ganpipe.stores.dataset_versions import DatasetVersion
from ganpipe.stores.dvc_cache import DatasetCache
from ganpipe.stores.run_records import new_record, save_record
from ganpipe.stores.workspace import Workspace
from tests.conftest import fill_folder


@pytest.fixture
def first(pets: Workspace, settings: Settings) -> DatasetVersion:
    """The version with 12 images."""
    return dataset_versions.open_version(pets, "pets", settings.data)


def add_more(pets: Workspace, settings: Settings, tmp_path: Path, count: int = 15) -> DatasetVersion:
    datasets.add_dataset(pets, str(fill_folder(tmp_path / "in", count)), "pets", settings.data)
    return dataset_versions.open_version(pets, "pets", settings.data)


def same(a: PreparedData, b: PreparedData) -> bool:
    sides = [(a.train, b.train), (a.holdout, b.holdout)]
    return a.version == b.version and all(torch.equal(x.pixels, y.pixels) for x, y in sides)


def kept(pets: Workspace) -> set[str]:
    return {f"{p.parent.name}.dir" for p in (pets.state / "prepared").glob(f"*/*/{META}")}


@pytest.mark.slow
def test_a_version_is_loaded_as_it_was_after_the_dataset_has_changed(
    pets: Workspace, first: DatasetVersion, settings: Settings, tmp_path: Path
) -> None:
    before = load_dataset(pets, first, settings.data)
    sums = read_json(version_shards(pets, "pets", first.version, settings.data) / META)["sha256"]
    second = add_more(pets, settings, tmp_path)
    datasets.prepare_dataset(pets, "pets", settings.data)
    datasets.remove_from_dataset(pets, "pets", ["001.png"], settings.data)
    for forget in (False, True):
        if forget:  # nothing but DVC's cache is left of it
            shutil.rmtree(pets.state / "prepared")
            shutil.rmtree(pets.root / "data" / "prepared")
        raw = manifest_hash(pets.raw("pets"))
        assert same(load_dataset(pets, first, settings.data), before)
        assert read_json(version_shards(pets, "pets", first.version, settings.data) / META)["sha256"] == sums
        assert len(load_dataset(pets, second, settings.data).train) == second.train
        assert manifest_hash(pets.raw("pets")) == raw, "the dataset itself is left as it is"
    assert not list(pets.state.glob("scratch-*"))


@pytest.mark.slow
def test_a_checkout_while_a_run_trains_changes_nothing_for_it(
    pets: Workspace, first: DatasetVersion, settings: Settings, tmp_path: Path
) -> None:
    second = add_more(pets, settings, tmp_path)
    before = load_dataset(pets, second, settings.data)
    dataset_versions.checkout_dataset(pets, "pets", first.version, settings.data)
    assert same(load_dataset(pets, second, settings.data), before)
    assert len(load_dataset(pets, first, settings.data).train) == first.train


@pytest.mark.slow
def test_grids_of_all_versions_show_the_same_held_out_images(
    pets: Workspace, first: DatasetVersion, settings: Settings, tmp_path: Path
) -> None:
    half = settings.with_values({"data.holdout_fraction": 0.5}).data
    first = dataset_versions.open_version(pets, "pets", half)
    before = load_dataset(pets, first, half)
    count = first.holdout
    assert count >= 3

    def shown(data: PreparedData) -> torch.Tensor:
        return data.holdout.rows(reference_rows(data, count))[0]

    second = add_more(pets, settings, tmp_path, 40)
    dataset_versions.checkout_dataset(pets, "pets", first.version, half)
    dataset_versions.checkout_dataset(pets, "pets", second.version, half)
    now = load_dataset(pets, second, half)
    assert len(now.holdout) > count
    assert torch.equal(shown(now), shown(before))
    assert sorted(anchor_rows(before).tolist()) == list(range(count))
    assert torch.equal(now.holdout.rows(anchor_rows(now))[0], shown(before))

    _, held_out = split_records(read_manifest(pets.raw("pets")), 0.5)
    gone = min(
        (r for r in held_out if bytes.fromhex(r.sha256) in now.first_holdout_keys), key=lambda r: r.sha256
    )
    datasets.remove_from_dataset(pets, "pets", [gone.sha256[:16]], half)
    third = load_dataset(pets, dataset_versions.open_version(pets, "pets", half), half)
    same_place = (shown(third) == shown(before)).flatten(1).all(1)
    assert same_place.tolist() == [False] + [True] * (count - 1)


def test_without_the_first_version_grids_show_what_is_held_out_now(
    pets: Workspace, first: DatasetVersion, settings: Settings, tmp_path: Path
) -> None:
    second = add_more(pets, settings, tmp_path)
    listing = DatasetCache(pets).path(first.version)
    listing.unlink()
    data = load_dataset(pets, second, settings.data)
    assert data.first_holdout_keys == ()
    assert len(reference_rows(data, 64)) == second.holdout


def test_shards_of_a_version_share_their_bytes_with_those_of_the_dataset(
    pets: Workspace, first: DatasetVersion, settings: Settings
) -> None:
    load_dataset(pets, first, settings.data)
    shared = datasets.prepared_folder(pets, "pets", settings.data)
    for path in version_shards(pets, "pets", first.version, settings.data).iterdir():
        assert path.samefile(shared / path.name)


def test_where_there_are_no_hard_links_shards_are_copied(
    pets: Workspace, first: DatasetVersion, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", no_links)
    assert len(load_dataset(pets, first, settings.data).train) == first.train


def test_a_version_is_opened_by_its_hash_from_its_images_or_its_shards_alone(
    pets: Workspace, first: DatasetVersion, settings: Settings, tmp_path: Path
) -> None:
    assert open_version_at(pets, "pets", first.version, settings.data) == first
    add_more(pets, settings, tmp_path)
    assert open_version_at(pets, "pets", first.version, settings.data) == first
    load_dataset(pets, first, settings.data)
    shutil.rmtree(pets.root / ".dvc" / "cache")
    assert open_version_at(pets, "pets", first.version, settings.data) == first
    assert len(load_dataset(pets, first, settings.data).train) == first.train
    shutil.rmtree(pets.state / "prepared")
    with pytest.raises(GanpipeError, match=r"not whole in DVC's cache"):
        open_version_at(pets, "pets", first.version, settings.data)


def test_damaged_shards_are_made_again(
    pets: Workspace, first: DatasetVersion, settings: Settings, tmp_path: Path
) -> None:
    before = load_dataset(pets, first, settings.data)
    whole = before.train.pixels.clone()
    for _ in range(2):  # while the dataset is at this version, and after
        shard = next(version_shards(pets, "pets", first.version, settings.data).glob("train*.npy"))
        data = bytearray(shard.read_bytes())
        data[-1] ^= 255
        shard.write_bytes(data)
        assert torch.equal(load_dataset(pets, first, settings.data).train.pixels, whole)
        add_more(pets, settings, tmp_path)


@pytest.mark.slow
def test_shards_that_no_unfinished_run_needs_are_removed_and_others_stay(
    pets: Workspace, first: DatasetVersion, settings: Settings, tmp_path: Path
) -> None:
    load_dataset(pets, first, settings.data)
    second = add_more(pets, settings, tmp_path)
    record = save_record(pets, new_record("pets", first.version, settings, ("cpu", "fp32")))
    load_dataset(pets, second, settings.data)
    assert kept(pets) == {first.version, second.version}
    save_record(pets, replace(record, state="failed"))
    third = add_more(pets, settings, tmp_path, 17)
    load_dataset(pets, third, settings.data)
    assert kept(pets) == {third.version}


def test_the_page_of_a_version_shows_its_images_and_not_those_that_came_later(
    pets: Workspace, first: DatasetVersion, settings: Settings, tmp_path: Path
) -> None:
    add_more(pets, settings, tmp_path)
    page = write_page(pets, first, settings.data)
    assert read_json(page.with_suffix(".json"))["images"] == 12


def test_the_pointer_of_a_version_is_its_own(
    pets: Workspace, first: DatasetVersion, settings: Settings, tmp_path: Path
) -> None:
    add_more(pets, settings, tmp_path)
    assert first.version in dataset_versions.pointer_text(pets, "pets", first.version)


def test_a_full_disk_while_a_version_is_prepared_leaves_nothing_half_made(
    pets: Workspace,
    first: DatasetVersion,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_more(pets, settings, tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.posix_fallocate", full)
        with pytest.raises(GanpipeError, match="the disk is full"):
            load_dataset(pets, first, settings.data)
    assert not kept(pets)
    assert not list(pets.state.glob("scratch-*"))
    assert len(load_dataset(pets, first, settings.data).train) == first.train
