"""Evaluation: closed forms, and verdicts on images whose fault is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ganpipe.compute.device import choose_compute
from ganpipe.data.shards import PreparedData, Split
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.evaluate import evaluate
from ganpipe.evaluation.extractors import DEFAULT, EXTRACTORS, extract
from ganpipe.evaluation.memorization import copied_share
from ganpipe.evaluation.metrics import METRICS, diversity, frechet_distance, kernel_distance, manifold
from ganpipe.evaluation.mode_coverage import count_modes
from ganpipe.evaluation.sampling import read_folder, sample_grid
from ganpipe.imaging.image import ImageShape
from ganpipe.imaging.provenance import read_origin
from ganpipe.settings.schema import EvaluationSettings, Settings
from ganpipe.stages.evaluate import check_generated
from ganpipe.vgg19.network import Vgg19
from ganpipe.vgg19.weights import weights_id
from tests.conftest import fill_folder

RNG = np.random.default_rng(0)
A = RNG.normal(size=(400, 6))
CPU = choose_compute("cpu", "fp32")


def test_frechet_distance_of_a_shift_is_its_squared_length() -> None:
    delta = np.array([1.0, -2.0, 0.0, 3.0, 0.5, 0.0])
    assert frechet_distance(A, A + delta) == pytest.approx(delta @ delta, rel=1e-6)
    assert frechet_distance(A, A) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_a_scale_is_its_closed_form() -> None:
    """For b = s·a with mean 0: (1 − s)² · tr(A)."""
    centerd = A - A.mean(0)
    expected = (1 - 1.5) ** 2 * np.trace(np.cov(centerd, rowvar=False))
    assert frechet_distance(centerd, 1.5 * centerd) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_is_finite_with_fewer_samples_than_dimensions() -> None:
    few = RNG.normal(size=(5, 40))
    assert 0 <= frechet_distance(few, few + 1) < 1e4


def test_kernel_distance_is_the_sum_over_pairs() -> None:
    a, b = A[:7], A[7:16] + 0.5

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 6 + 1) ** 3)

    aa = np.mean([kernel(a[i], a[j]) for i in range(7) for j in range(7) if i != j])
    bb = np.mean([kernel(b[i], b[j]) for i in range(9) for j in range(9) if i != j])
    ab = np.mean([kernel(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(aa + bb - 2 * ab)


def test_kernel_distance_grows_with_the_shift_and_is_near_zero_for_the_same_source() -> None:
    near, far = kernel_distance(A[:200], A[200:] + 0.3), kernel_distance(A[:200], A[200:] + 1.0)
    assert abs(kernel_distance(A[:200], A[200:])) < near < far


def test_manifold_of_the_same_points_is_perfect_and_of_distant_ones_nothing() -> None:
    same, far = manifold(A, A, 3), manifold(A, A + 100, 3)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert (far.precision, far.recall, far.coverage) == (0, 0, 0)


def test_one_repeated_good_image_has_precision_but_no_coverage() -> None:
    collapsed = np.repeat(A[:1], 50, 0) + RNG.normal(size=(50, 6)) * 1e-3
    found = manifold(A, collapsed, 3)
    assert found.precision == 1
    assert found.recall < 0.01
    assert found.coverage < 0.05
    assert diversity(collapsed, A) < 0.01


def test_copies_of_training_images_are_found_out() -> None:
    train, holdout, honest = A[:200], A[200:300], A[300:]
    assert copied_share(train[:80] + 1e-4, train, holdout) == 1
    assert copied_share(honest, train, holdout) < 0.1


def test_modes_are_counted_and_the_missing_ones_named() -> None:
    centers = RNG.normal(size=(5, 6)) * 10
    labels = np.arange(200) % 5
    real = centers[labels] + RNG.normal(size=(200, 6))
    fake = centers[np.arange(90) % 3] + RNG.normal(size=(90, 6))
    found = count_modes(real[:150], labels[:150], real[150:], labels[150:], fake, ("a", "b", "c", "d", "e"))
    assert found is not None
    assert (found.covered, found.total, found.missing) == (3, 5, ("d", "e"))
    assert found.kl == pytest.approx(np.log(5 / 3), abs=0.01)


def test_images_without_a_label_are_left_out_of_the_modes() -> None:
    centers = RNG.normal(size=(3, 6)) * 8
    labels = np.arange(300) % 3
    real = centers[labels] + RNG.normal(size=(300, 6))
    told = np.where(np.arange(300) % 10 == 0, -1, labels)
    found = count_modes(real[:200], told[:200], real[200:], told[200:], real[:90], ("a", "b", "c"))
    assert found is not None
    assert (found.covered, found.total, found.missing) == (3, 3, ())
    assert (
        count_modes(real[:200], np.full(200, -1), real[200:], told[200:], real[:90], ("a", "b", "c")) is None
    )


def test_modes_are_not_counted_where_labels_cannot_be_told_apart() -> None:
    labels = np.arange(200) % 5
    assert count_modes(A[:150], labels[:150], A[150:200], labels[150:], A[:50], tuple("abcde")) is None


def test_the_embedded_network_is_the_original_vgg19() -> None:
    """The first layer of the published weights: its filters react to edges, not to flat color beyond the bias."""
    network = Vgg19("relu1_2")
    first = network.convolutions["relu1_1"]
    assert tuple(first.weight.shape) == (64, 3, 3, 3)
    edge = torch.zeros(1, 3, 32, 32)
    edge[..., 16:] = 1
    found = network(edge, ("relu1_1",))["relu1_1"]
    assert found[:, :, 8:24, 15:17].std() > 3 * found[:, :, 8:24, 4:6].std(dim=(2, 3)).mean()
    assert weights_id().startswith("vgg19-")


def test_features_do_not_depend_on_the_batch() -> None:
    pixels = torch.randint(0, 256, (70, 16, 16, 3), dtype=torch.uint8)
    network = EXTRACTORS[DEFAULT].load(CPU)
    whole, last = extract(network, pixels, 32, CPU), extract(network, pixels[-1:], 32, CPU)
    np.testing.assert_allclose(whole.deep[-1:], last.deep, rtol=1e-3, atol=1e-4)


def test_distances_grow_with_blur_and_with_noise() -> None:
    from torchvision.transforms.functional import gaussian_blur

    from ganpipe.samples.flowers import draw_flower

    pixels = torch.from_numpy(np.stack([np.asarray(draw_flower(k, size_px=32)) for k in range(96)]))
    network = EXTRACTORS[DEFAULT].load(CPU)
    real = extract(network, pixels[:48], 64, CPU).deep
    floats = pixels[48:].permute(0, 3, 1, 2).float()
    scores = []
    for spread in (0.01, 1.0, 2.0):
        blurred = gaussian_blur(floats, [9, 9], [spread, spread]).to(torch.uint8).permute(0, 2, 3, 1)
        scores.append(kernel_distance(extract(network, blurred, 64, CPU).deep, real))
    assert scores[0] < scores[1] < scores[2]


def _data(pixels: torch.Tensor) -> PreparedData:
    """Half to train on, half held out."""
    labels = torch.full((len(pixels) // 2,), -1)
    train, holdout = pixels[::2], pixels[1::2]
    return PreparedData(
        "p", "v", ImageShape(3, 16, 16), (), Split.of(train, labels), Split.of(holdout, labels)
    )


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """160 smooth color images: a random 2×2 each, enlarged."""
    generator = torch.Generator().manual_seed(0)
    seeds = torch.rand(160, 3, 2, 2, generator=generator)
    large = torch.nn.functional.interpolate(seeds, (16, 16), mode="bilinear")
    return (large * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


OPTIONS = EvaluationSettings(images=80, size_px=32, neighbors=3)


def test_fresh_real_images_are_good(images: torch.Tensor) -> None:
    result = evaluate(images[:50], _data(images[50:]), OPTIONS, CPU)
    assert result.verdict == "good", result.evidence


def test_copies_are_memorized(images: torch.Tensor) -> None:
    data = _data(images)
    assert evaluate(data.train.pixels[:50], data, OPTIONS, CPU).verdict == "memorized"


def test_one_image_again_and_again_is_collapsed(images: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(-3, 4, (50, 16, 16, 3), generator=generator)
    fake = (images[:1].int() + noise).clamp(0, 255).to(torch.uint8)
    assert evaluate(fake, _data(images[2:]), OPTIONS, CPU).verdict == "collapsed"


def test_noise_is_poor(images: torch.Tensor) -> None:
    fake = torch.randint(0, 256, (50, 16, 16, 3), dtype=torch.uint8)
    result = evaluate(fake, _data(images), OPTIONS, CPU)
    assert result.verdict in ("poor", "collapsed")
    assert set(result.metrics) >= {"fd", "kd", "precision", "recall", "coverage"}
    assert all(m.samples == 50 and m.extractor.startswith("vgg19-") for m in result.metrics.values())


def test_too_few_held_out_images_are_one_sentence(prepared: PreparedData, settings: Settings) -> None:
    few = PreparedData(
        "p", "v", prepared.shape, (), prepared.train, Split.of(prepared.train.pixels[:3], torch.zeros(3))
    )
    with pytest.raises(GanpipeError, match="has 3 held-out images; evaluation needs at least 8"):
        evaluate(prepared.train.pixels, few, settings.evaluation, CPU)


def test_a_folder_of_images_can_be_judged(tmp_path: Path) -> None:
    assert read_folder(fill_folder(tmp_path / "a", 9), ImageShape(1, 16, 16)).shape == (9, 16, 16, 1)
    (tmp_path / "a/bad.png").write_bytes(b"x")
    with pytest.raises(GanpipeError, match=r"bad\.png cannot be evaluated"):
        read_folder(tmp_path / "a", ImageShape(1, 16, 16))


def test_the_sample_grid_carries_its_origin(
    prepared: PreparedData, settings: Settings, tmp_path: Path
) -> None:
    path = sample_grid(prepared.train.pixels, prepared, settings.evaluation, tmp_path / "g.png", {"run": "r"})
    assert read_origin(path) == {"run": "r", "kind": "sample grid"}


def test_every_metric_of_the_table_is_reported_with_its_extractor(images: torch.Tensor) -> None:
    """A metric is the pair (name, extractor): no name holds an extractor's."""
    result = evaluate(_data(images).holdout.pixels, _data(images), OPTIONS, CPU)
    names = [name for row in METRICS for name in row.names]
    assert set(names) <= set(result.metrics)
    assert all(result.metrics[name].extractor == EXTRACTORS[DEFAULT].describe() for name in names)
    assert not any(extractor in name for name in result.metrics for extractor in EXTRACTORS)


def test_too_few_generated_images_are_counted_before_anything_is_loaded(tmp_path: Path) -> None:
    fill_folder(tmp_path / "one", 1)
    with pytest.raises(GanpipeError, match="one has 1 image; evaluation needs at least 8 generated images"):
        check_generated(tmp_path / "one")
    check_generated(fill_folder(tmp_path / "eight", 8))
