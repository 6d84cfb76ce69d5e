from pathlib import Path

import numpy as np
import pytest
import torch

from ganpipe.compute.device import Compute
from ganpipe.evaluation import feature_cache
from ganpipe.evaluation.extractors import ChosenExtractor, Extracted, Extractor, Network
from ganpipe.evaluation.feature_cache import FeatureExtractor

CPU = Compute(torch.device("cpu"), "fp32")


class Loads:
    """Counts how often the network is loaded, and the images that it sees."""

    def __init__(self) -> None:
        self.count = self.images = 0

    def __call__(self, weights: Path, compute: Compute) -> Network:
        self.count += 1
        return self.network

    def network(self, images: torch.Tensor, size_px: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.images += len(images)
        return images.mean((2, 3)), images.amax((2, 3))

    def chosen(self) -> ChosenExtractor:
        return ChosenExtractor("mean color", Extractor("", "", Path, self), Path(), "0")


@pytest.fixture
def loads() -> Loads:
    return Loads()


def pixels(seed: int, count: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 16, 16, 3), generator=generator).to(torch.uint8)


def same(a: Extracted, b: Extracted) -> bool:
    return np.array_equal(a.deep, b.deep) and np.array_equal(a.wide, b.wide)


def test_the_same_pixels_are_extracted_once_by_any_process(tmp_path: Path, loads: Loads) -> None:
    first = FeatureExtractor(loads.chosen(), 32, CPU, tmp_path)(pixels(0))
    again = FeatureExtractor(loads.chosen(), 32, CPU, tmp_path)(pixels(0))
    assert same(first, again)
    assert loads.count == 1


def test_an_image_is_extracted_once_whatever_set_it_is_in(tmp_path: Path, loads: Loads) -> None:
    """As in a new version of a dataset, with other images drawn from it, or with more of them."""
    mixed = torch.cat([pixels(1)[:2], pixels(0).flip(0), pixels(1)[:3]])
    FeatureExtractor(loads.chosen(), 32, CPU, tmp_path)(pixels(0))
    found = FeatureExtractor(loads.chosen(), 32, CPU, tmp_path)(mixed)
    assert loads.images == 5 + 3
    assert same(found, FeatureExtractor(loads.chosen(), 32, CPU)(mixed))


def test_images_of_a_dataset_are_kept_in_its_own_folder(tmp_path: Path, loads: Loads) -> None:
    extract = FeatureExtractor(loads.chosen(), 32, CPU, tmp_path / "generated")
    extract(pixels(0), folder=tmp_path / "real")
    extract(pixels(1))
    assert [len(list((tmp_path / name).glob("*.npz"))) for name in ("real", "generated")] == [1, 1]


def test_other_pixels_sizes_precisions_and_shapes_are_extracted_anew(tmp_path: Path, loads: Loads) -> None:
    bf16 = Compute(CPU.device, "bf16")
    for size_px, compute, images in (
        (32, CPU, pixels(0)),
        (32, CPU, pixels(1)),
        (48, CPU, pixels(0)),
        (32, bf16, pixels(0)),
        (32, CPU, pixels(0).reshape(5, 32, 8, 3)),
    ):
        FeatureExtractor(loads.chosen(), size_px, compute, tmp_path)(images)
    assert loads.count == len(list(tmp_path.glob("*.npz"))) == 5


def test_a_damaged_file_is_extracted_again(tmp_path: Path, loads: Loads) -> None:
    first = FeatureExtractor(loads.chosen(), 32, CPU, tmp_path)(pixels(0, 300))
    (path,) = tmp_path.glob("*.npz")
    whole = bytearray(path.read_bytes())
    for damaged in (
        b"",
        bytes(whole[:900]),
        bytes(whole[:900]) + bytes([whole[900] ^ 1]) + bytes(whole[901:]),
    ):
        path.write_bytes(damaged)
        assert same(FeatureExtractor(loads.chosen(), 32, CPU, tmp_path)(pixels(0, 300)), first)
    assert loads.count == 4


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path, loads: Loads) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        FeatureExtractor(loads.chosen(), 32, CPU, tmp_path / "file")(pixels(0))
    assert loads.count == 2


def test_the_sets_that_were_used_last_are_kept(
    tmp_path: Path, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract = FeatureExtractor(loads.chosen(), 32, CPU, tmp_path)
    extract(pixels(0))
    (first,) = tmp_path.glob("*.npz")
    monkeypatch.setattr(feature_cache, "MOST_BYTES", 2 * first.stat().st_size)
    for seed in (1, 0, 2):
        extract(pixels(seed))
    assert len(list(tmp_path.glob("*.npz"))) == 2
    assert first.exists()
