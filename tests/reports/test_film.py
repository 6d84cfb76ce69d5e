"""The film of a training: each grid with its number of images, bounded in frames and size."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from ganpipe.imaging.grid import grid
from ganpipe.imaging.provenance import save_png
from ganpipe.reports import film
from ganpipe.reports.film import FASTEST, LONG_EDGE_PX, SLOWEST, STILL_FRAMES, write_film
from tests.conftest import noise_data


def with_grids(folder: Path, numbers: list[int], side: int = 16) -> Path:
    """A run folder with grids of noise at these numbers of images."""
    pixels = noise_data(side).train.pixels.numpy()
    for k, nimg in enumerate(numbers):
        save_png(grid(pixels[k % 30 : k % 30 + 4]), folder / "grids" / f"{nimg:012d}.png", {})
    return folder


@pytest.fixture(autouse=True)
def grids_folder(tmp_path: Path) -> None:
    (tmp_path / "grids").mkdir()


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def test_a_film_shows_every_grid_in_order_and_the_last_one_longer(tmp_path: Path) -> None:
    path = write_film(with_grids(tmp_path, [100, 300, 200]), {"run": "r"})
    assert path == tmp_path / "film.mp4"
    frames = frames_of(path)
    assert len(frames) == 3 + STILL_FRAMES * SLOWEST
    shown = [frame.to_ndarray(format="gray").astype(int) for frame in frames]
    assert abs(shown[0] - shown[1]).mean() > 10, "two grids differ"
    assert abs(shown[-1] - shown[2]).mean() < 2, "the last one stays"
    with av.open(str(path)) as container:
        assert '"kind": "film of training grids"' in container.metadata["comment"]


def test_the_caption_changes_with_the_number_of_images(tmp_path: Path) -> None:
    with_grids(tmp_path, [1000])
    (tmp_path / "grids" / f"{8888:012d}.png").write_bytes((tmp_path / "grids/000000001000.png").read_bytes())
    path = write_film(tmp_path, {})
    assert path is not None
    first, second = (frame.to_ndarray(format="gray").astype(int) for frame in frames_of(path)[:2])
    height = first.shape[0] - film.CAPTION_PX
    assert abs(first[:height] - second[:height]).mean() < 2, "the same grid"
    assert abs(first[height:] - second[height:]).mean() > 1, "another number below it"


@pytest.mark.slow
def test_a_long_training_gives_a_short_and_small_film_with_its_first_and_last_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(film, "MOST_FRAMES", 20)
    numbers = [k * 100 for k in range(45)]
    shown: list[str] = []
    frame = film._frame
    monkeypatch.setattr(film, "_frame", lambda path: shown.append(path.stem) or frame(path))
    path = write_film(with_grids(tmp_path, numbers, side=512), {})
    assert path is not None
    assert (shown[0], shown[-1], len(shown)) == ("000000000000", "000000004400", 20)
    assert shown == sorted(set(shown))
    frames = frames_of(path)
    assert len(frames) <= 20 + STILL_FRAMES * FASTEST
    assert max(frames[0].width, frames[0].height - film.CAPTION_PX) <= LONG_EDGE_PX


def test_a_damaged_grid_is_left_out_and_one_grid_is_no_film(tmp_path: Path) -> None:
    with_grids(tmp_path, [100, 200])
    (tmp_path / "grids/000000000300.png").write_bytes(b"no picture")
    path = write_film(tmp_path, {})
    assert path is not None
    assert len(frames_of(path)) == 2 + STILL_FRAMES * SLOWEST
    (tmp_path / "grids/000000000200.png").unlink()
    path.unlink()
    assert write_film(tmp_path, {}) is None
    assert not path.exists()
