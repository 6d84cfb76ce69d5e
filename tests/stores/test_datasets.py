"""Versions of a dataset: what came, what went, and how an earlier one comes back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganpipe.data.manifest import is_held_out, read_manifest
from ganpipe.errors import GanpipeError
from ganpipe.files import write_text
from ganpipe.settings.schema import Settings
from ganpipe.stores import dataset_versions, datasets
from ganpipe.stores.dataset_sources import source_key, sources_file
from ganpipe.stores.dataset_summaries import intent_file, versions_of
from ganpipe.stores.dvc import dvc, version_in
from ganpipe.stores.workspace import Workspace
from tests.conftest import fill_folder, noise_image


def names(workspace: Workspace) -> set[str]:
    return {r.name for r in read_manifest(workspace.raw("pets"))}


def test_images_are_removed_by_name_pattern_or_hash_and_come_back(
    pets: Workspace, settings: Settings
) -> None:
    first = dataset_versions.open_version(pets, "pets", settings.data)
    by_hash = next(r for r in read_manifest(pets.raw("pets")) if r.name == "011.png").sha256[:12]
    gone, info = datasets.remove_from_dataset(pets, "pets", ["000.png", "00[12].png", by_hash], settings.data)
    assert {r.name for r in gone} == {"000.png", "001.png", "002.png", "011.png"}
    assert (info.images, info.version != first.version) == (8, True)
    assert len(list(pets.raw("pets").rglob("*.png"))) == 8

    back = dataset_versions.checkout_dataset(pets, "pets", first.version[:10], settings.data)
    assert (back.version, back.images) == (first.version, 12)
    assert [entry["images"] for entry in versions_of(pets, "pets")] == [8, 12]
    again = dataset_versions.checkout_dataset(pets, "pets", info.version, settings.data)
    assert again.images == 8


def test_a_pattern_that_fits_nothing_or_everything_changes_nothing(
    pets: Workspace, settings: Settings
) -> None:
    for patterns in (["000.png", "cat.png"], ["*"]):
        with pytest.raises(GanpipeError, match=r"has no image cat\.png|would leave no image"):
            datasets.remove_from_dataset(pets, "pets", patterns, settings.data)
    assert len(names(pets)) == 12


def test_replacing_keeps_what_is_in_both_on_its_side_of_the_split(
    pets: Workspace, settings: Settings, tmp_path: Path
) -> None:
    before = dataset_versions.open_version(pets, "pets", settings.data)
    other = tmp_path / "other"
    other.mkdir()
    for k in (3, 4):
        shutil.copy(tmp_path / f"in/{k:03d}.png", other / f"kept{k}.png")
    Image.fromarray(np.full((20, 24, 3), 77, np.uint8)).save(other / "new.png")
    sides = {r.sha256: is_held_out(r, 0.5) for r in read_manifest(pets.raw("pets"))}
    report = datasets.add_dataset(pets, str(other), "pets", settings.data, replace=True)
    kept = {
        r.sha256: is_held_out(r, 0.5) for r in read_manifest(pets.raw("pets")) if r.name.startswith("kept")
    }
    assert kept == {k: sides[k] for k in kept}
    assert (report.found, report.accepted) == (3, 3)
    assert names(pets) == {"kept3.png", "kept4.png", "new.png"}
    assert dataset_versions.checkout_dataset(pets, "pets", before.version, settings.data).images == 12


def test_an_edited_image_is_replaced_and_its_version_comes_back(
    workspace: Workspace, settings: Settings, tmp_path: Path
) -> None:
    source = fill_folder(tmp_path / "mine", 6)
    first = datasets.add_dataset(workspace, str(source), "pets", settings.data)
    good = (source / "002.png").read_bytes()
    noise_image(99).save(source / "002.png")
    report = datasets.add_dataset(workspace, str(source), "pets", settings.data)
    assert (report.found, report.accepted, report.duplicates, report.replaced) == (6, 1, 5, 1)
    assert [r.name for r in read_manifest(workspace.raw("pets"))] == [f"{k:03d}.png" for k in range(6)]
    assert (report.train, report.holdout) == (first.train, first.holdout)
    (source / "002.png").write_bytes(good)
    assert datasets.add_dataset(workspace, str(source), "pets", settings.data).version == first.version


def test_a_mirror_removes_what_is_gone_and_never_everything(
    workspace: Workspace, settings: Settings, tmp_path: Path
) -> None:
    source, other = fill_folder(tmp_path / "mine", 6), tmp_path / "other"
    other.mkdir()
    noise_image(50).save(other / "000.png")
    datasets.add_dataset(workspace, str(source), "pets", settings.data)
    both = datasets.add_dataset(workspace, str(other), "pets", settings.data)
    assert (both.accepted, both.replaced, both.same_names) == (1, 0, 1)
    (source / "002.png").unlink()
    assert datasets.add_dataset(workspace, str(source), "pets", settings.data).removed == 0
    assert datasets.add_dataset(workspace, str(source), "pets", settings.data, mirror=True).removed == 1
    assert sorted(r.name for r in read_manifest(workspace.raw("pets"))) == [
        f"{k:03d}.png" for k in (0, 0, 1, 3, 4, 5)
    ]
    for path in source.iterdir():
        path.unlink()
    with pytest.raises(GanpipeError, match="--mirror would remove all"):
        datasets.add_dataset(workspace, str(source), "pets", settings.data, mirror=True)
    assert len(read_manifest(workspace.raw("pets"))) == 6


def test_a_source_is_the_same_however_its_path_is_written(workspace: Workspace, tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "mine", 1)
    (tmp_path / "link").symlink_to(folder)
    ways = (folder, f"{folder}/", f"{folder}/../mine", tmp_path / "link")
    assert len({source_key(workspace, str(way)) for way in ways}) == 1
    assert source_key(workspace, str(tmp_path)) != source_key(workspace, str(folder))


def test_a_damaged_list_of_sources_stops_nothing(
    workspace: Workspace, settings: Settings, tmp_path: Path
) -> None:
    source = fill_folder(tmp_path / "mine", 6)
    datasets.add_dataset(workspace, str(source), "pets", settings.data)
    sources_file(workspace, "pets").write_text('["no"')
    assert datasets.add_dataset(workspace, str(source), "pets", settings.data).duplicates == 6
    assert len(json.loads(sources_file(workspace, "pets").read_text())) == 1


def test_a_version_that_is_not_there_names_those_that_are(pets: Workspace, settings: Settings) -> None:
    version = dataset_versions.open_version(pets, "pets", settings.data).version
    with pytest.raises(GanpipeError, match=version[:12]):
        dataset_versions.checkout_dataset(pets, "pets", "deadbeef", settings.data)


def test_a_damaged_image_comes_back_from_the_cache(pets: Workspace, settings: Settings) -> None:
    victims = [pets.raw("pets") / r.file for r in read_manifest(pets.raw("pets"))[:2]]
    victims[0].write_bytes(b"other")
    victims[1].unlink()
    found = datasets.verify_dataset(pets, "pets", settings.data)
    assert (sorted(found.repaired), found.lost) == (["000.png", "001.png"], [])
    assert datasets.verify_dataset(pets, "pets", settings.data) == datasets.VerifyResult([], [])


def test_what_is_damaged_in_the_cache_too_is_named_as_lost_or_comes_from_the_remote(
    pets: Workspace, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(GanpipeError, match=r"no DVC remote.*dvc remote add"):
        dataset_versions.push_dataset(pets, "pets", settings.data)
    dvc(pets, "remote", "add", "-d", "store", str(tmp_path / "store"))
    assert dataset_versions.push_dataset(pets, "pets", settings.data) == "store"

    victim = read_manifest(pets.raw("pets"))[5]
    good = (pets.raw("pets") / victim.file).read_bytes()
    for path in (pets.root / ".dvc/cache").rglob("*"):
        if path.is_file() and path.read_bytes() == good:
            path.chmod(0o644)
            path.write_bytes(b"rotten")
    (pets.raw("pets") / victim.file).write_bytes(b"rotten")
    found = datasets.verify_dataset(pets, "pets", settings.data)
    assert (found.repaired, found.lost) == ([victim.name], [])
    assert (pets.raw("pets") / victim.file).read_bytes() == good

    shutil.rmtree(pets.root / ".dvc/cache")
    shutil.rmtree(tmp_path / "store")
    (pets.raw("pets") / victim.file).unlink()
    assert datasets.verify_dataset(pets, "pets", settings.data).lost == [victim.name]


def test_a_fresh_clone_pulls_its_data_from_the_remote(
    pets: Workspace, settings: Settings, tmp_path: Path
) -> None:
    dvc(pets, "remote", "add", "-d", "store", str(tmp_path / "store"))
    dataset_versions.push_dataset(pets, "pets", settings.data)
    clone = Workspace(tmp_path / "clone")
    (clone.root / ".dvc").mkdir(parents=True)
    (clone.root / "data/raw").mkdir(parents=True)
    shutil.copy(pets.root / ".dvc/config", clone.root / ".dvc/config")
    shutil.copy(pets.root / "data/raw/pets.dvc", clone.root / "data/raw/pets.dvc")
    assert dataset_versions.pull_dataset(clone, "pets", settings.data) == "store"
    assert dataset_versions.open_version(clone, "pets", settings.data).images == 12
    fill_folder(tmp_path / "more", 14)
    report = datasets.add_dataset(clone, str(tmp_path / "more"), "pets", settings.data)
    assert (report.accepted, report.duplicates) == (2, 12)


@pytest.mark.slow
def test_a_damaged_shard_is_made_again(pets: Workspace, settings: Settings) -> None:
    out = datasets.prepare_dataset(pets, "pets", settings.data)
    shard = next(out.glob("train-*.npy"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    found = datasets.verify_dataset(pets, "pets", settings.data)
    assert found.repaired == [str(shard.relative_to(pets.root))]
    assert shard.read_bytes() == whole


def test_a_stranger_s_list_of_shards_leads_nowhere(
    pets: Workspace, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "victim").write_text("mine")
    out = datasets.prepare_dataset(pets, "pets", settings.data)
    meta = json.loads((out / "meta.json").read_text())
    meta["sha256"]["../../../../victim"] = "0" * 64
    (out / "meta.json").write_text(json.dumps(meta))
    datasets.verify_dataset(pets, "pets", settings.data)
    datasets.prepare_dataset(pets, "pets", settings.data)
    assert (tmp_path / "victim").read_text() == "mine"
    assert "../../../../victim" not in json.loads((out / "meta.json").read_text())["sha256"]


def test_a_checkout_that_was_killed_is_finished_and_becomes_no_version_of_its_own(
    pets: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = dataset_versions.open_version(pets, "pets", settings.data)
    datasets.remove_from_dataset(pets, "pets", ["00*.png"], settings.data)
    text = versions_of(pets, "pets")[0]["pointer"]
    write_text(intent_file(pets, "pets"), text)  # and here it was killed
    write_text(pets.root / "data/raw/pets.dvc", text)
    next(pets.raw("pets").rglob("*.png")).unlink()
    assert dataset_versions.open_version(pets, "pets", settings.data) == first
    assert len(versions_of(pets, "pets")) == 2
    assert not intent_file(pets, "pets").exists()


def test_what_a_kill_left_beside_the_manifest_is_in_no_version(
    pets: Workspace, settings: Settings, tmp_path: Path
) -> None:
    before = dataset_versions.open_version(pets, "pets", settings.data).version
    datasets.remove_from_dataset(pets, "pets", ["000.png"], settings.data)
    (pets.raw("pets") / ".manifest.jsonl.abc.tmp").write_text("half")
    (pets.raw("pets") / "files/zz").mkdir()
    (pets.raw("pets") / "files/zz/orphan.png").write_bytes(b"x")
    datasets.add_dataset(pets, str(tmp_path / "in/000.png"), "pets", settings.data)
    fresh = Workspace(tmp_path / "fresh")
    fresh.root.mkdir()
    folder = tmp_path / "again"
    folder.mkdir()
    for k in (*range(1, 12), 0):
        shutil.copy(tmp_path / f"in/{k:03d}.png", folder / f"{k:03d}.png")
        if k in (11, 0):  # eleven at once, then the one that came back last
            datasets.add_dataset(fresh, str(folder), "pets", settings.data)
    assert names(fresh) == names(pets)
    found, clean = (dataset_versions.open_version(w, "pets", settings.data).version for w in (pets, fresh))
    assert found == clean != before


def test_a_listing_or_manifest_that_leads_outside_touches_nothing(
    pets: Workspace, settings: Settings, tmp_path: Path
) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    version = dataset_versions.open_version(pets, "pets", settings.data).version
    listing = pets.root / ".dvc/cache/files/md5" / version[:2] / version[2:]
    listing.chmod(0o644)
    record = read_manifest(pets.raw("pets"))[0]
    (pets.raw("pets") / record.file).unlink()
    for entry in (
        {"md5": "../../../../victim.txt", "relpath": record.file},
        {"md5": "a" * 32, "relpath": "../../../x"},
    ):
        listing.write_text(json.dumps([entry]))
        with pytest.raises(GanpipeError, match="damaged or forged"):
            datasets.verify_dataset(pets, "pets", settings.data)
    assert victim.read_text() == "mine"
    manifest = pets.raw("pets") / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace("files/", "/etc/files/", 1))
    with pytest.raises(GanpipeError, match="damaged"):
        read_manifest(pets.raw("pets"))


def test_a_pointer_from_elsewhere_names_a_version_and_nothing_else(
    pets: Workspace, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("mine")
    version = dataset_versions.open_version(pets, "pets", settings.data).version
    text = f"outs:\n- md5: {version}\n  hash: md5\n  path: ../../../notes\n"
    assert dataset_versions.checkout_pointer(pets, "pets", text, settings.data).images == 12
    assert (tmp_path / "notes/mine.txt").read_text() == "mine"
    with pytest.raises(GanpipeError, match="names no version"):
        dataset_versions.checkout_pointer(pets, "pets", "outs: []", settings.data)
    for version in ("..//../x", "*", "deadbeef" * 4):
        with pytest.raises(GanpipeError):
            dataset_versions.checkout_dataset(pets, "pets", version, settings.data)


def test_a_pointer_that_git_changed_is_not_overwritten(pets: Workspace, settings: Settings) -> None:
    first = (pets.root / "data/raw/pets.dvc").read_text()
    datasets.remove_from_dataset(pets, "pets", ["000.png"], settings.data)
    (pets.root / "data/raw/pets.dvc").write_text(first)
    with pytest.raises(GanpipeError, match="ganpipe data checkout pets@"):
        dataset_versions.open_version(pets, "pets", settings.data)
    version = version_in(first)
    assert dataset_versions.checkout_dataset(pets, "pets", version, settings.data).images == 12


def test_damage_that_was_committed_comes_back_from_an_earlier_version(
    pets: Workspace, settings: Settings, tmp_path: Path
) -> None:
    victim = read_manifest(pets.raw("pets"))[3]
    good = (pets.raw("pets") / victim.file).read_bytes()
    (pets.raw("pets") / victim.file).write_bytes(b"rot")
    datasets.add_dataset(pets, str(fill_folder(tmp_path / "in", 13)), "pets", settings.data)
    datasets.verify_dataset(pets, "pets", settings.data)
    assert (pets.raw("pets") / victim.file).read_bytes() == good


def test_adding_the_source_again_brings_a_lost_image_back(
    pets: Workspace, settings: Settings, tmp_path: Path
) -> None:
    victim = pets.raw("pets") / read_manifest(pets.raw("pets"))[3].file
    good = victim.read_bytes()
    victim.unlink()
    datasets.add_dataset(pets, str(tmp_path / "in"), "pets", settings.data)
    assert victim.read_bytes() == good


def test_preparing_says_which_image_is_not_what_was_added(pets: Workspace, settings: Settings) -> None:
    records = read_manifest(pets.raw("pets"))
    shutil.copy(pets.raw("pets") / records[0].file, pets.raw("pets") / records[1].file)
    with pytest.raises(GanpipeError, match=r"001\.png.*other bytes than were added.*data verify pets"):
        datasets.prepare_dataset(pets, "pets", settings.data)


def test_a_version_and_its_manifest_are_read_under_one_lock(
    pets: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an addition in between would give the earlier version's name to the later images."""
    real, calls = dataset_versions.manifest_hash, []

    def while_locked(folder: Path) -> str:
        with pytest.raises(GanpipeError, match="busy with data"), pets.lock("data", wait_s=0.0):
            pass
        calls.append(folder)
        return real(folder)

    monkeypatch.setattr(dataset_versions, "manifest_hash", while_locked)
    opened = dataset_versions.open_version(pets, "pets", settings.data)
    assert calls
    assert opened.manifest_sha256 == real(pets.raw("pets"))
