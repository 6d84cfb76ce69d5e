"""Evaluation: the extractor, and a whole evaluation of images whose fault is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganpipe.compute.device import choose_compute
from ganpipe.data.shards import PreparedData, Split
from ganpipe.errors import GanpipeError
from ganpipe.evaluation import feature_cache
from ganpipe.evaluation.evaluate import evaluate
from ganpipe.evaluation.extractors import EXTRACTORS, Extracted, Network, choose_extractor, extract
from ganpipe.evaluation.metrics import METRICS, kernel_distance
from ganpipe.evaluation.sampling import random_rows, read_folder, sample_grid
from ganpipe.imaging.image import ImageShape
from ganpipe.imaging.provenance import read_origin
from ganpipe.settings.schema import EvaluationSettings, Settings
from ganpipe.stages.evaluate import check_generated
from ganpipe.vgg19.network import Vgg19
from ganpipe.vgg19.weights import weights_id
from tests.conftest import changed, fill_folder

CPU = choose_compute("cpu", "fp32")
OPTIONS = EvaluationSettings(images=80, size_px=32, neighbors=3)


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
    network = choose_extractor(OPTIONS).load(CPU)
    whole, last = extract(network, pixels, 32, CPU), extract(network, pixels[-1:], 32, CPU)
    np.testing.assert_allclose(whole.deep[-1:], last.deep, rtol=1e-3, atol=1e-4)


def test_distances_grow_with_blur_and_with_noise() -> None:
    from torchvision.transforms.functional import gaussian_blur

    from ganpipe.samples.flowers import draw_flower

    pixels = torch.from_numpy(np.stack([np.asarray(draw_flower(k, size_px=32)) for k in range(60)]))
    network = choose_extractor(OPTIONS).load(CPU)
    real = extract(network, pixels[:30], 32, CPU).deep
    floats = pixels[30:].permute(0, 3, 1, 2).float()
    scores = []
    for spread in (0.01, 1.0, 2.0):
        blurred = gaussian_blur(floats, [9, 9], [spread, spread]).to(torch.uint8).permute(0, 2, 3, 1)
        scores.append(kernel_distance(extract(network, blurred, 32, CPU).deep, real))
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
    """260 smooth color images: a random 2×2 each, enlarged."""
    generator = torch.Generator().manual_seed(0)
    seeds = torch.rand(260, 3, 2, 2, generator=generator)
    large = torch.nn.functional.interpolate(seeds, (16, 16), mode="bilinear")
    return (large * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def test_fresh_real_images_are_good(images: torch.Tensor) -> None:
    result = evaluate(images[:80], _data(images[80:]), OPTIONS, CPU)
    assert result.verdict == "good", result.evidence


def test_the_next_evaluation_extracts_only_generated_images(
    images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another model, of fewer images, and in a later version, whose new images are extracted, too."""
    seen: list[int] = []

    def counting(network: Network, pixels: torch.Tensor, *others: Any) -> Extracted:
        seen.append(len(pixels))
        return extract(network, pixels, *others)

    monkeypatch.setattr(feature_cache, "extract", counting)
    data = replace(_data(images[100:240]), features=tmp_path / "real")
    generated = tmp_path / "generated"
    first = evaluate(images[:40], data, OPTIONS, CPU, generated)
    assert sum(seen) == 40 + 140
    seen.clear()
    assert evaluate(images[:40], data, OPTIONS, CPU, generated).metrics == first.metrics
    assert seen == []
    evaluate(images[40:90], data, OPTIONS, CPU, generated)
    evaluate(images[50:80], data, changed(OPTIONS, images=32, seed=7), CPU, generated)
    assert seen == [50]
    seen.clear()
    later = replace(_data(images[100:248]), features=data.features)
    evaluate(images[40:90], later, OPTIONS, CPU, generated)
    assert sum(seen) == 8


def test_copies_are_memorized(images: torch.Tensor) -> None:
    data = _data(images)
    assert evaluate(data.train.pixels[:50], data, OPTIONS, CPU).verdict == "memorized"


def test_repeats_are_collapsed(images: torch.Tensor) -> None:
    fake = images[:10].repeat(6, 1, 1, 1)
    assert evaluate(fake, _data(images[10:]), OPTIONS, CPU).verdict == "collapsed"


def test_every_metric_has_extractor_samples_error_and_the_score_of_real_images(images: torch.Tensor) -> None:
    result = evaluate(images[:50], _data(images[50:]), OPTIONS, CPU)
    assert set(result.metrics) >= {
        "fd",
        "kd",
        "precision",
        "recall",
        "coverage",
        "copied",
        "inside",
        "sharpness",
    }
    assert all(m.extractor and m.samples > 0 for m in result.metrics.values())
    table = [name for row in METRICS for name in row.names]
    assert all(result.metrics[n].extractor == choose_extractor(OPTIONS).describe() for n in table)
    assert all(result.metrics[n].error is not None and result.metrics[n].floor is not None for n in table)
    assert not any(extractor in name for name in result.metrics for extractor in EXTRACTORS)


def test_copies_of_training_images_that_are_not_measured_are_found(images: torch.Tensor) -> None:
    """Five times more training images than `evaluation.images`: all of them are searched."""
    data = PreparedData(
        "p",
        "v",
        ImageShape(3, 16, 16),
        (),
        Split.of(images[:100], torch.full((100,), -1)),
        Split.of(images[100:], torch.full((60,), -1)),
    )
    measured = set(random_rows(data.train, 20, OPTIONS.seed).tolist())
    unmeasured = [row for row in range(100) if row not in measured]
    result = evaluate(images[unmeasured[:60]], data, changed(OPTIONS, images=20), CPU)
    assert result.verdict == "memorized", result.evidence


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


def test_too_few_generated_images_are_counted_before_anything_is_loaded(tmp_path: Path) -> None:
    fill_folder(tmp_path / "one", 1)
    with pytest.raises(GanpipeError, match="one has 1 image; evaluation needs at least 8 generated images"):
        check_generated(tmp_path / "one")
    check_generated(fill_folder(tmp_path / "eight", 8))


@pytest.mark.slow
def test_later_versions_are_measured_on_the_anchor_too(images: torch.Tensor) -> None:
    data = _data(images[80:])
    keys = tuple(k.to_bytes(32, "big") for k in range(len(data.holdout)))
    later = replace(data, holdout_keys=keys, first_holdout_keys=(*keys[:40], b"gone".ljust(32)))
    found = evaluate(images[:80], later, OPTIONS, CPU).metrics["energy_anchor"]
    moved = evaluate(images[:80] // 2, later, OPTIONS, CPU).metrics["energy_anchor"]
    assert "40 held-out images" in found.note
    assert found.error is not None
    assert abs(found.value) < 3 * found.error < moved.value
    first = replace(later, first_holdout_keys=keys)
    assert "energy_anchor" not in evaluate(images[:80], first, OPTIONS, CPU).metrics
