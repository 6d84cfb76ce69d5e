"""Reading never writes, locks or fetches; one bad dataset stops no other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ganpipe.settings.schema import Settings
from ganpipe.stores import dataset_summaries, datasets
from ganpipe.stores.dataset_summaries import versions_of
from ganpipe.stores.dvc import dvc, read_pointer
from ganpipe.stores.dvc_cache import DatasetCache
from ganpipe.stores.workspace import Workspace
from tests.conftest import copied, with_data

READING = (
    ("data", "list"),
    ("status",),
    ("data", "show", "pets"),
    ("data", "diff", "pets@VERSION", "pets"),
)


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> Path:
    """The dataset `pets` at its second version: 5 pictures of 6."""
    folder = with_data(tmp_path_factory.mktemp("pets"), "pets", 6, settings, prepare=False)
    place = Workspace(folder / "workspace")
    datasets.remove_from_dataset(place, "pets", ["000.png"], settings.data)
    return folder


@pytest.fixture
def pets(workspace: Workspace, two_versions: Path) -> Workspace:
    return copied(two_versions, workspace)


def ganpipe(
    workspace: Workspace, *words: str, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-m", "ganpipe", *words, "--workspace", str(workspace.root), "--json"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def reading(workspace: Workspace) -> list[tuple[str, ...]]:
    version = versions_of(workspace, "pets")[0]["version"]
    return [tuple(word.replace("VERSION", version) for word in words) for words in READING]


def tree(root: Path) -> dict[str, tuple[int, int]]:
    return {str(p.relative_to(root)): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in root.rglob("*")}


def test_a_dataset_that_is_only_a_pointer_is_listed_and_nothing_is_written(
    pets: Workspace, settings: Settings
) -> None:
    version = read_pointer(pets, "pets")
    for path in (pets.raw("pets"), pets.root / ".dvc", pets.state):
        shutil.rmtree(path)
    before = tree(pets.root)
    for words in (("data", "list"), ("status",)):
        (found,) = json.loads(ganpipe(pets, *words).stdout.splitlines()[-1])["datasets"]
        assert (found["version"], found["present"], found["images"]) == (version, False, None)
        assert found["problem"] == "not here; bring it with: ganpipe data pull pets"
    shown = json.loads(ganpipe(pets, "data", "show", "pets").stdout)
    assert (shown["version"], shown["present"]) == (version, False)
    refused = ganpipe(pets, "data", "diff", "pets", "pets")
    assert (refused.returncode, "ganpipe data pull pets" in refused.stderr) == (1, True)
    assert tree(pets.root) == before


@pytest.mark.slow
def test_nobody_who_reads_waits_for_the_lock_or_needs_the_remote(pets: Workspace, settings: Settings) -> None:
    dvc(pets, "remote", "add", "-d", "store", str(pets.root / "no/such/folder"))
    with pets.lock("data"):
        for words in reading(pets):
            done = ganpipe(pets, *words)
            assert done.returncode == 0, (words, done.stderr)


def _can_mount_read_only() -> bool:
    done = (
        subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
        if shutil.which("unshare")
        else None
    )
    return done is not None and done.returncode == 0


@pytest.mark.skipif(not _can_mount_read_only(), reason="needs the right to mount")
@pytest.mark.slow
def test_a_workspace_on_a_read_only_mount_can_be_read(pets: Workspace, settings: Settings) -> None:
    place = str(pets.root)
    mount = f'mount --bind "{place}" "{place}" && mount -o remount,bind,ro "{place}" && ! touch "{place}/x" && exec "$@"'
    for words in reading(pets):
        done = ganpipe(pets, *words, before=("unshare", "-m", "sh", "-c", mount, "sh"))
        assert done.returncode == 0, (words, done.stderr)
        if words[1:2] == ("show",):
            assert (json.loads(done.stdout)["images"], json.loads(done.stdout)["page"]) == (5, None)


def test_one_bad_dataset_stops_no_other(pets: Workspace, settings: Settings) -> None:
    raw = pets.root / "data/raw"
    (raw / "absent.dvc").write_text((raw / "pets.dvc").read_text().replace("path: pets", "path: absent"))
    (raw / "broken.dvc").write_text("outs: [")
    (raw / "evil.dvc").write_text((raw / "pets.dvc").read_text() + "cmd: touch pwned\n")
    (raw / "my cats.dvc").write_text("outs: []")
    shutil.copytree(raw / "pets", raw / "half")
    manifest = raw / "half/manifest.jsonl"
    manifest.write_text(manifest.read_text()[:-20])
    found = {s.name: s for s in dataset_summaries.summarize_datasets(pets, settings.data)}
    assert set(found) == {"absent", "broken", "evil", "half", "my cats", "pets"}
    assert (found["pets"].images, found["pets"].problem) == (5, None)
    assert not any(found[name].present for name in ("absent", "broken", "evil", "half", "my cats"))
    assert "damaged" in str(found["half"].problem)
    assert "not a pointer" in str(found["evil"].problem)


def test_a_dataset_that_was_changed_or_half_checked_out_says_so(pets: Workspace, settings: Settings) -> None:
    def problem() -> Any:
        return dataset_summaries.summarize_dataset(pets, "pets", settings.data).problem

    manifest = pets.raw("pets") / "manifest.jsonl"
    whole = manifest.read_text()
    manifest.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    assert "changed since this version" in problem()
    manifest.write_text(whole)
    assert problem() is None
    dataset_summaries.intent_file(pets, "pets").write_text("")
    assert "half checked out" in problem()


def test_a_cached_image_that_is_not_what_it_was_is_not_shown(pets: Workspace, settings: Settings) -> None:
    version = versions_of(pets, "pets")[0]["version"]
    reference = f"pets@{version[:10]}"
    records = dataset_summaries.records_at(pets, reference)
    assert len(records) == 6
    listing = DatasetCache(pets).listing(version)
    victim = DatasetCache(pets).path(listing.files[records[0].file])
    os.chmod(victim, 0o644)
    victim.write_bytes(b"rot")
    assert len(dataset_summaries.pictures_at(pets, reference, records)) == 5


def test_an_evaluation_is_refused_before_a_lock_is_taken_or_a_byte_fetched(
    pets: Workspace, settings: Settings
) -> None:
    from ganpipe.errors import GanpipeError
    from ganpipe.stages.evaluate import check_data

    with pytest.raises(GanpipeError, match=r"of which . are held out; evaluation needs"):
        check_data(pets, "pets", settings)
    shutil.rmtree(pets.raw("pets"))
    before = tree(pets.root)
    with pytest.raises(GanpipeError, match="There is no dataset dogs"):
        check_data(pets, "dogs", settings)
    assert tree(pets.root) == before


@pytest.mark.skipif(not _can_mount_read_only(), reason="needs the right to mount")
def test_a_change_on_a_read_only_mount_is_refused_in_one_sentence(pets: Workspace) -> None:
    place = str(pets.root)
    mount = f'mount --bind "{place}" "{place}" && mount -o remount,bind,ro "{place}" && exec "$@"'
    done = ganpipe(
        pets, "data", "remove", "pets", "001.png", before=("unshare", "-m", "sh", "-c", mount, "sh")
    )
    assert (done.returncode, "cannot be written (Read-only file system)" in done.stderr) == (1, True)
