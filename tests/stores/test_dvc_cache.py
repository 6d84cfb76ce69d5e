"""A hostile or damaged remote, cache, pointer or dvc.yaml: refused before anything is written or run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganpipe.data.manifest import read_manifest
from ganpipe.errors import GanpipeError
from ganpipe.settings.schema import Settings
from ganpipe.stores import dataset_versions, datasets
from ganpipe.stores.dvc import dvc, new_pointer, read_pointer
from ganpipe.stores.workspace import Workspace
from tests.conftest import copied, with_data

Entries = list[dict[str, Any]]


@pytest.fixture(scope="module")
def pushed_pets(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> Path:
    """`workspace` with the dataset `pets`, and the remote `store` that holds it."""
    folder = with_data(tmp_path_factory.mktemp("pushed"), "pets", 6, settings, prepare=False)
    place = Workspace(folder / "workspace")
    (place.root / ".dvc/config").write_text(
        "[core]\n    analytics = false\n    remote = store\n['remote \"store\"']\n    url = ../../store\n"
    )
    dataset_versions.push_dataset(place, "pets", settings.data)
    return folder


@pytest.fixture
def clone(pushed_pets: Path, workspace: Workspace) -> Workspace:
    """A fresh clone: the pointer and the configuration of DVC, and the remote beside it."""
    shutil.copytree(pushed_pets / "store", workspace.root.parent / "store")
    for file in ("data/raw/pets.dvc", ".dvc/config", "dvc.yaml", "data/prepare.yaml"):
        (workspace.root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pushed_pets / "workspace" / file, workspace.root / file)
    return workspace


def listing_file(workspace: Workspace) -> Path:
    version = read_pointer(workspace, "pets")
    return workspace.root.parent / "store/files/md5" / version[:2] / version[2:]


def forge(workspace: Workspace, change: Callable[[Entries], object]) -> None:
    """Changes the remote's listing, under its name."""
    path = listing_file(workspace)
    entries = json.loads(path.read_text())
    change(entries)
    path.chmod(0o644)
    path.write_text(json.dumps(entries))


def plant(workspace: Workspace, data: bytes) -> str:
    """Puts an object into the remote."""
    md5 = hashlib.md5(data).hexdigest()
    path = workspace.root.parent / "store/files/md5" / md5[:2] / md5[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return md5


def everything(root: Path) -> dict[str, bytes]:
    """All files but those that a command may write: state and cache."""
    files = (p for p in root.rglob("*") if p.is_file())
    outside = {".ganpipe", "cache", "tmp"}
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in files
        if not outside & set(p.relative_to(root).parts) and p.name != "config.local"
    }


STRAYS = ("../../../dvc.yaml", "/tmp/x", "files\\aa\\x.png", "Manifest.jsonl", "notes.txt", "files/aa/\n.png")


@pytest.mark.parametrize("stray", STRAYS)
def test_a_listing_with_an_added_entry_is_refused_and_writes_nothing(
    clone: Workspace, settings: Settings, stray: str
) -> None:
    command = plant(clone, b"stages: {prepare: {cmd: touch pwned}}\n")
    forge(clone, lambda entries: entries.append({"md5": command, "relpath": stray}))
    before = everything(clone.root.parent)
    for bring in (
        lambda: dataset_versions.pull_dataset(clone, "pets", settings.data),
        lambda: dataset_versions.open_version(clone, "pets", settings.data),
        lambda: datasets.verify_dataset(clone, "pets", settings.data),
    ):
        with pytest.raises(GanpipeError, match=r"damaged or forged.*no file of a dataset"):
            bring()
    assert everything(clone.root.parent) == before
    cache = clone.root / ".dvc/cache"
    assert [p for p in cache.rglob("*") if p.is_file()] == []


def test_an_object_name_that_leads_out_of_the_cache_is_refused(clone: Workspace, settings: Settings) -> None:
    forge(clone, lambda entries: entries[0].update(md5="../../../../../victim"))
    (clone.root.parent / "victim").write_text("mine")
    with pytest.raises(GanpipeError, match="damaged or forged"):
        dataset_versions.pull_dataset(clone, "pets", settings.data)
    assert (clone.root.parent / "victim").read_text() == "mine"


def test_a_version_whose_listing_names_more_than_its_manifest_is_refused(
    clone: Workspace, settings: Settings
) -> None:
    """Its hash is right, because the pointer is the stranger's too."""
    md5 = plant(clone, b"more")
    entries = json.loads(listing_file(clone).read_text())
    entries.append({"md5": md5, "relpath": f"files/aa/{'a' * 64}.png"})
    listing = json.dumps(entries).encode()
    version = hashlib.md5(listing).hexdigest() + ".dir"
    plant(clone, listing)
    path = clone.root.parent / "store/files/md5" / version[:2]
    (path / version[2:].removesuffix(".dir")).rename(path / version[2:])
    pointer = clone.root / "data/raw/pets.dvc"
    pointer.write_text(new_pointer("pets", version))
    with pytest.raises(GanpipeError, match="do not agree"):
        dataset_versions.pull_dataset(clone, "pets", settings.data)
    assert not clone.raw("pets").exists()


def test_a_damaged_object_of_the_remote_leaves_the_dataset_as_it_was(
    clone: Workspace, settings: Settings
) -> None:
    dataset_versions.pull_dataset(clone, "pets", settings.data)
    before = everything(clone.root)
    victim = read_manifest(clone.raw("pets"))[2]
    md5 = next(e["md5"] for e in json.loads(listing_file(clone).read_text()) if e["relpath"] == victim.file)
    for place in (clone.root.parent / "store", clone.root / ".dvc/cache"):
        path = place / "files/md5" / md5[:2] / md5[2:]
        path.chmod(0o644)
        path.write_bytes(b"rot")
    with pytest.raises(GanpipeError, match=r"left as it is.*files/.*damaged or forged|damaged or forged"):
        dataset_versions.checkout_dataset(clone, "pets", read_pointer(clone, "pets"), settings.data)
    assert everything(clone.root) == before
    assert not (clone.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]).exists()


def test_a_fifo_in_a_folder_remote_is_an_absent_file(clone: Workspace, settings: Settings) -> None:
    entry = json.loads(listing_file(clone).read_text())[0]
    path = clone.root.parent / "store/files/md5" / entry["md5"][:2] / entry["md5"][2:]
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(GanpipeError, match="it is not there"):
        dataset_versions.pull_dataset(clone, "pets", settings.data)


def test_a_forged_listing_in_the_cache_is_moved_away_and_fetched_again(
    clone: Workspace, settings: Settings
) -> None:
    version = read_pointer(clone, "pets")
    cached = clone.root / ".dvc/cache/files/md5" / version[:2] / version[2:]
    cached.parent.mkdir(parents=True)
    cached.write_text(json.dumps([{"md5": "a" * 32, "relpath": "../../x"}]))
    dataset_versions.pull_dataset(clone, "pets", settings.data)
    assert dataset_versions.open_version(clone, "pets", settings.data).images == 6
    assert cached.read_bytes() == listing_file(clone).read_bytes()


POINTERS = (
    "cmd: touch pwned\nouts:\n- {md5: VERSION, hash: md5, path: pets}\n",
    "deps:\n- {path: x}\nouts:\n- {md5: VERSION, hash: md5, path: pets}\n",
    "wdir: ../..\nouts:\n- {md5: VERSION, hash: md5, path: pets}\n",
    "outs:\n- {md5: VERSION, hash: md5, path: ../../pets}\n",
    "outs:\n- {md5: VERSION, hash: md5, path: pets, remote: other}\n",
    "outs:\n- {md5: VERSION, hash: md5, path: pets}\n- {md5: VERSION, hash: md5, path: dogs}\n",
    "[]",
    "outs: &a [*a]\n",
)


@pytest.mark.parametrize("text", POINTERS)
def test_a_pointer_that_holds_more_than_a_version_is_refused(
    clone: Workspace, settings: Settings, text: str
) -> None:
    pointer = clone.root / "data/raw/pets.dvc"
    pointer.write_text(text.replace("VERSION", read_pointer(clone, "pets")))
    before = everything(clone.root)
    for act in (dataset_versions.pull_dataset, dataset_versions.open_version, dataset_versions.push_dataset):
        with pytest.raises(GanpipeError, match=r"not a pointer that ganpipe writes|is damaged"):
            act(clone, "pets", settings.data)
    assert everything(clone.root) == before


def test_a_checkout_keeps_the_images_out_of_git(clone: Workspace, settings: Settings) -> None:
    (clone.root / ".git").mkdir()
    ignored = clone.root / "data/raw/.gitignore"
    ignored.write_text("/other\n")
    dataset_versions.pull_dataset(clone, "pets", settings.data)
    assert ignored.read_text() == "/other\n/pets\n"


def test_a_pull_restores_the_pointer_and_dataset_that_dvc_itself_knows(
    clone: Workspace, settings: Settings
) -> None:
    pointer = (clone.root / "data/raw/pets.dvc").read_text()
    dataset_versions.pull_dataset(clone, "pets", settings.data)
    assert (clone.root / "data/raw/pets.dvc").read_text() == pointer
    dvc(clone, "add", "data/raw/pets")  # the same version, written in the same words
    assert (clone.root / "data/raw/pets.dvc").read_text() == pointer


@pytest.mark.parametrize("kind", ["copy", "symlink", "hardlink"])
def test_the_cache_may_be_elsewhere_and_linked(
    pushed_pets: Path, workspace: Workspace, settings: Settings, kind: str
) -> None:
    copied(pushed_pets, workspace)
    shutil.rmtree(workspace.root / ".dvc/cache")
    shutil.rmtree(workspace.raw("pets"))
    config = workspace.root / ".dvc/config"
    config.write_text(config.read_text() + f"[cache]\n    dir = ../../elsewhere\n    type = {kind}\n")
    first = dataset_versions.open_version(workspace, "pets", settings.data)
    assert any((workspace.root.parent / "elsewhere/files/md5").rglob("*.dir"))
    assert not (workspace.root / ".dvc/cache").exists()
    victim = workspace.raw("pets") / read_manifest(workspace.raw("pets"))[0].file
    assert victim.is_symlink() == (kind == "symlink")
    victim.unlink()
    assert datasets.verify_dataset(workspace, "pets", settings.data).repaired == ["000.png"]
    datasets.remove_from_dataset(workspace, "pets", ["001.png"], settings.data)
    assert dataset_versions.checkout_dataset(workspace, "pets", first.version[:8], settings.data) == first


@pytest.mark.slow
def test_ganpipe_runs_only_its_own_stage(clone: Workspace, settings: Settings) -> None:
    dataset_versions.pull_dataset(clone, "pets", settings.data)
    stages = clone.root / "dvc.yaml"
    ours = stages.read_text()
    for forged in (
        "stages:\n  prepare:\n    cmd: touch pwned\n",
        ours.replace("cmd: python", "cmd: touch pwned; python"),
        ours.replace("do:\n", "do:\n      wdir: /\n"),
        ours.replace("vars:\n", "vars:\n  - mine.yaml\n"),
        "not: [yaml",
    ):
        stages.write_text(forged)
        with pytest.raises(GanpipeError, match="runs no other command"):
            datasets.prepare_dataset(clone, "pets", settings.data)
    assert not (clone.root / "pwned").exists()
    stages.write_text(ours + "  mine:\n    cmd: 'true'\n")  # others' stages may stand beside
    datasets.prepare_dataset(clone, "pets", settings.data)


def test_a_module_that_lies_in_the_workspace_is_not_imported(clone: Workspace, settings: Settings) -> None:
    dataset_versions.pull_dataset(clone, "pets", settings.data)
    for name in ("yaml.py", "numpy.py", "dvc.py"):
        (clone.root / name).write_text("open('pwned', 'w')\n")
    datasets.prepare_dataset(clone, "pets", settings.data)
    assert not (clone.root / "pwned").exists()
