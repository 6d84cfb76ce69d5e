"""Validation during training: the best checkpoint, and warnings of repeats and copies."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ganpipe.compute.checkpoints import best_folder, load_checkpoint
from ganpipe.compute.device import Compute
from ganpipe.data.shards import PreparedData, Split
from ganpipe.imaging.image import ImageShape
from ganpipe.imaging.tensors import to_float
from ganpipe.settings.schema import Settings
from ganpipe.training import divergence, validation
from ganpipe.training.callbacks import Callbacks, Point
from ganpipe.training.divergence import Divergence
from ganpipe.training.summary import Validation
from ganpipe.training.trainer import train
from ganpipe.training.validation import SAMPLES, Validated, Validator, find_warnings
from tests.conftest import noise_data, with_

CPU = torch.device("cpu")


@pytest.fixture
def validating(settings: Settings) -> Settings:
    return with_(settings, training__validation_images=32, training__validate_every_images=16)


def blobs(count: int, seed: int) -> Tensor:
    """Images of a square of random place, size and color on a random color."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.empty(count, 16, 16, 3, dtype=torch.uint8)
    for image in images:
        y, x, side = (int(torch.randint(1, 9, (), generator=generator)) for _ in range(3))
        image[:] = torch.randint(0, 256, (3,), generator=generator)
        image[y : y + side, x : x + side] = torch.randint(0, 256, (3,), generator=generator)
    return images


def blob_data(train_images: int = 300, held_out: int = 60) -> PreparedData:
    pixels = blobs(train_images + held_out, 0)
    train, holdout = (
        Split.of(p, torch.full((len(p),), -1)) for p in (pixels[:train_images], pixels[train_images:])
    )
    return PreparedData("blobs", "v", ImageShape(3, 16, 16), (), train, holdout)


class Album(nn.Module):
    """A "generator" that shows given images in turn."""

    def __init__(self, pixels: Tensor) -> None:
        super().__init__()
        self.images, self.shown = to_float(pixels), 0

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        rows = (torch.arange(len(z)) + self.shown) % len(self.images)
        self.shown += len(z)
        return self.images[rows]


def validate(data: PreparedData, settings: Settings, pixels: Tensor) -> Validated:
    return Validator(data, settings, Compute(CPU, "fp32")).validate(Album(pixels), (), 64)


def test_unseen_real_images_have_no_energy_no_repeats_and_no_copies(validating: Settings) -> None:
    found = validate(blob_data(), validating, blobs(SAMPLES, 7)).validation
    assert found.energy is not None
    assert abs(found.energy) < 0.1
    assert found.near_duplicates < 0.15
    assert found.copied is not None
    assert found.copied < 0.2
    assert find_warnings(found) == {}


def test_copies_of_training_images_are_warned_of(validating: Settings) -> None:
    data = blob_data()
    found = validate(data, validating, data.train.pixels).validation
    assert found.copied == 1.0
    assert "100% of the samples are as near to a training image" in find_warnings(found)["copies"]
    assert "repeats" not in find_warnings(found)


def test_repeated_samples_are_warned_of(validating: Settings) -> None:
    found = validate(blob_data(), validating, blobs(20, 7)).validation
    assert found.near_duplicates == 1.0
    assert "100% of the samples nearly repeat another one" in find_warnings(found)["repeats"]
    assert "copies" not in find_warnings(found)


def test_samples_that_repeat_a_training_set_of_a_few_images_are_seen_without_held_out_images(
    validating: Settings,
) -> None:
    data = blob_data(train_images=20, held_out=2)
    found = validate(data, validating, data.train.pixels[:3])
    assert found.validation.energy is None
    assert found.validation.copied is None
    assert found.validation.near_duplicates == 1.0
    assert set(found.validation.scalars()) == {"validation_near_duplicates"}
    assert "energy" not in found.validation.sentence()


def test_the_better_of_two_is_better_only_if_the_difference_is_clear(validating: Settings) -> None:
    data = blob_data()
    validator = Validator(data, validating, Compute(CPU, "fp32"))
    gray = torch.full((SAMPLES, 16, 16, 3), 128, dtype=torch.uint8)
    real, other, bad = (
        validator.validate(Album(p), (), 8) for p in (blobs(SAMPLES, 7), blobs(SAMPLES, 8), gray)
    )
    assert validator.is_better(real, bad)
    assert not validator.is_better(bad, real)
    assert not validator.is_better(real, real)
    assert not (validator.is_better(real, other) and validator.is_better(other, real))


def test_the_best_checkpoint_is_kept_and_its_figures_are_in_curve_and_summary(
    validating: Settings, tmp_path: Path
) -> None:
    points: list[Point] = []
    result = train(noise_data(), validating, tmp_path, Callbacks(points=points.extend))
    names = {"validation_energy", "validation_near_duplicates", "validation_copied"}
    assert [p.nimg for p in points if names <= p.values.keys()] == [16, 32, 48, 64]
    best = load_checkpoint(best_folder(tmp_path / "checkpoints"), CPU)
    assert best is not None
    curve = {p.nimg: p.values["validation_energy"] for p in points}
    assert best["best"]["validation"]["nimg"] == best["nimg"]
    assert best["best"]["validation"]["energy"] == curve[best["nimg"]]
    of_model = result.summary.validation
    assert of_model is not None
    assert of_model.energy == curve[of_model.nimg]


def ruin(monkeypatch: pytest.MonkeyPatch, since: int) -> None:
    """Validations show images like the held-out ones until `since` images, and gray ones from then on."""

    def generate(G: nn.Module, z_dim: int, counts: object, count: int, *rest: object) -> Tensor:
        return (
            blobs(count, 7)
            if seen["nimg"] < since
            else torch.full((count, 16, 16, 3), 128, dtype=torch.uint8)
        )

    seen = {"nimg": 0}
    real_validate = Validator.validate

    def validate(self: Validator, ema: nn.Module, counts: tuple[int, ...], nimg: int) -> Validated:
        seen["nimg"] = nimg
        return real_validate(self, ema, counts, nimg)

    monkeypatch.setattr(validation, "generate_pixels", generate)
    monkeypatch.setattr(Validator, "validate", validate)


def test_a_training_that_gets_worse_ends_with_its_best_average(
    validating: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruin(monkeypatch, since=48)
    result = train(blob_data(), validating, tmp_path)
    assert result.summary.nimg == 64
    assert result.summary.validation is not None
    assert result.summary.validation.nimg == 16  # that at 32 is the same, so it is not better
    assert any("The model is the average at 16 images: it is nearer" in note for note in result.summary.notes)
    best = load_checkpoint(best_folder(tmp_path / "checkpoints"), CPU)
    assert best is not None
    assert all(torch.equal(w, best["G_ema"][name]) for name, w in result.model.state_dict().items())


def test_a_rollback_keeps_the_best_average(
    validating: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was kept after the checkpoint that is gone back to, and the repeated steps are worse."""
    from ganpipe.training.gan import GanAlgorithm

    ruin(monkeypatch, since=33)
    calls = []

    def diverged(self: GanAlgorithm, means: object, nimg: int) -> Divergence | None:
        calls.append(nimg)
        return Divergence("made up") if calls.count(48) == 1 and nimg == 48 else None

    monkeypatch.setattr(GanAlgorithm, "diverged", diverged)
    options = with_(validating, training__save_every_images=64)
    result = train(blob_data(), options, tmp_path)
    assert "Rolled back to 0 images" in result.summary.notes[0]
    assert result.summary.validation is not None
    best = load_checkpoint(best_folder(tmp_path / "checkpoints"), CPU)
    assert best is not None
    assert best["nimg"] == result.summary.validation.nimg == 16


def test_a_warning_is_said_once_and_is_a_note(
    validating: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ruin(monkeypatch, since=32)
    monkeypatch.setattr(divergence, "EARLY_STEPS", 2)
    with caplog.at_level(logging.WARNING):
        result = train(blob_data(), validating, tmp_path)
    said = [note for note in result.summary.notes if "nearly repeat another one" in note]
    assert len(said) == 1
    assert said[0].startswith("At 32 images 100%")
    assert caplog.text.count("nearly repeat another one") == 1


def test_samples_may_be_alike_in_a_training_that_has_only_begun(
    validating: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruin(monkeypatch, since=0)
    assert train(blob_data(), validating, tmp_path).summary.notes == ()


def test_a_generator_that_learns_its_20_training_images_is_said_to_copy_them(
    validating: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The G of the demo copies 20 images after 3,000; here it is replaced by one that did."""
    monkeypatch.setattr(divergence, "EARLY_STEPS", 2)
    data = blob_data()
    few = replace(data, train=Split.of(data.train.pixels[:20], torch.full((20,), -1)))
    copies = few.train.pixels.repeat(13, 1, 1, 1)
    monkeypatch.setattr(validation, "generate_pixels", lambda G, z_dim, counts, count, *rest: copies[:count])
    notes = train(few, validating, tmp_path).summary.notes
    assert any("At 32 images 100% of the samples are as near to a training image" in note for note in notes)


def test_validation_changes_no_weight(settings: Settings, validating: Settings, tmp_path: Path) -> None:
    with_validation = train(noise_data(), validating, tmp_path / "a").summary
    without = train(noise_data(), settings, tmp_path / "b").summary
    assert with_validation.weights_sha256 == without.weights_sha256
    assert without.validation is None


def test_the_sentence_names_the_average_and_what_real_images_score() -> None:
    sentence = Validation(4_096, 128, 0.081, 0.0312, 0.06).sentence()
    assert sentence == (
        "Validation of the model, the average at 4,096 images: energy 0.031, near-duplicates 8% (real images: 5%), "
        "copied 6% (held-out images: 5%)."
    )
