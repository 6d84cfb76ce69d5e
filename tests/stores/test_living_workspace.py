"""Workspaces that live: below git repositories, on several disks, copied, with odd names, after a power cut."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ganpipe.compute.process_identity import start_time
from ganpipe.data.manifest import read_manifest
from ganpipe.errors import GanpipeError
from ganpipe.settings.schema import Settings
from ganpipe.stores import dataset_versions, datasets
from ganpipe.stores.addresses import Addresses, announce, running_servers
from ganpipe.stores.dataset_summaries import summarize_datasets
from ganpipe.stores.dvc import dvc, mend_repository, read_pointer
from ganpipe.stores.secret import workspace_secret
from ganpipe.stores.workspace import Workspace
from tests.conftest import activated, fill_folder
from tests.stores.test_addresses import server_of


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=n", "-c", "user.email=a@b.c")
    return subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def taken_by_git(folder: Path) -> set[str]:
    """Lists the paths that `git add -A` would take."""
    return {line.split("'")[1] for line in git(folder, "add", "-A", "-n", ".").splitlines()}


VERSIONED = {
    ".dvc/.gitignore",
    ".dvc/config",
    "data/prepare.yaml",
    "data/raw/.gitignore",
    "data/raw/pets.dvc",
}


@pytest.mark.parametrize("where", ["root", "below", "later", "worktree"])
def test_git_takes_pointers_and_neither_state_nor_images(
    tmp_path: Path, settings: Settings, where: str
) -> None:
    repository, source = tmp_path / "repository", fill_folder(tmp_path / "in", 4)
    repository.mkdir()
    root = repository / "gan" if where == "below" else repository
    if where == "worktree":
        (tmp_path / "main").mkdir()
        git(tmp_path / "main", "init", "-q")
        git(tmp_path / "main", "commit", "-q", "--allow-empty", "-m", "x")
        git(tmp_path / "main", "worktree", "add", "-q", str(repository), "-b", "other")
    elif where != "later":
        git(repository, "init", "-q")
    with activated(root) as place:
        datasets.add_dataset(place, str(source), "pets", settings.data)
    if where == "later":
        git(repository, "init", "-q")
    prefix = "gan/" if where == "below" else ""
    assert taken_by_git(repository) == {prefix + path for path in VERSIONED | {"dvc.yaml"}}


def test_a_workspace_without_data_is_ignored_by_git(workspace: Workspace) -> None:
    """One that only stylizes has no DVC."""
    assert (workspace.state / ".gitignore").read_text() == "*\n"


def test_shards_are_ignored_by_git_and_made_where_git_ignores_the_workspace(
    tmp_path: Path, settings: Settings
) -> None:
    source = fill_folder(tmp_path / "in", 4)
    git_root = tmp_path / "repository"
    git_root.mkdir()
    git(git_root, "init", "-q")
    (git_root / ".gitignore").write_text("gan/\n")
    with activated(git_root / "gan") as place:
        datasets.add_dataset(place, str(source), "pets", settings.data)
        datasets.prepare_dataset(place, "pets", settings.data)
    (git_root / ".gitignore").unlink()
    assert not {path for path in taken_by_git(git_root) if "prepared" in path}


@pytest.mark.parametrize("link", ["data", "data/raw", ".dvc", ".dvc/cache", ".ganpipe"])
def test_a_part_of_the_workspace_may_lie_on_another_disk(
    tmp_path: Path, pets: Workspace, settings: Settings, link: str
) -> None:
    disk, root = tmp_path / "disk", tmp_path / "linked"
    disk.mkdir()
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(disk)
    with activated(root) as place:
        report = datasets.add_dataset(place, str(tmp_path / "in"), "pets", settings.data)
        assert report.version == read_pointer(pets, "pets")
        assert datasets.verify_dataset(place, "pets", settings.data).lost == []
    assert any(disk.iterdir())


def test_a_cache_that_cannot_be_written_is_said_before_an_image_is_read(
    workspace: Workspace, settings: Settings, tmp_path: Path
) -> None:
    (workspace.root / ".dvc").mkdir()
    (workspace.root / ".dvc/config").write_text("[cache]\n    dir = /proc/nowhere\n")
    with pytest.raises(GanpipeError, match=r"DVC's cache /proc/nowhere\S* cannot be written .*cache\.dir"):
        datasets.add_dataset(workspace, str(fill_folder(tmp_path / "in", 4)), "pets", settings.data)
    assert not workspace.raw("pets").exists()


def test_a_damaged_pointer_or_an_absent_dataset_stops_no_other(
    pets: Workspace, settings: Settings, tmp_path: Path
) -> None:
    (pets.root / "data/raw/damaged.dvc").write_text("junk: [")
    shutil.copy(pets.root / "data/raw/pets.dvc", pets.root / "data/raw/absent.dvc")
    datasets.add_dataset(pets, str(fill_folder(tmp_path / "in", 13)), "pets", settings.data)
    datasets.add_dataset(pets, str(tmp_path / "in"), "others", settings.data)
    datasets.prepare_dataset(pets, "others", settings.data)
    found = {s.name: s.images for s in summarize_datasets(pets, settings.data)}
    assert found == {"absent": None, "damaged": None, "others": 13, "pets": 13}


def test_a_variable_in_the_path_is_not_expanded(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    with activated(tmp_path / "a $HOME ~ ?#%41") as place:
        datasets.add_dataset(place, str(fill_folder(tmp_path / "in", 4)), "pets", settings.data)
        datasets.prepare_dataset(place, "pets", settings.data)
        assert any((place.state / "dvc").rglob("cache.db"))
    assert {p.name for p in tmp_path.iterdir()} == {"home", "in", place.root.name}
    assert not any("ganpipe" in str(p) for p in home.rglob("*"))


def test_a_brace_in_the_path_is_one_sentence(tmp_path: Path, settings: Settings) -> None:
    with activated(tmp_path / "a{b}") as place:
        datasets.add_dataset(place, str(fill_folder(tmp_path / "in", 4)), "pets", settings.data)
        with pytest.raises(GanpipeError, match="has a brace, which DVC cannot use; rename the folder"):
            datasets.prepare_dataset(place, "pets", settings.data)


@pytest.mark.parametrize("torn", ["", "{", "[1"])
def test_what_a_power_cut_tore_is_made_again(
    pets: Workspace, torn: str, caplog: pytest.LogCaptureFixture
) -> None:
    locks, lock_file = pets.root / ".dvc/tmp/rwlock", pets.root / "dvc.lock"
    for path in (locks, lock_file):
        path.write_text(torn)
    assert "up to date" in dvc(pets, "status", "data/raw/pets.dvc")
    assert caplog.text.count("was damaged, and is made again") == 2
    assert (pets.state / "dvc.lock.damaged").read_text() == torn


def test_whole_files_of_dvc_are_left_alone(pets: Workspace) -> None:
    locks, lock_file = pets.root / ".dvc/tmp/rwlock", pets.root / "dvc.lock"
    locks.write_text('{"read": {}}')
    lock_file.write_text("schema: '2.0'\n")
    mend_repository(pets)
    assert locks.exists()
    assert lock_file.exists()


def test_a_copy_does_not_take_the_servers_of_its_original_for_its_own(
    workspace: Workspace, tmp_path: Path
) -> None:
    with server_of(workspace_secret(workspace)) as url:
        announce(workspace, Addresses(os.getpid(), start_time(os.getpid()), f"{url}/api", ""))
        copy = Workspace(Path(shutil.copytree(workspace.root, tmp_path / "copy")))
        assert running_servers(workspace) is not None
        assert running_servers(copy) is None


def test_damage_becomes_no_version(pets: Workspace, settings: Settings, tmp_path: Path) -> None:
    """Bytes that are not what was added: those of a new file are refused, those of an old one are not read again."""
    before, raw = read_pointer(pets, "pets"), pets.raw("pets")
    victim = raw / read_manifest(raw)[0].file
    victim.write_bytes(b"rot")
    (pets.state / "versions/pets.json").unlink()
    assert dataset_versions.open_version(pets, "pets", settings.data).version == before
    shutil.rmtree(pets.root / ".dvc/cache")
    (pets.state / "versions/pets.json").unlink()
    with pytest.raises(GanpipeError, match="has other bytes than were added"):
        dataset_versions.open_version(pets, "pets", settings.data)
    assert read_pointer(pets, "pets") == before
