"""The folder watcher: what `data add` would read starts a run, and nothing else does."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from ganpipe.imaging.provenance import save_png
from ganpipe.services import watcher
from ganpipe.services.watcher import concerns_dataset, quiet_changes
from tests.conftest import noise_image


@pytest.mark.parametrize(
    ("name", "concerns"),
    [
        ("cat/a.JPG", True),
        ("IMG_1.HEIC", True),
        ("00000.tar", True),
        ("train/metadata.csv", True),
        ("notes.txt", False),
        ("a.jpg.part", False),
        (".thumbnails/a.png", False),
        ("cat/._a.jpg", False),
        ("cat/@eaDir/a.jpg", False),
        (".ganpipe/runs/1/grid.png", False),
        ("data/raw/cats/files/00/a.png", False),
        ("data/mine/a.png", True),
    ],
)
def test_only_what_is_read_starts_a_run(tmp_path: Path, name: str, concerns: bool) -> None:
    (tmp_path / ".ganpipe").mkdir()
    assert concerns_dataset(tmp_path, tmp_path / name) is concerns


def test_what_ganpipe_writes_into_a_watched_folder_starts_no_run(tmp_path: Path) -> None:
    path = save_png(noise_image(0), tmp_path / "art/a__x.png", {"kind": "stylized"})
    assert not concerns_dataset(tmp_path, path)


def test_an_image_in_a_linked_folder_is_seen_and_a_hidden_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "QUIET_S", 0.2)
    watched, real = tmp_path / "Watched [1]", tmp_path / "real"
    (watched / ".thumbnails").mkdir(parents=True)
    real.mkdir()
    (watched / "album").symlink_to(real)
    stop, bursts = threading.Event(), list[float]()

    def collect() -> None:
        for _ in quiet_changes(watched, stop):
            bursts.append(time.monotonic())

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    time.sleep(0.5)
    noise_image(0).save(watched / ".thumbnails/a.png")
    time.sleep(1.0)
    assert bursts == []
    noise_image(1).save(real / "b.png")
    until = time.monotonic() + 5
    while not bursts and time.monotonic() < until:
        time.sleep(0.05)
    stop.set()
    thread.join(5)
    assert len(bursts) == 1
