"""The watched folder: what is in it and what arrives is imported when it is whole, and a folder may go away and come back."""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ganpipe.imaging.provenance import save_png
from ganpipe.services.watcher import POLL_S, RETRY_S, FolderWatch, list_files, watch_folder
from ganpipe.settings.schema import Settings, WatchSettings
from ganpipe.stages.data import import_folder
from ganpipe.stages.requests import FolderImport, Imported
from ganpipe.stores.dataset_sources import read_removed
from ganpipe.stores.dataset_summaries import records_at
from ganpipe.stores.datasets import add_dataset, remove_from_dataset
from ganpipe.stores.workspace import Workspace
from tests.conftest import fill_folder, noise_image


@pytest.mark.parametrize(
    ("name", "is_listed"),
    [
        ("cat/a.JPG", True),
        ("IMG_1.HEIC", True),
        ("00000.tar", True),
        ("train/metadata.csv", True),
        ("notes.txt", False),
        ("a.jpg.part", False),
        ("a.jpg.tmp", False),
        (".thumbnails/a.png", False),
        ("cat/._a.jpg", False),
        ("cat/@eaDir/a.jpg", False),
        (".ganpipe/runs/1/grid.png", False),
        ("data/raw/cats/files/00/a.png", False),
        ("data/mine/a.png", True),
    ],
)
def test_only_what_is_read_is_listed(tmp_path: Path, name: str, is_listed: bool) -> None:
    (tmp_path / ".ganpipe").mkdir()
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    assert list_files(tmp_path) == (
        {name: ((tmp_path / name).stat().st_size, os.stat(tmp_path / name).st_mtime_ns)} if is_listed else {}
    )


def test_links_to_folders_are_followed_and_never_in_a_circle(tmp_path: Path) -> None:
    watched, real = tmp_path / "Watched [1]", tmp_path / "real"
    watched.mkdir()
    real.mkdir()
    (watched / "album").symlink_to(real)
    (real / "back").symlink_to(watched)
    (watched / "lost.png").symlink_to("nowhere")
    (real / "a.png").write_bytes(b"x")
    assert set(list_files(watched) or {}) == {"album/a.png"}


@dataclass
class Watched:
    """A folder that is watched with a clock of its own. `imports`: the files that still changed at each."""

    folder: Path
    settings: WatchSettings = field(default_factory=WatchSettings)
    works: bool = True
    imports: list[frozenset[str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    clock: float = 1000.0

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.watch = FolderWatch(
            self.folder, self.settings, self.import_folder, self.said.append, lambda: self.clock
        )

    def import_folder(self, arriving: frozenset[str]) -> bool:
        self.imports.append(arriving)
        return self.works

    def write(self, name: str, content: str = "x") -> None:
        (self.folder / name).write_text(content)

    def wait(self, seconds: float, every: float = 2.0, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Lets time pass, with a look every so often."""
        end = self.clock + seconds
        while self.clock < end:
            meanwhile()
            self.watch.look()
            self.clock += every


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "watched")


def test_what_is_there_at_the_start_is_imported_once(watched: Watched) -> None:
    watched.write("a.png")
    watched.wait(8)
    assert watched.imports == [], "it may still be growing"
    watched.wait(600)
    assert watched.imports == [frozenset()]


def test_an_empty_folder_and_files_of_other_kinds_start_nothing(watched: Watched) -> None:
    watched.wait(60)
    for name in ("a.png.part", "b.tmp", "c.txt"):
        watched.write(name)
    watched.wait(60)
    assert watched.imports == []
    (watched.folder / "a.png.part").rename(watched.folder / "a.png")
    watched.wait(60)
    assert watched.imports == [frozenset()]


def test_what_ganpipe_writes_into_a_watched_folder_starts_nothing(watched: Watched) -> None:
    save_png(noise_image(0), watched.folder / "a__x.png", {"kind": "stylized"})
    watched.wait(60)
    assert watched.imports == []
    watched.write("b.png")
    watched.wait(60)
    assert watched.imports == [frozenset()]


def test_a_file_that_grows_slowly_is_waited_for(watched: Watched) -> None:
    """Ten minutes, in pieces that come eight seconds apart."""
    pieces = iter(range(1000))
    watched.wait(600, every=8, meanwhile=lambda: watched.write("a.zip", "x" * next(pieces)))
    assert watched.imports == []
    watched.wait(60)
    assert watched.imports == [frozenset()]


def test_ten_minutes_of_arrivals_are_one_import_at_the_end(watched: Watched) -> None:
    numbers = iter(range(1000))
    watched.wait(600, meanwhile=lambda: watched.write(f"{next(numbers)}.png"))
    assert watched.imports == []
    watched.wait(60)
    assert watched.imports == [frozenset()]


def test_a_folder_that_is_never_quiet_is_imported_at_most_every_so_often_without_what_still_changes(
    tmp_path: Path,
) -> None:
    watched = Watched(tmp_path / "watched", WatchSettings(at_most_every="2m"))
    numbers = iter(range(1000))
    watched.wait(600, meanwhile=lambda: watched.write(f"{next(numbers):03d}.png"))
    assert len(watched.imports) == 4
    assert all(len(arriving) == 5 for arriving in watched.imports), "quiet_s is ten seconds, five files"
    assert watched.imports[0] == {f"{k:03d}.png" for k in range(56, 61)}
    watched.wait(60)
    assert watched.imports[4:] == [frozenset()]


def test_one_endless_file_starts_nothing(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "watched", WatchSettings(at_most_every="2m"))
    pieces = iter(range(1000))
    watched.wait(600, meanwhile=lambda: watched.write("a.tar", "x" * next(pieces)))
    assert watched.imports == []


@pytest.mark.parametrize("unmounted", [False, True])
@pytest.mark.parametrize("mode", ["add", "mirror"])
def test_a_folder_that_was_away_and_is_back_is_watched_again(
    tmp_path: Path, mode: str, unmounted: bool
) -> None:
    watched = Watched(tmp_path / "watched", WatchSettings.model_validate({"mode": mode}))
    watched.write("a.png")
    watched.wait(60)
    away = watched.folder.rename(tmp_path / "elsewhere")
    if unmounted:
        watched.folder.mkdir()  # the place where its disk is mounted
    watched.wait(600)
    assert len(watched.imports) == 1
    [said] = watched.said
    assert said.startswith(f"{watched.folder} is {'empty now' if unmounted else 'gone'}")
    if unmounted:
        watched.folder.rmdir()
    away.rename(watched.folder)
    watched.wait(60)
    assert watched.said[1:] == [f"{watched.folder} is back and is watched again."]
    assert len(watched.imports) == 1, "it is as it was"
    watched.write("b.png")
    watched.wait(60)
    assert len(watched.imports) == 2


def test_a_removed_file_is_news_for_a_mirror_alone(tmp_path: Path) -> None:
    found = []
    for mode in ("add", "mirror"):
        watched = Watched(tmp_path / mode, WatchSettings.model_validate({"mode": mode}))
        watched.write("a.png")
        watched.write("b.png")
        watched.wait(60)
        (watched.folder / "b.png").unlink()
        watched.wait(60)
        found.append(len(watched.imports))
    assert found == [1, 2]


def test_an_import_that_fails_is_tried_again(watched: Watched) -> None:
    watched.works = False
    watched.write("a.png")
    watched.wait(12 + 2.5 * RETRY_S)
    assert len(watched.imports) == 2, "the second pause is twice as long"
    watched.works = True
    watched.wait(6 * RETRY_S)
    assert len(watched.imports) == 3


def test_a_slow_import_and_a_failing_disk_do_not_end_the_watch(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next look comes two seconds after an import, however long that took."""
    stop, pauses = threading.Event(), list[float]()
    looks = iter([None, OSError("no such device"), None])

    def look() -> None:
        if error := next(looks):
            raise error
        time.sleep(0.2)  # an import

    def wait(pause_s: float) -> bool:
        pauses.append(pause_s)
        return len(pauses) > 3

    monkeypatch.setattr(watched.watch, "look", look)
    monkeypatch.setattr(stop, "wait", wait)
    watch_folder(watched.watch, stop)
    assert pauses == [0.0, POLL_S, RETRY_S, POLL_S]


class Inbox:
    """A watched folder of a real workspace: each import is the real one, in this process."""

    def __init__(self, workspace: Workspace, folder: Path, mode: str = "add") -> None:
        self.workspace, self.results = workspace, list[Imported]()
        self.watched = Watched(folder, WatchSettings.model_validate({"mode": mode}))
        self.watched.watch.import_folder = self.import_folder

    def import_folder(self, arriving: frozenset[str]) -> bool:
        request = FolderImport(
            str(self.workspace.root),
            "cats",
            str(self.watched.folder),
            self.watched.settings.mode == "mirror",
            "demo",
            arriving=sorted(arriving),
        )
        self.results.append(import_folder(self.workspace, request))
        return True

    def names(self) -> set[str]:
        return {record.name for record in records_at(self.workspace, "cats")}


def test_a_growing_zip_is_imported_when_it_is_whole(workspace: Workspace, tmp_path: Path) -> None:
    inbox = Inbox(workspace, tmp_path / "watched")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(fill_folder(tmp_path / "in", 20).iterdir()):
            archive.write(path, path.name)
    data = buffer.getvalue()
    sizes = iter(range(0, len(data) + 1, len(data) // 40))
    path = inbox.watched.folder / "a.zip"

    def grow() -> None:
        path.write_bytes(data[: next(sizes, len(data))])

    inbox.watched.wait(320, every=8, meanwhile=grow)
    assert inbox.results == []
    path.write_bytes(data)
    inbox.watched.wait(60)
    [found] = inbox.results
    assert (found.accepted, found.refused, found.images) == (20, 0, 20)


@pytest.mark.parametrize("mode", ["add", "mirror"])
def test_an_archive_that_is_dropped_among_images_is_read(
    workspace: Workspace, tmp_path: Path, mode: str
) -> None:
    inbox = Inbox(workspace, fill_folder(tmp_path / "watched", 12), mode)
    inbox.watched.wait(60)
    archive = shutil.make_archive(str(tmp_path / "more"), "zip", fill_folder(tmp_path / "in", 20))
    shutil.move(archive, inbox.watched.folder)
    inbox.watched.wait(60)
    assert [(found.accepted, found.refused) for found in inbox.results] == [(12, 0), (8, 0)], (
        "12 are the same"
    )
    assert "more.zip/019.png" in inbox.names()
    (inbox.watched.folder / "more.zip").unlink()
    inbox.watched.wait(60)
    assert ("more.zip/019.png" in inbox.names()) == (mode == "add")
    assert len(inbox.names()) == (20 if mode == "add" else 12)


def test_a_file_that_stalls_half_way_is_refused_and_taken_when_it_is_whole(
    workspace: Workspace, tmp_path: Path
) -> None:
    """Its size is still, but the decoder does not agree."""
    fill_folder(tmp_path / "watched", 12)
    inbox = Inbox(workspace, tmp_path / "watched")
    half = inbox.watched.folder / "half.png"
    noise_image(99).save(half)
    data = half.read_bytes()
    half.write_bytes(data[: len(data) // 2])
    inbox.watched.wait(60)
    assert "half.png" not in inbox.names()
    assert inbox.results[0].why.startswith("half.png: ")
    half.write_bytes(data)
    inbox.watched.wait(60)
    assert "half.png" in inbox.names()
    assert [found.accepted for found in inbox.results] == [12, 1]


def test_files_that_still_change_are_left_for_the_next_import(workspace: Workspace, tmp_path: Path) -> None:
    inbox = Inbox(workspace, fill_folder(tmp_path / "watched", 12))
    inbox.import_folder(frozenset({"003.png", "004.png"}))
    assert inbox.names() == {f"{k:03d}.png" for k in range(12)} - {"003.png", "004.png"}
    assert not inbox.results[0].refused, "nobody has to know"
    inbox.import_folder(frozenset())
    assert len(inbox.names()) == 12


@pytest.mark.parametrize("mode", ["add", "mirror"])
def test_an_image_that_was_removed_by_hand_is_not_taken_again(
    workspace: Workspace, settings: Settings, tmp_path: Path, mode: str
) -> None:
    inbox = Inbox(workspace, fill_folder(tmp_path / "watched", 12), mode)
    inbox.watched.wait(60)
    remove_from_dataset(workspace, "cats", ["003.png"], settings.data)
    shutil.copy(inbox.watched.folder / "003.png", inbox.watched.folder / "copy.png")
    noise_image(50).save(inbox.watched.folder / "new.png")
    inbox.watched.wait(60)
    assert inbox.names() == {f"{k:03d}.png" for k in range(12) if k != 3} | {"new.png"}
    add_dataset(workspace, str(inbox.watched.folder / "003.png"), "cats", settings.data)
    assert "003.png" in inbox.names(), "a person asks for it"
    assert read_removed(workspace, "cats") == set()


def test_a_mirror_takes_out_what_is_gone_and_keeps_what_cannot_be_read(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = fill_folder(tmp_path / "watched", 12)
    fill_folder(folder / "album", 14)
    inbox = Inbox(workspace, folder, "mirror")
    inbox.watched.wait(60)
    assert "album/012.png" in inbox.names()
    (folder / "011.png").unlink()
    noise_image(12).save(folder / "012.png")
    (folder / "album").rename(tmp_path / "aside")
    (folder / "album").symlink_to("album")  # a folder that cannot be entered
    inbox.watched.wait(60)
    assert "011.png" not in inbox.names()
    assert "album/013.png" in inbox.names()


@pytest.mark.slow
def test_a_thousand_files_at_once_are_one_version(workspace: Workspace, tmp_path: Path) -> None:
    inbox = Inbox(workspace, fill_folder(tmp_path / "watched", 12))
    inbox.watched.wait(60)
    images = [noise_image(k, (8, 8)) for k in range(100, 1100)]
    numbers = iter(range(10))

    def drop() -> None:
        for k in range(100 * (n := next(numbers, 10)), min(100 * n + 100, 1000)):
            images[k].save(inbox.watched.folder / f"n{k}.png")

    inbox.watched.wait(60, meanwhile=drop)
    assert [found.accepted for found in inbox.results] == [12, 1000]
